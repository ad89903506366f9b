"""--tensorboard: what TensorBoard's own reader finds in the files."""

import io
import re
import sys
import time

import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util import tensor_util

import minigrad as mg
from minigrad import Tensor, nn, optim, plot, watch
from models import _board
from models._run import start

WORDS = ["this", "that", "and", "the", "other"]


class Model(nn.Module):
    def __init__(self, generator):
        self.embedding = nn.Embedding(5, 3, generator=generator)
        self.cell = nn.RNNCell(3, 4, generator=generator)
        self.dense = nn.Linear(4, 5, generator=generator)

    def forward(self, ids):
        h = self.cell.zero_state(len(ids))
        for t in range(ids.shape[1]):
            h = self.cell(self.embedding(ids[:, t]), h)[1]
        return self.dense(h)


def train(tmp_path, *arguments, names=("",), steps=40, stop=None):
    """A run that shows everything there is, one part for each name."""
    argv = ["--out", str(tmp_path / "out"), "--tensorboard", str(tmp_path / "tb"), *arguments]
    with start("fake", "", [*argv, "--steps", str(steps)], steps=1, smoke_steps=1) as run:
        for name in names:
            model = Model(run.generator("weights"))
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            run.keep(name=name, model=model, optimizer=optimizer)
            for step in run.steps():
                if step == stop:
                    raise KeyboardInterrupt
                ids = np.array([[0, 1, 2], [2, 3, 4]])
                loss = mg.cross_entropy(model(ids), ids[:, 0])
                optimizer.zero_grad()
                loss.backward()
                clipped = optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                run.note(loss=loss.item(), clipped=clipped, kind="text is for the bar")
                if step % 10 == 0:
                    run.test(loss=2 * loss.item())
                    run.say(f"first line\n  <b>{step}</b>", sample="samples")
        run.finish(
            "loss", loss.item(), {"curve": plot.loss_curve([0, 1], [2.0, 1.0])},
            {"words": (model.embedding.weight.array, WORDS)},
        )  # fmt: skip
    return model


def read(folder):
    """Everything in the files of one run."""
    found = EventAccumulator(str(folder), dict.fromkeys(("scalars", "histograms", "tensors"), 0))
    found.Reload()
    return found


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(folder), folder / "tb"


def test_train_and_test_are_two_runs_of_one_chart(board):
    _, folder = board
    train_, test = read(folder / "train"), read(folder / "test")
    assert train_.Tags()["scalars"] == ["loss", "norm", "clipped"]
    assert test.Tags()["scalars"] == ["loss"]
    ours, theirs = train_.Scalars("loss"), test.Scalars("loss")
    assert [point.step for point in ours] == list(range(40))
    assert [point.step for point in theirs] == [0, 10, 20, 30]
    for point in theirs:
        assert point.value == pytest.approx(2 * ours[point.step].value, rel=1e-6)
    assert all(0 <= point.value <= 1 for point in train_.Scalars("clipped"))
    assert all(point.value > 0 for point in train_.Scalars("norm"))


def test_histograms_of_weights_and_gradients(board):
    model, folder = board
    found = read(folder / "train")
    names = [f"model.{name}" for name, _ in model.named_parameters()]
    wanted = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    assert set(found.Tags()["histograms"]) == wanted
    for name, parameter in model.named_parameters():
        last = found.Histograms(f"weights/model.{name}")[-1]
        assert last.step == 40  # behind the last step
        value = last.histogram_value
        array = parameter.array.astype(np.float64)
        assert value.num == array.size and value.sum == pytest.approx(array.sum(), abs=1e-5)
        assert value.min == pytest.approx(array.min()) and value.max == pytest.approx(array.max())
        slopes = found.Histograms(f"gradients/model.{name}")[-1].histogram_value
        assert slopes.sum_squares == pytest.approx(np.square(parameter.grad.array).sum(), rel=1e-4)


def test_samples_of_text(board):
    found = read(board[1] / "train")
    assert found.Tags()["tensors"] == ["samples/text_summary"]
    texts = found.Tensors("samples/text_summary")
    assert [each.step for each in texts] == [0, 10, 20, 30]
    said = tensor_util.make_ndarray(texts[-1].tensor_proto).ravel()[0].decode()
    assert said == "    first line\n      <b>30</b>\n"  # indented: Markdown leaves it alone


def test_the_figures_are_images(board):
    found = read(board[1] / "report")
    assert found.Tags()["images"] == ["curve"]
    (image,) = found.Images("curve")
    assert image.encoded_image_string.startswith(b"\x89PNG") and image.width > 500
    pixels = imread(io.BytesIO(image.encoded_image_string))
    assert pixels.shape[:2] == (image.height, image.width) and 0.5 < pixels.mean() < 1


def test_the_graph_has_every_op_and_parameter(board):
    model, folder = board
    graph = GraphDef.FromString(read(folder / "train").Graph().SerializeToString())
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    for name, _ in model.named_parameters():
        assert nodes[name.replace(".", "/")].op == "Parameter"
    for node in graph.node:
        assert set(node.input) <= set(nodes)
    assert sum(node.op == "embedding" for node in graph.node) == 3
    ends = [name for name in nodes if not any(name in node.input for node in graph.node)]
    assert [nodes[name].op for name in ends] == ["softmax_cross_entropy"]
    assert {"cell/step0", "cell/step1", "cell/step2"} <= {
        name.rpartition("/")[0] for name in nodes
    }  # a layer is a box, a time step a box in it
    used = {name for node in graph.node for name in node.input}
    assert {"cell/w_h", "embedding/weight", "dense/bias"} <= used
    (dense,) = [node for node in graph.node if node.op == "linear"]
    assert [d.size for d in dense.attr["_output_shapes"].list.shape[0].dim] == [2, 5]


def test_the_projector_finds_points_and_labels(board):
    model, folder = board
    assert "projector_config.pbtxt" in {path.name for path in (folder / "report").iterdir()}
    config = (folder / "report" / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 1 and "00000/words/tensors.tsv" in config
    points = np.loadtxt(folder / "report" / "00000" / "words" / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(points, model.embedding.weight.array, rtol=1e-6)
    labels = (folder / "report" / "00000" / "words" / "metadata.tsv").read_text()
    assert labels.split() == WORDS


def test_parts_have_folders_of_their_own(tmp_path):
    train(tmp_path, names=("as written", "corrected"), steps=5)
    runs = {path.parent.relative_to(tmp_path / "tb").as_posix()
            for path in (tmp_path / "tb").rglob("events.*")}  # fmt: skip
    assert runs == {f"{name}/{run}" for name in ("as written", "corrected")
                    for run in ("train", "test")} | {"report"}  # fmt: skip
    for name in ("as written", "corrected"):
        assert read(tmp_path / "tb" / name / "train").Tags()["graph"] is True


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)  # both runs begin within one second
    with pytest.raises(SystemExit):
        train(tmp_path, "--save-every", "6", steps=20, stop=16)
    train(tmp_path, "--save-every", "6", "--resume", steps=20)
    found = read(tmp_path / "tb" / "train").Scalars("loss")
    assert [point.step for point in found] == list(range(20))  # what was done twice is there once


def test_a_second_run_hides_the_first(tmp_path, capsys):
    train(tmp_path, steps=20)
    train(tmp_path, steps=8)
    found = read(tmp_path / "tb" / "train")
    assert [point.step for point in found.Scalars("loss")] == list(range(8))
    config = (tmp_path / "tb" / "report" / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 1 and "warning" not in capsys.readouterr().out


def test_long_curves_are_thinned(tmp_path):
    board = _board.Board(tmp_path)
    board.begin("", {}, 0)
    for step in range(5000):
        board.due(step, 5000)
        board.scalars("train", {"loss": 1.0})
    board.close()
    found = read(tmp_path / "train").Scalars("loss")
    assert [point.step for point in found] == [*range(0, 5000, 5)]


def test_nothing_that_is_not_finite_goes_into_a_histogram(tmp_path):
    model = nn.Linear(2, 2, generator=np.random.default_rng(0))
    model.weight.data = np.array([[np.nan, 1.0], [np.inf, 2.0]])
    model.bias.data = np.full(2, np.nan)
    board = _board.Board(tmp_path)
    board.begin("", {"model": model}, 0)
    board.between(1)
    board.scalars("train", {"loss": np.nan})
    board.close()
    found = read(tmp_path / "train")
    assert found.Tags()["histograms"] == ["weights/model.weight"]
    assert found.Histograms("weights/model.weight")[0].histogram_value.num == 2
    assert np.isnan(found.Scalars("loss")[0].value)


def test_the_wait_for_a_loss_leaves_nothing_behind(tmp_path):
    before = Tensor.backward
    board = _board.Board(tmp_path)
    board.begin("", {}, 0)
    board.begin("again", {}, 0)
    assert Tensor.backward is not before
    board.close()
    assert Tensor.backward is before
    x = mg.tensor([1.0], requires_grad=True)
    board.begin("", {}, 0)
    mg.square(x).sum().backward()
    assert Tensor.backward is before and x.grad.item() == 2
    board.close()


def test_names_of_nodes_are_those_that_tensorboard_takes():
    model = nn.Linear(2, 2, generator=np.random.default_rng(0))
    model.__dict__["_odd name!"] = model.__dict__.pop("weight")
    model.weight = model.__dict__["_odd name!"]
    list(model.named_parameters())
    graph = _board.graph_of(watch.trace(model(np.ones((1, 2), np.float32)).sum()))
    for node in graph.node:
        assert re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\-/]*", node.name)
    assert "odd_name_" in {node.name for node in graph.node}


def test_without_tensorboardx_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    from models import _arguments

    monkeypatch.setattr(_arguments, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        start("fake", "", ["--out", str(tmp_path), "--tensorboard", "x"], steps=1, smoke_steps=1)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and "minigrad[train]" in said


def test_without_the_option_tensorboardx_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorboardX", raising=False)
    with start("fake", "", ["--out", str(tmp_path)], steps=2, smoke_steps=1) as run:
        run.keep()
        for _ in run.steps():
            run.note(loss=1.0)
            run.test(loss=1.0)
        run.finish("loss", 1.0)
    assert "tensorboardX" not in sys.modules
