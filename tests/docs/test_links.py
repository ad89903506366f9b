"""Links between the pages, and the names and files that they speak of; nothing is fetched."""

import importlib
import json
import pathlib
import re

import pytest

import minigrad

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.ipynb"))]
FENCE = re.compile(r"^```.*?^```", flags=re.S | re.M)
FILE = re.compile(r"(?<![\w/.])((?:minigrad|models|tests|benchmarks)/[\w/]+\.py)")
LINK = re.compile(r"\]\(([^()\s]+)\)")
SHORT = {
    "mg": minigrad,
    **{
        name: importlib.import_module(f"minigrad.{name}")
        for name in (
            "checkpoint", "convert", "data", "errors", "kernels", "nn", "optim", "plot", "testing",
            "watch",
        )
    },
    "seq2seq": importlib.import_module("minigrad.nn.seq2seq"),
}  # fmt: skip
# every tf.* of the tutorials that the models come from, collected from their text
TENSORFLOW = """
tf.AUTO_REUSE tf.Graph tf.InteractiveSession tf.Session tf.Variable tf.__version__ tf.add tf.arg_max
tf.argmax tf.assign tf.cast tf.clip_by_global_norm tf.compat.as_str tf.concat tf.constant
tf.constant_initializer tf.contrib tf.contrib.framework.get_global_step
tf.contrib.layers.fully_connected tf.contrib.layers.optimize_loss tf.contrib.learn
tf.contrib.legacy_seq2seq.sequence_loss_by_example tf.contrib.rnn.BasicLSTMCell
tf.contrib.rnn.BasicRNNCell tf.contrib.rnn.GRUCell tf.contrib.rnn.LSTMCell
tf.contrib.rnn.LSTMStateTuple tf.contrib.rnn.LayerNormBasicLSTMCell tf.contrib.rnn.MultiRNNCell
tf.contrib.rnn.static_rnn tf.contrib.seq2seq.BasicDecoder tf.contrib.seq2seq.GreedyEmbeddingHelper
tf.contrib.seq2seq.TrainingHelper tf.contrib.seq2seq.dynamic_decode tf.control_dependencies tf.equal
tf.float32 tf.get_default_graph tf.get_variable tf.get_variable_scope
tf.global_variables_initializer tf.gradients tf.group tf.initialize_all_variables tf.int32
tf.layers.dense tf.local_variables_initializer tf.log tf.losses.mean_squared_error
tf.losses.softmax_cross_entropy tf.matmul tf.name_scope tf.nn.conv2d tf.nn.dropout tf.nn.dynamic_rnn
tf.nn.embedding_lookup tf.nn.max_pool tf.nn.relu tf.nn.rnn tf.nn.rnn_cell.BasicLSTMCell
tf.nn.rnn_cell.BasicRNNCell tf.nn.rnn_cell.DropoutWrapper tf.nn.rnn_cell.LSTMCell
tf.nn.rnn_cell.MultiRNNCell tf.nn.softmax tf.nn.softmax_cross_entropy_with_logits
tf.nn.sparse_softmax_cross_entropy_with_logits tf.nn.static_rnn tf.nn.tanh tf.nn.xw_plus_b tf.no_op
tf.one_hot tf.ones tf.placeholder tf.random_normal tf.random_normal_initializer tf.random_uniform
tf.random_uniform_initializer tf.reduce_max tf.reduce_mean tf.reduce_sum tf.reset_default_graph
tf.reshape tf.sequence_mask tf.set_random_seed tf.sigmoid tf.square tf.summary.FileWriter
tf.summary.histogram tf.summary.merge_all tf.summary.scalar tf.tanh tf.tile
tf.train.AdagradOptimizer tf.train.AdamOptimizer tf.train.Coordinator
tf.train.GradientDescentOptimizer tf.train.Saver tf.train.exponential_decay
tf.train.start_queue_runners tf.trainable_variables tf.transpose tf.truncated_normal tf.unpack
tf.unstack tf.variable_scope tf.while_loop tf.zeros
""".split()


def text_of(page):
    """The prose of a page: Markdown without its blocks, or the text cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return FENCE.sub("", text)


def anchors(page):
    """What a link may point to on a page: its headings, and names whose docstrings are shown."""
    text = text_of(page)
    found = re.findall(r"^::: ([\w.]+)", text, flags=re.M)
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.M):
        plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        found.append(re.sub(r"[-\s]+", "-", plain))
    return set(found)


def broken(page):
    """The links of a page that lead nowhere."""
    wrong = []
    for target in LINK.findall(text_of(page)):
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.parent == DOCS / "pictures":  # the site has the models' pictures there
            file = ROOT / "models" / "pictures" / file.name
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading, with `code`\n")
    page = tmp_path / "page.md"
    targets = ["other.md#a-heading-with-code", "none.md", "other.md#nope", "#nope"]
    page.write_text(" ".join(f"[text]({target})" for target in targets))
    assert broken(page) == targets[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_in_the_text_exist(page):
    """``nn.LSTM`` in running text or a table is a name of the package, ``models/x.py`` a file."""
    for code in re.findall(r"`([^`\n]+)`", text_of(page)):
        for start, rest in re.findall(r"(?<![\w./])([a-z]\w*)((?:\.[a-zA-Z_]\w*)+)(?!\w*/)", code):
            if code.lstrip().startswith(("torch", "tf.", "keras", "F.")) or start not in SHORT:
                continue
            if re.fullmatch(r"\.(py|md|ipynb|utils|lr_scheduler)(\.\w+)*", rest):
                continue  # a file, or PyTorch's
            if page.name == "pytorch.md":
                continue  # two libraries side by side: see the test below
            found = SHORT[start]
            for name in rest[1:].split("."):
                assert hasattr(found, name), f"{page.name}: {start}{rest}"
                found = getattr(found, name)
        for path in FILE.findall(code):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", ["tensorflow.md", "pytorch.md"])
def test_names_in_the_last_column_exist(page):
    text = (DOCS / "guide" / page).read_text(encoding="utf-8")
    cells = [row.rstrip(" |").split(" | ")[-1] for row in text.splitlines() if row.startswith("| ")]
    names = {n for cell in cells for n in re.findall(r"(?<![\w.])([a-z0-9]+\.\w+)\(?", cell)}
    mine = {name for name in names if name.split(".")[0] in SHORT}
    assert len(mine) > 30
    for name in mine:
        start, rest = name.split(".")
        assert hasattr(SHORT[start], rest), f"{page}: {name}"


def test_every_call_of_the_tutorials_is_in_the_table():
    text = (DOCS / "guide" / "tensorflow.md").read_text(encoding="utf-8")
    named = set(re.findall(r"tf\.[\w.]*\w", text))
    assert not [name for name in TENSORFLOW if name not in named]


def test_every_public_name_has_its_place_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: minigrad\.([\w.]+)$", text, flags=re.M))
    parts = {"errors", "functional", "init", "kernels", "seq2seq"}  # have a page, or a section
    missing = []
    for short, module in SHORT.items():
        if short in ("errors", "kernels"):
            continue  # all on one page; only what is not called from an op
        start = {"mg": "", "seq2seq": "nn.seq2seq."}.get(short, f"{short}.")
        public = getattr(module, "__all__", ("gradcheck", "gradgradcheck", "check_twin"))
        names = [start + name for name in public if name not in parts]
        ends = {name.split(".")[-1] for name in shown} if short == "mg" else set()
        missing += [
            n for n in names if n not in shown | ends and f"{n}.{n.split('.')[-1]}" not in shown
        ]
    assert not missing


def test_the_tour_comes_past_every_file():
    text = "\n".join(text_of(page) for page in (DOCS / "tour").glob("*.md"))
    for path in sorted((ROOT / "minigrad").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        folder = name.rsplit("/", 1)[0] + "/"
        if path.name == "__init__.py" or folder in ("minigrad/data/", "minigrad/checkpoint/"):
            continue  # to skim
        whole = folder in ("minigrad/convert/", "minigrad/ops/")  # like their neighbours
        assert name in text or (whole and folder in text), f"the tour leaves out {name}"
