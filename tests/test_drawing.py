"""mg.graph: what is drawn, the gradients beside it, and boxes that do not overlap."""

import doctest
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import minigrad as mg
from minigrad import drawing, layout, nn, optim, watch
from minigrad.errors import ArgumentError, CaptureError, DTypeError, GraphError

SVG = "{http://www.w3.org/2000/svg}"


def rng(seed=0):
    return np.random.default_rng(seed)


class Net(nn.Module):
    """A cell unrolled over time, and a head."""

    def __init__(self, kind=nn.RNNCell):
        self.cell = kind(3, 5, generator=rng(1))
        self.head = nn.Linear(5, 2, generator=rng(2))

    def forward(self, x):
        return self.head(nn.unroll(self.cell, x)[0][:, -1])


def loss_of(net, steps=3):
    x = rng(3).standard_normal((2, steps, 3)).astype("f")
    return mg.cross_entropy(net(x), np.array([0, 1]))


def by_name(picture, name):
    (box,) = [box for box in picture.boxes if box.name == name]
    return box


# -- what is drawn ----------------------------------------------------------------------------


def test_ops_leaves_shapes_and_numbers():
    x = mg.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    data = np.ones((3, 2), np.float32)
    picture = mg.graph(((x * 2.5) @ data).sum())
    assert [(box.kind, box.name, box.shape) for box in picture.boxes] == [
        ("parameter", "tensor", "(1, 3)"), ("op", "multiply 2.5", "(1, 3)"),
        ("input", "data", "(3, 2)"), ("op", "matmul", "(1, 2)"), ("op", "sum", "number"),
    ]  # fmt: skip
    assert [box.inputs for box in picture.boxes] == [[], [0], [], [1, 2], [3]]
    assert picture.boxes[1].site.startswith("test_drawing.py:")
    assert picture.title == "3 ops, 1 parameter, 1 input" and len(picture) == 5
    assert repr(picture).startswith("<Graph of 3 ops, 1 parameter, 1 input;")


def test_parameters_have_the_names_of_the_module_and_one_box_each():
    net = Net()
    picture = mg.graph(loss_of(net), module=net)
    names = [box.name for box in picture.boxes if box.kind == "parameter"]
    assert sorted(names) == sorted(name for name, _ in net.named_parameters())
    shared = picture.boxes.index(by_name(picture, "cell.w_h"))
    assert sum(shared in box.inputs for box in picture.boxes) == 3  # once for each time step
    assert sum("\u2192 h" in box.name for box in picture.boxes) == 2


def test_norms_are_those_of_backward():
    net = Net(nn.LSTMCell)
    loss = loss_of(net)
    picture = mg.graph(loss, net)
    traced = watch.trace(loss, net)
    loss.backward()
    for name, parameter in net.named_parameters():
        norm = float(np.linalg.norm(parameter.grad.array))
        assert by_name(picture, name).gradient == pytest.approx(norm, rel=1e-6)
    found = [box.gradient for box in picture.boxes if box.kind == "op"]
    assert found == pytest.approx([call.gradient for call in traced.calls])
    assert "head.bias" in picture.note or "cell.w_h" in picture.note


def test_drawing_changes_nothing():
    net = Net()
    loss = loss_of(net)
    heard, inner = [], loss * 1.0
    inner.retain_grad()
    loss.register_hook(lambda g: heard.append(g))
    net.head.weight.register_hook(lambda g: heard.append(g))
    with mg.detect_anomaly() as anomaly:
        mg.graph(inner, net)
        assert anomaly.backward_passes == 0
    with mg.no_grad():
        mg.graph(inner, net)
    assert not heard and inner.grad is None and net.head.weight.grad is None
    inner.backward()  # the graph is still there, and so are the hooks
    assert len(heard) == 2 and inner.grad.item() == 1
    plain = Net()
    (loss_of(plain) * 1.0).backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad.array, q.grad.array)


def test_hooks_come_back_after_a_walk_that_failed():
    x = mg.tensor([1.0], requires_grad=True)
    y = x * 1.0
    y.register_hook(lambda g: g * 2)
    loss = (y * y).sum()
    with mg.no_grad():
        y += 1.0
    assert "changed it in place" in mg.graph(loss).note
    assert len(y.node.hooks[0]) == 1


def test_after_a_backward_pass_that_kept_the_graph():
    net = Net()
    loss = loss_of(net)
    fresh = mg.graph(loss, net)
    loss.backward(retain_graph=True)
    again = mg.graph(loss, net)
    assert [box.lines for box in again.boxes] == [box.lines for box in fresh.boxes]
    optim.SGD(net.parameters(), lr=0.1).step()  # now it cannot be walked: .grad is shown
    stale = mg.graph(loss, net)
    assert stale.note.startswith("no gradients: ")
    expected = by_name(fresh, "head.weight").gradient
    assert by_name(stale, "head.weight").gradient == pytest.approx(expected)
    assert all(box.gradient is None for box in stale.boxes if box.kind == "op")


def test_where_there_is_no_single_gradient():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    assert "not one number" in mg.graph(y).note
    picture = mg.graph([y.sum(), y.mean()])
    assert "several outputs" in picture.note and len(picture) == 4
    assert "not asked for" in mg.graph(y.sum(), gradients=False).note
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    kept = mg.graph((y * y).sum(), gradients=False)
    assert [box.gradient for box in kept.boxes] == [None, None, None, None]
    kept = mg.graph([y.sum(), y.mean()])  # .grad of retain_grad() and of the leaf
    assert [box.gradient for box in kept.boxes][:2] == pytest.approx([8**0.5, 2**0.5])


def test_recorders_do_not_hear_of_it():
    lstm = nn.LSTM(3, 5, generator=rng())
    with watch.GradientFlow.attach(lstm) as flows:
        picture = mg.graph(lstm(mg.ones(2, 4, 3))[0].sum(), lstm)
    assert "a recorder is attached" in picture.note and len(flows["LSTM"]) == 0


def test_a_captured_function_is_one_box():
    net = nn.Linear(3, 2, generator=rng())
    step = mg.capture(lambda x: mg.tanh(net(x)).sum())
    x = mg.ones(4, 3)
    losses = [step(x) for _ in range(4)]
    picture = mg.graph(losses[-1], net)
    assert by_name(picture, "weight").gradient > 0 and len(picture) == 4
    losses[-1].backward()


def test_not_finite_and_zero_gradients_can_be_drawn():
    x = mg.tensor([0.0, 1.0], requires_grad=True)
    picture = mg.graph((mg.sqrt(x) * 1.0).sum())
    assert "not finite" in picture.note and "inf" in picture._repr_svg_()
    assert "|g| 0" in mg.graph((x * 0.0).sum())._repr_svg_()


def test_depth_leaves_out_what_is_far():
    net = Net()
    picture = mg.graph(loss_of(net), net, depth=2)
    assert [box.name for box in picture.boxes if box.kind == "op"] == [
        "linear", "softmax_cross_entropy"
    ]  # fmt: skip
    assert sum(box.kind == "cut" for box in picture.boxes) == 1
    assert "left out" in picture.title and "more ops" in picture._repr_svg_()


def test_too_large_a_graph_is_refused_with_a_remedy_that_works():
    y = x = mg.tensor([1.0], requires_grad=True)
    for _ in range(300):
        y = y * x
    with pytest.raises(ArgumentError, match=r"301 boxes .*at most 200.*depth=10"):
        mg.graph(y)
    assert len(mg.graph(y, depth=10)) == 12


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mg.graph(3), DTypeError, "expects a tensor"),
        (lambda: mg.graph([]), GraphError, "no graph behind"),
        (lambda: mg.graph(mg.ones(2)), GraphError, "no graph behind"),
        (lambda: mg.graph(Net().head.weight.sum(), module=3), DTypeError, "must be an nn.Module"),
        (lambda: mg.graph(Net().head.weight.sum(), depth=0), ArgumentError, "depth must be"),
        (lambda: mg.graph(Net().head.weight.sum(), depth=1.5), ArgumentError, "depth must be"),
        (lambda: mg.graph(Net().head.weight.sum()).save("x.png"), ArgumentError, "end in .svg"),
        (lambda: mg.graph(Net().head.weight.sum()).save(3), DTypeError, "path must be"),
    ],
)
def test_bad_calls(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_walked_graph_and_a_capture_are_refused():
    x = mg.tensor([1.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(GraphError, match="walked already.*retain_graph=True"):
        mg.graph(loss)

    def function(x):
        y = (x * x).sum()
        mg.graph(y)
        return y

    with pytest.raises(CaptureError, match="draws its graph"):
        mg.capture(function)(x)


# -- the picture ------------------------------------------------------------------------------


def elements(picture, kind):
    return list(ElementTree.fromstring(picture._repr_svg_()).iter(SVG + kind))


def test_the_file_is_the_picture_and_is_escaped(tmp_path):
    def odd(x):
        return x * 1.0, lambda g: g

    odd.__name__ = "<script>&'\""
    x = mg.tensor([1.0], requires_grad=True)
    picture = mg.graph(mg.apply(odd, x).sum())
    text = picture._repr_svg_()
    assert "<script>" not in text
    assert odd.__name__ in [element.text for element in elements(picture, "text")]
    picture.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == text == picture._repr_svg_()
    assert not [p for p in tmp_path.iterdir() if p.name != "graph.svg"]


def test_every_box_and_line_is_there_once_and_inside():
    net = Net()
    picture = mg.graph(loss_of(net, 4), net)
    paths = elements(picture, "path")
    edges = sum(len(box.inputs) for box in picture.boxes)
    heads = [path for path in paths if path.get("d").endswith("z")]
    assert len(heads) == edges and len(paths) == 2 * edges
    root = ElementTree.fromstring(picture._repr_svg_())
    width, height = float(root.get("width")), float(root.get("height"))
    group = root.find(SVG + "g")
    left, top = map(float, re.findall(r"[\d.]+", group.get("transform")))
    rects = [box.find(SVG + "rect") for box in group.findall(SVG + "g")]
    assert len(rects) == len(picture)
    for rect in rects:
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert left + x >= 0 and left + x + w <= width and top + y >= 0 and top + y + h <= height


def corners(path):
    """The points that a path runs through, but for those that only bend it."""
    found = []
    for letter, numbers in re.findall(r"([MCV])([-\d. ]+)", path):
        values = [float(number) for number in numbers.split()]
        found.append((found[-1][0], values[0]) if letter == "V" else tuple(values[-2:]))
    return found


def test_every_line_begins_at_its_box_or_where_it_leaves_another():
    net = Net()
    picture = mg.graph(loss_of(net, 4), net)
    paths = [path for path in elements(picture, "path") if path.get("fill") == "none"]
    lines = [corners(path.get("d")) for path in paths]
    edges = set()
    for rect in elements(picture, "rect"):
        x, y, w, h = (float(rect.get(name, 0)) for name in ("x", "y", "width", "height"))
        edges.add((x + w / 2, y + h))

    def known(point, points):
        return any(abs(point[0] - x) < 0.2 and abs(point[1] - y) < 0.2 for x, y in points)

    begun = 0
    for number, line in enumerate(lines):
        others = [point for other in lines[:number] for point in other[1:]]
        assert known(line[0], edges) or known(line[0], others)
        begun += known(line[0], edges)
    assert len(lines) > begun >= len(picture) - 1  # some lines share their beginning


def random_graph(seed, count):
    """Boxes with edges to later ones, some of them far away."""
    generator = rng(seed)
    edges = []
    for target in range(1, count):
        near = range(max(0, target - 4), target)
        sources = set(generator.choice(near, min(len(near), 2), replace=False).tolist())
        if generator.random() < 0.3:
            sources.add(int(generator.integers(target)))
        edges += [(source, target) for source in sources]
    widths = generator.uniform(50, 160, count).tolist()
    starts = {i for i in range(count) if not any(t == i for _, t in edges)}
    return widths, edges, starts


@pytest.mark.parametrize(("seed", "count"), [(0, 1), (1, 2), (2, 12), (3, 60), (4, 200)])
def test_nothing_overlaps(seed, count):
    widths, edges, loose = random_graph(seed, count)
    found = layout.place(widths, edges, loose)
    for source, target in edges:
        assert found.row[source] < found.row[target]
    for row in range(max(found.row) + 1):
        here = sorted((found.x[i], i) for i in range(count) if found.row[i] == row)
        for (a, i), (b, j) in zip(here, here[1:]):
            assert b - a >= (widths[i] + widths[j]) / 2 + 10
        for line in found.lines:  # those that pass this row keep off its boxes
            step = row - found.row[line.source]
            if 0 < step < len(line.x) - 1:
                for x, i in here:
                    assert abs(line.x[step] - x) >= widths[i] / 2 + 5
    for line in found.lines:
        assert len(line.x) == found.row[line.target] - found.row[line.source] + 1
        assert abs(line.x[-1] - found.x[line.target]) < widths[line.target] / 2
        assert line.x[0] == found.x[line.source]
    assert min(x - w / 2 for x, w in zip(found.x, widths)) >= -1e-6
    assert max(x + w / 2 for x, w in zip(found.x, widths)) <= found.width + 1e-6


def test_lines_that_can_go_without_crossing_do():
    # two chains side by side, given in an order that would cross at every step
    edges = [(0, 3), (1, 2), (2, 5), (3, 4), (4, 7), (5, 6)]
    found = layout.place([60.0] * 8, edges, {0, 1})
    assert (found.x[0] < found.x[1]) == (found.x[3] < found.x[2]) == (found.x[7] < found.x[6])
    assert found.x[0] == pytest.approx(found.x[3], abs=1) == pytest.approx(found.x[7], abs=1)


@pytest.mark.parametrize("seed", [2, 11, 15, 39])  # where the last sweep is not the best one
def test_more_sweeps_never_make_more_crossings(seed, monkeypatch):
    generator = rng(seed)
    level = np.repeat(np.arange(6), 6).tolist()  # six rows of six boxes
    arcs = []
    for box in range(30):
        for place in generator.choice(6, 1 + int(generator.integers(2)), replace=False):
            arcs.append((box, 6 * (box // 6 + 1) + int(place)))
    below = [[target for source, target in arcs if source == box] for box in range(36)]
    counts = []
    for passes in range(5):
        monkeypatch.setattr(layout, "_PASSES", passes)
        rows = layout._ordered(level, arcs)
        assert [sorted(row) for row in rows] == [list(range(i, i + 6)) for i in range(0, 36, 6)]
        counts.append(layout._crossings(rows, below))
    assert counts == sorted(counts, reverse=True) and counts[-1] < counts[0]


def test_what_is_needed_late_stands_near_its_user():
    # a chain of five, and a loose box 5 that only the last one takes
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (4, 6)]
    found = layout.place([60.0] * 7, edges, {0, 5})
    assert found.row[6] == 5 and found.row[5] == 4


def test_the_layout_is_the_same_each_time():
    widths, edges, loose = random_graph(5, 40)
    assert layout.place(widths, edges, loose) == layout.place(widths, edges, loose)


@pytest.mark.parametrize("module", [drawing, layout])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
