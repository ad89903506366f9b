"""What the records of minigrad.watch say of themselves, as text and as HTML."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, watch


def rng(seed=0):
    return np.random.default_rng(seed)


def model(kind=nn.LSTM):
    return nn.Sequential(kind(3, 5, generator=rng(1)))


def loss_of(net, steps=4):
    return (net[0](rng(2).standard_normal((2, steps, 3)).astype("f"))[0] ** 2).sum()


def cells(page):
    """Rows of cells of a page's tables, as text."""
    rows = page.split("<tr>")[1:]
    return [[part.split("<")[0] for part in row.split('">')[1:]] for row in rows]


def test_without_records():
    assert repr(watch.GradientFlow()) == "<GradientFlow without records>"
    assert repr(watch.ClipTimeline()) == "<ClipTimeline without records>"
    saturation = watch.Saturation({"<i>": "tanh"})
    assert repr(saturation) == "<Saturation without records>"
    for record in (watch.GradientFlow(), watch.ClipTimeline(), saturation):
        assert "without records" in record._repr_html_()
        assert "<table" not in record._repr_html_()


def test_gradient_flow():
    net = model()
    with watch.GradientFlow.attach(net) as flows:
        for step in (7, 12):
            flows.tag(step)
            loss_of(net).backward()
    flow = flows["0"]
    h, c = flow.h[-1], flow.c[-1]
    assert repr(flow) == (
        f"<GradientFlow of 2 records, the last of step 12: |dL/dh_t| {h[3]:.3g} at t=3, "
        f"{h[0]:.3g} at t=0; |dL/dc_t| {c[3]:.3g} at t=3, {c[0]:.3g} at t=0>"
    )
    assert repr(flows) == f"<Recorders of 1 layers:\n  0: {flow!r}>"
    header, first, second = cells(flow._repr_html_())
    assert header == ["2-norm", "t=0", "t=1", "t=2", "t=3"]
    assert first == ["dL/dh_t", *(f"{x:.3g}" for x in h)] and second[0] == "dL/dc_t"
    assert "0: GradientFlow" in flows._repr_html_()


def test_long_windows_are_cut_in_the_middle():
    net = model(nn.GRU)
    with watch.GradientFlow.attach(net) as flows, watch.Saturation.attach(net) as gates:
        loss_of(net, 50).backward()
    for record in (flows["0"], gates["0"]):
        header = cells(record._repr_html_())[0]
        assert len(header) == 16 and header[-1] == "t=49" and header[1] == "t=0"
        assert "35 time steps in the middle are left out" in record._repr_html_()


def test_saturation():
    gates = watch.Saturation({"<i>": "sigmoid", "j": "tanh"})
    gates.watch_step(0, None, np.array([[0.0, 0.5]]), np.array([[0.99, -0.99]]))
    gates.watch_step(1, np.array([False]), np.array([[0.0, 0.5]]), np.array([[0.0, 0.0]]))
    assert repr(gates) == (
        "<Saturation of 1 record, the last of step 0: saturated <i> 50%, j 100%>"
    )
    page = gates._repr_html_()
    assert "&lt;i&gt; 50%" in page and "<i>" not in page
    assert cells(page)[1:] == [["&lt;i&gt;", "50%", ""], ["j", "100%", ""]]
    with np.errstate(all="raise"):
        empty = watch.Saturation({"h": "tanh"})
        empty.watch_step(0, np.array([False]), np.zeros((1, 2)))
        assert repr(empty).endswith("saturated h ->")


def test_clip_timeline():
    timeline = watch.ClipTimeline()
    for step in range(8):
        report = optim.ClipReport(2.0 + step, 1.0, 1 / (2.0 + step), step % 2 == 0)
        timeline.record(step, 4.0 - step / 4, report)
    assert repr(timeline) == (
        "<ClipTimeline of 8 steps: 50% clipped, largest norm 9, loss 4 to 2.25>"
    )
    rows = cells(timeline._repr_html_())
    assert len(rows) == 6 and rows[1] == ["3", "3.25", "5", "1", "0.2", "no"]
    assert "the last steps" in timeline._repr_html_()


def test_trace_and_its_calls():
    net = model(nn.GRU)
    loss = loss_of(net)
    found = watch.trace(loss, net)
    call = found.calls[1]
    assert repr(call).startswith("<Call gru at test_reprs.py:") and "|g|" not in repr(call)
    assert "layer 0, (4, 2, 5) (2, 5), " in repr(call)
    loss.backward()
    assert f"|g|={call.gradient:.3g}>" in repr(call)
    rows = cells(found._repr_html_())
    assert [row[0] for row in rows] == ["op", *(each.op for each in found.calls)]
    assert rows[2][5] == f"{call.gradient:.3g}" and found.calls[0].site in found._repr_html_()
    y = x = mg.tensor([1.0], requires_grad=True)
    for _ in range(40):
        y = y * x
    assert "and 10 more" in watch.trace(y)._repr_html_()


@pytest.mark.parametrize("given", [True, False])
def test_memory(given):
    net = model(nn.GRU)
    memory = watch.memory(loss_of(net), net if given else None)
    assert repr(memory).startswith(f"<Memory {memory.total:,} bytes: ")
    page = memory._repr_html_()
    assert "kept for the backward pass" in page and ">gru<" in page
    shares = [int(row[2][:-1]) for row in cells(page) if row[2].endswith("%")]
    assert 195 <= sum(shares) <= 205  # the layers, and the ops
