"""What tensors, parameters and modules say of themselves, as text and as HTML."""

import base64
import doctest
import html.parser
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, notebook, spelling
from minigrad.errors import CaptureError


def rng(seed=0):
    return np.random.default_rng(seed)


class Balance(html.parser.HTMLParser):
    """Raises unless every element that is opened is closed in order; collects the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        assert tag != "script"
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def text_of(thing):
    page = thing._repr_html_()
    assert len(page) < 12_000
    return " ".join(Balance(page).text.split())


EVERY = {
    "empty": np.zeros((0, 3), "f"), "none": np.zeros((2, 0), "f"), "number": np.float32(1.5),
    "nan": np.array([[np.nan, np.inf], [-np.inf, 1.0]], "f"), "all nan": np.full(5000, np.nan),
    "int": np.arange(6).reshape(2, 3), "bytes": np.arange(200, dtype=np.uint8),
    "bool": np.array([[True], [False]]), "many bools": np.ones((50, 50), bool),
    "half": np.linspace(-1, 1, 9, dtype=np.float16), "tiny": np.full(3, 1e-45, "f"),
    "large": np.full((200, 200), 1e308), "min int": np.full((30, 30), np.iinfo(np.int64).min),
    "huge": np.broadcast_to(np.float32(2), (10**6, 10**6)),
    "huge 4-d": np.broadcast_to(np.float32(2), (1000, 1000, 1000, 1000)),
    "long": np.arange(10**5), "row": np.ones((1, 3000), "f"), "deep": np.ones((1,) * 12, "f"),
    "12-d": np.ones((2,) * 12, "f"), "image": rng().standard_normal((2, 8, 8, 3)),
    "matrix": rng().standard_normal((300, 7)), "zeros": np.zeros((40, 40)),
    "frozen": np.broadcast_to(np.arange(3.0), (40, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_array_can_be_shown(name):
    tensor = mg.Tensor(EVERY[name])
    with np.errstate(all="raise"):
        text, page = repr(tensor), text_of(tensor)
    assert len(text) < 1500 and text.startswith("tensor(")
    shape = spelling.spell_shape(tensor.shape)
    assert shape in page and str(tensor.dtype) in page
    assert "nan" not in page.lower() or name in ("nan", "all nan")


def test_large_tensors_are_short_and_say_their_shape():
    image = mg.Tensor(rng().standard_normal((10, 10, 10, 10)))
    assert re.fullmatch(
        r"tensor\(min -\d\.\d+, mean -?0\.\d+, max \d\.\d+, shape=\(10, 10, 10, 10\), "
        r"dtype=float64\)", repr(image),
    )  # fmt: skip
    deep = repr(mg.zeros(20, 20, 20))
    assert len(deep) < 200 and "shape=(20, 20, 20)" in deep
    assert repr(mg.zeros(3)) == "tensor([0., 0., 0.])"
    assert repr(mg.tensor(0.123456789)) == "tensor(0.1235)"
    with np.printoptions(precision=6):
        assert repr(mg.tensor(0.123456789)) == "tensor(0.123457)"


def test_the_gradient_is_told():
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    assert "gradient: None yet" in text_of(x)
    y = x * 1.0
    assert "retain_grad() would keep it" in text_of(y)
    assert "made by multiply at test_reprs.py:" in text_of(y)
    y.retain_grad()
    (y * y).sum().backward()
    assert repr(x) == "tensor([3., 4.], requires_grad=True, grad_norm=10)"
    assert repr(y) == "tensor([3., 4.], by=multiply, grad_norm=10)"
    assert "gradient of norm 10" in text_of(x) and "gradient of norm 10" in text_of(y)
    assert "no gradient wanted" in text_of(mg.tensor([1])) and "a leaf" in text_of(mg.tensor([1]))


def test_parameters_and_buffers():
    layer = nn.Linear(3, 2, generator=rng())
    assert repr(layer.weight) == "Parameter(unnamed, shape=(3, 2), dtype=float32)"
    net = nn.Sequential(layer, nn.BatchNorm(2))
    list(net.named_parameters())
    layer(mg.ones(1, 3)).sum().backward()
    assert repr(layer.bias) == "Parameter(0.bias, shape=(2,), dtype=float32, grad_norm=1.41)"
    layer.bias.requires_grad_(False)
    assert "requires_grad=False" in repr(layer.bias)
    assert "Parameter 0.weight" in text_of(layer.weight)
    assert repr(net[1].running_var) == "Buffer([1., 1.])"
    assert text_of(net[1].running_var).startswith("Buffer")


def test_names_from_outside_are_escaped():
    def odd(x):
        return x * 1.0, lambda g: g

    odd.__name__ = "<script>alert(1)</script>"
    x = mg.tensor([1.0], requires_grad=True)
    assert odd.__name__ in text_of(mg.apply(odd, x))  # Balance refuses a script
    parameter = nn.Parameter(np.ones(2, "f"))
    parameter.name = '<img src="x" onerror="y">'
    assert parameter.name in text_of(parameter)
    layer = nn.Linear(3, 2, generator=rng())
    layer.extra_repr = lambda: "<script>"
    setattr(layer, "<i>&", nn.ReLU())
    assert "<script>" in text_of(layer) and "<i>&" in text_of(layer)


def test_axes_are_named_where_the_op_tells():
    images = mg.conv2d(mg.ones(2, 6, 6, 1), mg.tensor(np.ones((3, 3, 1, 4), "f"), True))
    assert "(N=2, H=4, W=4, C=4)" in text_of(mg.relu(images) * 2.0)
    assert "(N=2, H=2, W=2, C=4)" in text_of(mg.max_pool2d(images, size=2))
    outputs, (h, _) = nn.LSTM(3, 5, generator=rng())(mg.ones(2, 7, 3))
    assert "(N=2, T=7, H=5)" in text_of(outputs) and "(N=2, H=5)" in text_of(h)
    assert "(T=7, H=5, N=2)" in text_of(outputs.transpose((1, 2, 0)))
    assert "(7, 2, 5)" in text_of(outputs.reshape(7, 2, 5))  # nobody knows
    lstm = nn.LSTM(3, 5, generator=rng())
    list(lstm.named_parameters())
    assert "(D=3, gates=20)" in text_of(lstm.w_x)
    loss = (outputs * outputs).sum()
    loss.backward()
    assert "(2, 7, 5)" in text_of(outputs)  # freed: the way to the op is gone


def test_showing_is_not_recorded_and_changes_nothing():
    net = nn.Sequential(nn.Linear(3, 2, generator=rng()), nn.Dropout(0.5, generator=rng()))
    outer = nn.ModuleList([net])
    list(outer.named_parameters())
    seen = []

    def function(x):
        y = net[0](x) * 2.0
        seen.append((repr(y), y._repr_html_(), repr(net), net._repr_html_()))
        return y.sum()

    captured = mg.capture(function)
    x = mg.tensor(np.ones((4, 3), "f"), requires_grad=True)
    values = [captured(x).item() for _ in range(4)]
    assert len(set(values)) == 1 and len(seen) >= 2 and captured.programs
    with mg.no_grad():
        assert "made by" not in text_of(net[0](x)) and "Linear" in text_of(net)
    assert net[0].weight.name == "0.0.weight" and x.grad is None
    with pytest.raises(CaptureError):
        mg.capture(lambda x: x.numpy())(x)


def test_a_pending_graph_is_not_touched():
    x = mg.tensor(rng().standard_normal((20, 20)), requires_grad=True)
    y = mg.exp(x)
    for tensor in (x, y):
        repr(tensor), tensor._repr_html_()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, y.array)


# -- pictures of matrices ---------------------------------------------------------------------


def read_png(page):
    """Levels of the heat map in a page, (R, C)."""
    code = re.search(r"base64,([^\"]+)", page)[1]
    content = base64.b64decode(code)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        check = int.from_bytes(content[at + 8 + size : at + 12 + size], "big")
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += size + 12
    width, height = (int.from_bytes(chunks[b"IHDR"][i : i + 4], "big") for i in (0, 4))
    assert len(chunks[b"PLTE"]) == 3 * 256 and len(chunks[b"tRNS"]) == 256
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:].astype(int)


def test_the_heat_map_shows_sign_size_and_nan():
    matrix = np.zeros((20, 30))
    matrix[3, 4], matrix[5, 6], matrix[7, 8], matrix[9, 10] = 2.0, -1.0, np.nan, -np.inf
    levels = read_png(mg.Tensor(matrix)._repr_html_())
    assert levels.shape == (20, 30)
    assert levels[0, 0] == 127 and levels[3, 4] == 254 and levels[5, 6] in (63, 64)
    assert levels[7, 8] == 255 and levels[9, 10] == 0
    assert "pink" in text_of(mg.Tensor(matrix)) and "1 nan, 1 inf" in text_of(mg.Tensor(matrix))
    assert read_png(mg.zeros(500, 9)._repr_html_()).shape == (32, 9)


def test_small_matrices_are_written_out_with_colours():
    page = mg.tensor([[1.0, -2.0], [0.0, 4.0]])._repr_html_()
    cells = re.findall(r"rgba\((\d+), (\d+), (\d+), ([\d.]+)\)\">([^<]+)<", page)
    assert [cell[-1] for cell in cells] == ["1", "-2", "0", "4"]
    orange, blue, none, most = cells
    assert orange[:3] == most[:3] != blue[:3] and float(none[3]) == 0
    assert float(orange[3]) < float(blue[3]) < float(most[3])


# -- modules ----------------------------------------------------------------------------------


class Custom(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter(np.ones(3, "f"))
        self.register_buffer("mean", np.zeros(3, "f"))
        self.body = nn.Sequential(nn.Linear(3, 2, generator=rng()), mg.relu, lambda x: x)
        self.same = self.body[0]


def test_a_module_as_text():
    assert repr(Custom()) == (
        "Custom(\n  scale: Parameter (3,)\n  mean: Buffer (3,)\n  body: Sequential(\n"
        "    0: Linear(3 -> 2)\n    1: relu\n    2: <lambda>\n  )\n  same: Linear(3 -> 2)\n)"
    )
    loop = Custom()
    loop.body.up = None
    loop.me = loop
    assert repr(loop).endswith("  me: ...\n)")


def test_a_module_as_html():
    net = Custom()
    page = text_of(net)
    assert "Custom \u00b7 11 parameters" in page and "mean (buffer)" in page
    assert "the same as body.0" in page and "none yet" in page
    net.me = net
    assert "the same as the whole" in text_of(net)
    net.body[0](mg.ones(1, 3)).sum().backward()
    assert "1.41" in text_of(net)  # norm of the gradient of the bias
    assert "evaluation mode" in text_of(net.eval())
    many = nn.Sequential(*(nn.Linear(2, 2, generator=rng()) for _ in range(300)))
    page = many._repr_html_()
    assert Balance(page).text.count("not shown") == 201 and len(page) < 150_000


# -- words ------------------------------------------------------------------------------------


def test_digest_of_samples_and_counts():
    assert str(spelling.digest(np.array([1.0, 2.0, np.nan, np.inf]))) == (
        "min 1, mean 1.5, max 2, 1 nan, 1 inf"
    )
    assert str(spelling.digest(np.zeros((0, 2)))) == "empty"
    assert str(spelling.digest(np.full(3, np.nan))) == "3 nan"
    huge = spelling.digest(np.broadcast_to(3, (10**5, 10**5)))
    assert huge.sampled and (huge.least, huge.mean, huge.most) == (3, 3.0, 3)
    assert not spelling.digest(np.array([np.nan, 1.0])).sampled


@pytest.mark.parametrize("module", [spelling, notebook])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_html_is_imported_when_it_is_asked_for():
    code = (
        "import sys, minigrad as mg, minigrad.nn, minigrad.watch;"
        "late = ['notebook', 'drawing', 'layout', 'svg', 'nn.summary'];"
        "assert not [name for name in late if 'minigrad.' + name in sys.modules];"
        "mg.tensor([1.0])._repr_html_(); assert 'minigrad.notebook' in sys.modules;"
        "assert callable(mg.graph) and 'graph' in mg.__all__;"
        "import minigrad.drawing; assert callable(mg.graph)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
