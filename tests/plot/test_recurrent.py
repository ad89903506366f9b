"""plot: several layers and models, windows of a series, gates, memory, the unrolled graph."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

import minigrad as mg
from minigrad import nn, plot, watch
from minigrad.errors import ArgumentError
from minigrad.watch import GradientFlow, Saturation

without_warnings = pytest.mark.filterwarnings(
    "error::UserWarning",
    "error::RuntimeWarning",
    "ignore:'.*' (argument is )?deprecated",  # an old matplotlib, of the new pyparsing
)


def flow_of(*parts):
    """A recorder of norms (records, T), one array for each part of the state."""
    flow = GradientFlow()
    for norms in zip(*parts, strict=True):
        flow.record(np.array(norms))
    return flow


def random_flow(parts=1, records=30, steps=6, seed=0):
    return flow_of(*np.exp(np.random.default_rng(seed).normal(size=(parts, records, steps))))


def falling(ratio, records=20, steps=8):
    """A gradient that is multiplied by ``ratio`` on its way from the last step to the first."""
    return flow_of(np.tile(np.geomspace(ratio, 1, steps), (records, 1)))


def title(figure):
    return figure.get_suptitle()


def size(figure):
    """Width and height in pixels of the PNG."""
    header = figure._repr_png_()[16:24]
    return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


def texts(axes):
    return [text.get_text() for text in axes.texts]


# -- gradient flow of several layers ----------------------------------------------------------


def test_every_layer_and_part_has_its_heat_map_on_one_scale():
    flows = {"lower": random_flow(2), "upper": random_flow(1, seed=1)}
    figure = plot.gradient_flow(flows)
    named = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left").split(":")[0] for axes in named] == ["lower"] * 2 + ["upper"]
    shown = [axes.collections[0] for axes in named]
    expected = (flows["lower"].h, flows["lower"].c, flows["upper"].h)
    for mesh, norms in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(mesh.get_array(), norms.T)
        assert mesh.norm is shown[0].norm
    assert size(figure)[0] == 1200
    assert sum("truncation edge" in text for axes in named for text in texts(axes)) == 3


def test_the_title_names_the_ratio_of_each_layer():
    said = title(plot.gradient_flow({"a": falling(1e-3), "b": falling(0.5)}))
    assert "fade" in said and "0.001 in a" in said and "0.5 in b" in said
    assert "explode" in title(plot.gradient_flow({"a": falling(200), "b": falling(0.5)}))


def test_layers_that_do_not_go_together_are_refused():
    with pytest.raises(ArgumentError, match="different numbers of records .*a 30, b 20"):
        plot.gradient_flow({"a": random_flow(), "b": falling(1)})
    with pytest.raises(ArgumentError, match="nothing was recorded for b"):
        plot.gradient_flow({"a": random_flow(), "b": GradientFlow()})
    with pytest.raises(ArgumentError, match="there are no recorders"):
        plot.gradient_flow({})


# -- side by side -----------------------------------------------------------------------------


def test_side_by_side_panels_share_one_log_scale_and_show_the_medians():
    flows = {"RNN": falling(1e-6), "LSTM": random_flow(2), "GRU": falling(50.0)}
    figure = plot.flows_side_by_side(flows)
    assert [axes.get_title() for axes in figure.axes] == list(flows)
    limits = {axes.get_ylim() for axes in figure.axes}
    assert len(limits) == 1 and {axes.get_yscale() for axes in figure.axes} == {"log"}
    curves = [np.asarray(line.get_ydata()) for line in figure.axes[1].lines]
    lstm = flows["LSTM"]
    for curve, rows in zip(
        curves, (lstm.h[:3], lstm.h[-3:], lstm.c[:3], lstm.c[-3:]), strict=True
    ):
        np.testing.assert_allclose(curve, np.median(rows, axis=0))
    assert all(axes.get_xlabel() == "time step t" for axes in figure.axes)
    assert "gradient norm (log scale)" in figure.axes[0].get_ylabel()
    said = title(figure).replace("\n", " ")
    assert "1e-06 (RNN)" in said and "50 (GRU)" in said
    assert "1e-06, later 1e-06" in texts(figure.axes[0])[0]


def test_rows_of_models_and_one_that_is_missing():
    rows = {"plain": {"RNN": falling(1e-6), "GRU": falling(1.0)}, "clipped": {"GRU": falling(2.0)}}
    figure = plot.flows_side_by_side(rows)
    on = [axes for axes in figure.axes if axes.axison]
    assert len(on) == 3 and len(figure.axes) == 4
    assert on[0].get_ylabel().startswith("plain")
    assert "2 (GRU, clipped)" in title(figure).replace("\n", " ")
    assert size(figure)[0] == 1200


@without_warnings
@pytest.mark.parametrize(
    "flow", [flow_of(np.ones((1, 1))), flow_of(np.zeros((3, 4))), flow_of(np.full((2, 3), 1e-30)),
             flow_of([[1.0, np.nan], [1.0, 2.0]])],
    ids=["one", "zero", "tiny", "shorter"],
)  # fmt: skip
def test_odd_flows_are_drawn_without_a_warning(flow):
    for figure in (
        plot.flows_side_by_side({"a": flow, "b": falling(1.0)}),
        plot.truncated_series(flow),
    ):
        assert size(figure)[0] == 1200


# -- windows of a series ----------------------------------------------------------------------


def test_windows_follow_each_other_and_each_edge_is_drawn():
    flow = random_flow(parts=2, records=5, steps=4)
    (axes,) = plot.truncated_series(flow, windows=3).axes
    edges = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert edges == [7.5, 11.5, 15.5]
    h = [line for line in axes.lines if line.get_marker() == "o"]
    for w, line in enumerate(h, start=2):
        np.testing.assert_array_equal(line.get_xdata(), 4 * w + np.arange(4))
        np.testing.assert_array_equal(line.get_ydata(), flow.h[w])
    assert axes.get_xlabel() == "time step of the series"
    assert axes.get_yscale() == "log"


def test_edges_of_tbptt_put_the_windows_of_the_last_pass_in_their_place():
    rnn = nn.RNN(2, 3, generator=np.random.default_rng(0))
    series = np.random.default_rng(1).normal(size=(2, 13, 2)).astype(np.float32)
    windows, flow = nn.TBPTT(series, steps=5), GradientFlow()
    rnn.flow = flow.record
    for _ in range(2):
        for window in windows:
            outputs, window.state = rnn(*window, window.state)
            (outputs**2).sum().backward()
    (axes,) = plot.truncated_series(flow, edges=windows.edges).axes
    curves = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in curves] == [
        [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]
    ]  # fmt: skip
    for line, norms in zip(curves, flow.h[-3:], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), norms[: len(line.get_xdata())])
    with pytest.raises(ArgumentError, match="a record for each window"):
        plot.truncated_series(flow, edges=np.arange(6))


# -- gates ------------------------------------------------------------------------------------


def recorded_gates(records=12):
    gates = Saturation({"f": "sigmoid", "j": "tanh"})
    generator = np.random.default_rng(0)
    for _ in range(records):
        values = np.stack([generator.choice([0.0, 0.5], (5, 3, 4)), np.zeros((5, 3, 4))], axis=1)
        gates.record(None, values)
    return gates


def test_every_gate_has_its_map_of_fractions():
    gates = recorded_gates()
    figure = plot.saturation({"lstm": gates})
    meshes = [c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh)]
    np.testing.assert_array_equal(meshes[0].get_array(), gates.both["f"].T)
    np.testing.assert_array_equal(meshes[1].get_array(), np.zeros((5, 12)))  # shown, not hidden
    assert not np.ma.getmaskarray(meshes[1].get_array()).any()
    assert meshes[0].get_clim() == (0, 1)
    assert "lstm: f (sigmoid)" in title(figure)
    assert size(figure)[0] == 1200
    with pytest.raises(ArgumentError, match="Saturation.attach"):
        plot.saturation(Saturation({"f": "sigmoid"}))


# -- memory -----------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self, *kinds):
        generator = np.random.default_rng(0)
        self.rnn = nn.Stacked([kind(4, 4, generator=generator) for kind in kinds])
        self.head = nn.Linear(4, 2, generator=generator)


def kept_by(model, steps=6):
    x = np.random.default_rng(1).normal(size=(3, steps, 4)).astype(np.float32)
    outputs, _ = nn.unroll(model.rnn, x) if model.rnn.is_cell else model.rnn(x)
    return watch.memory(model.head(outputs).sum(), model)


def test_memory_is_stacked_by_layer_over_time_beside_what_was_predicted():
    kept = kept_by(Model(nn.LSTM, nn.GRU))
    left, right = plot.memory(kept).axes
    below = np.zeros(6)
    for patch, by_step in zip(left.patches, kept.by_step.values(), strict=True):
        values, _, baseline = patch.get_data()
        np.testing.assert_allclose(baseline * 1024, below)
        below = below + by_step
        np.testing.assert_allclose(values * 1024, below)
    (line,) = [line for line in left.lines if line.get_linestyle() == "--"]
    assert line.get_ydata()[0] * 1024 == pytest.approx(sum(kept.predicted.values()) / 6)
    assert line.get_ydata()[0] * 1024 >= below[0]
    assert "KiB a step" in left.get_ylabel() and left.get_xlabel() == "time step t"
    widths = [bar.get_width() * 1024 for bar in right.patches]
    np.testing.assert_allclose(widths, [size for size in kept.by_op.values() if size])
    assert "6 time steps keep" in title(plot.memory(kept))


@without_warnings
@pytest.mark.parametrize("steps", [1, 2, 200])
@pytest.mark.parametrize("kind", [nn.RNN, nn.RNNCell])
def test_memory_of_short_and_long_sequences_is_drawn(kind, steps):
    assert size(plot.memory(kept_by(Model(kind), steps)))[0] == 1200


def test_memory_without_time_and_no_memory_at_all():
    w = nn.Parameter(np.ones((4, 4)))
    figure = plot.memory(watch.memory(((w * 2) ** 2).sum()))
    assert "The backward pass needs" in title(figure)
    assert len(figure.axes) == 1 and figure.axes[0].get_ylabel() == "op"
    with pytest.raises(ArgumentError, match="keeps no memory"):
        plot.memory(watch.memory(w.T))


# -- the graph --------------------------------------------------------------------------------


def traced(kind, steps=3, backward=True):
    model = Model(kind)
    x = np.random.default_rng(1).normal(size=(2, steps, 4)).astype(np.float32)
    outputs, _ = nn.unroll(model.rnn, x)
    loss = mg.cross_entropy(model.head(outputs), np.zeros((2, steps), int))
    found = watch.trace(loss, model)
    if backward:
        loss.backward()
    return found


def boxes_of(axes):
    """Edges (left, right, bottom, top) of every box, in the order of the calls."""
    found = [patch for patch in axes.patches if hasattr(patch, "get_boxstyle")]
    return np.array([[b.get_x(), b.get_x() + b.get_width(), b.get_y(), b.get_y() + b.get_height()]
                     for b in found])  # fmt: skip


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.LayerNormLSTMCell])
def test_every_call_has_its_box_in_the_column_of_its_time_step(kind):
    found = traced(kind)
    axes = plot.unrolled_graph(found).axes[0]
    boxes = boxes_of(axes)
    assert len(boxes) == len(found)
    for i, (left, right, bottom, top) in enumerate(boxes):  # no two on top of each other
        others = np.delete(boxes, i, axis=0)
        apart = (others[:, 1] < left) | (others[:, 0] > right)
        apart |= (others[:, 3] < bottom) | (others[:, 2] > top)
        assert apart.all(), found.calls[i]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["t = 0", "t = 1", "t = 2", "after all"]
    reached = -np.inf
    for t, tick in zip((0, 1, 2, None), axes.get_xticks(), strict=True):
        mine = boxes[[call.t == t for call in found.calls]]
        assert reached < mine[:, 0].min() < tick < mine[:, 1].max()
        reached = mine[:, 1].max()
    for call, (_, _, bottom, _) in zip(found.calls, boxes, strict=True):
        for i in call.inputs:  # computed from below upwards, within a time step
            assert found.calls[i].t != call.t or boxes[i][2] < bottom


def test_boxes_say_op_parameter_shape_and_gradient():
    found = traced(nn.RNNCell)
    axes = plot.unrolled_graph(found).axes[0]
    said = texts(axes)
    assert said.count("matmul w_h") == 3 and said.count("matmul w_x") == 3
    assert said.count("(2, 4)") >= 9 and "number" in said
    for call in found.calls:
        assert f"|g| {call.gradient:.2g}" in said


def test_the_state_goes_from_column_to_column_in_thick_lines():
    found = traced(nn.LSTMCell, steps=4)
    axes = plot.unrolled_graph(found).axes[0]
    thick = [patch for patch in axes.patches if patch.get_linewidth() > 2]
    assert len(thick) == 2 * 3  # h and c, into steps 1, 2 and 3


def test_without_a_backward_pass_there_are_no_gradients():
    figure = plot.unrolled_graph(traced(nn.RNNCell, backward=False))
    assert len(figure.axes) == 1  # no colour bar
    assert not any("|g|" in text for text in texts(figure.axes[0]))
    assert "3 time steps" in title(figure)


@without_warnings
def test_graphs_of_other_kinds_are_drawn():
    w = nn.Parameter(np.ones((2, 2)))
    rnn = nn.LSTM(2, 2, generator=np.random.default_rng(0))
    x = np.ones((1, 5, 2), np.float32)
    for loss in ((w * 2).sum(), rnn(x)[0].sum(), nn.unroll(nn.RNNCell(
            2, 2, generator=np.random.default_rng(0)), rnn(x)[0])[0].sum()):  # fmt: skip
        found = watch.trace(loss)
        loss.backward()
        assert size(plot.unrolled_graph(found))[0] >= 1200


def test_a_graph_too_large_to_read_is_refused():
    loss = nn.Parameter(np.ones(2))
    for _ in range(401):
        loss = loss * 1.5
    with pytest.raises(ArgumentError, match="401 calls cannot be read.*at most 400"):
        plot.unrolled_graph(watch.trace(loss))


def test_save_writes_svg_too_and_always_the_same(tmp_path):
    found = traced(nn.RNNCell)
    for name in ("a.svg", "b.SVG"):
        plot.save(plot.unrolled_graph(found), tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in first[:1000]
    assert first == (tmp_path / "b.SVG").read_bytes()
