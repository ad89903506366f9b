"""plot: what stands in the pictures is what was recorded, and every axis says what it is."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from minigrad import plot
from minigrad.errors import ArgumentError, ShapeError
from minigrad.watch import ClipTimeline, GradientFlow

PNG = b"\x89PNG\r\n\x1a\n"
without_warnings = pytest.mark.filterwarnings(
    "error::UserWarning",
    "error::RuntimeWarning",
    "ignore:'.*' (argument is )?deprecated",  # an old matplotlib, of the new pyparsing
)


def flow_of(h, c, stride=1):
    flow = GradientFlow()
    for record, norms in enumerate(zip(h, c, strict=True)):
        flow.tag(record * stride)
        flow.record(np.array(norms))
    return flow


def random_flow(records=40, steps=6, seed=0):
    generator = np.random.default_rng(seed)
    return flow_of(*np.exp(generator.normal(size=(2, records, steps))), stride=10)


def timeline_of(before, limit=1.0):
    timeline = ClipTimeline()
    for step, norm in enumerate(before):
        scale = min(1.0, limit / norm) if norm else 1.0
        timeline.record(
            step, 3 - 0.01 * step,
            SimpleNamespace(
                before=norm, after=norm * scale, scale=scale, clipped=scale < 1, shares={}
            ),
        )  # fmt: skip
    return timeline


def title(figure):
    return figure.get_suptitle()


def size(figure):
    """Width and height in pixels of the PNG."""
    header = figure._repr_png_()[16:24]
    return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


def line(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


FIGURES = {
    "gradient_flow": lambda: plot.gradient_flow(random_flow()),
    "clip_timeline": lambda: plot.clip_timeline(timeline_of([0.5, 2.0, 3.0, 0.1] * 9)),
    "loss_curve": lambda: plot.loss_curve(range(9), np.linspace(3, 1, 9)),
    "perplexity": lambda: plot.perplexity(
        range(9), np.linspace(3, 1, 9), validation=([0, 8], [20, 3]), reference=2.5
    ),
}


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_every_figure_is_1200_pixels_wide_and_names_its_axes(make):
    figure = make()
    assert isinstance(figure, Figure)
    width, height = size(figure)
    assert width == 1200 and 600 <= height <= 1200
    assert len(title(figure)) > 20
    bottoms = [axes.get_xlabel() for axes in figure.axes]
    assert any("training step" in label for label in bottoms)
    for axes in figure.axes:
        numbers = any(text.get_text() for text in axes.get_yticklabels())
        assert axes.get_ylabel() or not numbers, axes


# -- gradient flow ----------------------------------------------------------------------------


def maps_of(figure):
    return [axes.collections[0] for axes in figure.axes if axes.get_title(loc="left")]


def test_the_heat_maps_show_every_record():
    flow = random_flow(records=40, steps=6)
    figure = plot.gradient_flow(flow)
    for mesh, norms in zip(maps_of(figure), (flow.h, flow.c), strict=True):
        np.testing.assert_array_equal(mesh.get_array(), norms.T)
        corners = mesh.get_coordinates()
        np.testing.assert_array_equal(corners[0, :-1, 0], flow.steps)
        np.testing.assert_array_equal(corners[:, 0, 1], np.arange(7) - 0.5)
        assert mesh.norm is maps_of(figure)[0].norm  # one colour scale for both
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert "h_t" in titles[0] and "c_t" in titles[1]


def test_long_recordings_are_drawn_as_medians():
    flow = random_flow(records=1500, steps=3)
    figure = plot.gradient_flow(flow)
    groups = np.array_split(np.arange(1500), 600)
    mesh = maps_of(figure)[1]
    expected = [np.median(flow.c[group], axis=0) for group in groups]
    np.testing.assert_allclose(mesh.get_array(), np.transpose(expected), rtol=1e-14)
    assert "median of about 3 records" in figure.axes[2].get_xlabel()


def test_the_truncation_edge_is_below_the_oldest_step_in_every_panel():
    figure = plot.gradient_flow(random_flow())
    edges = [each for axes in figure.axes for each in axes.lines if set(each.get_ydata()) == {-0.5}]
    assert len(edges) == 4
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sum("truncation edge" in text for text in texts) == 2


def test_the_profiles_are_the_medians_of_the_first_and_last_tenth():
    flow = random_flow(records=40, steps=6)
    profile = plot.gradient_flow(flow).axes[1]
    norms, times = line(profile, "first tenth")
    np.testing.assert_allclose(norms, np.median(flow.h[:4], axis=0))
    np.testing.assert_array_equal(times, np.arange(6))
    np.testing.assert_allclose(line(profile, "last tenth")[0], np.median(flow.h[-4:], axis=0))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1e-4, "fade .* 0.0001 ×"), (0.5, "reach the truncation edge.* 0.5 ×"),
     (100, "explode .* 100 ×")],
)  # fmt: skip
def test_the_title_says_how_far_gradients_get(ratio, words):
    h = np.tile(np.geomspace(ratio, 1, 8), (10, 1))
    said = title(plot.gradient_flow(flow_of(h, h)))
    assert re.search(words, said) and "h_{7}" in said
    assert title(plot.gradient_flow(flow_of(h, h), title="mine")) == "mine"


def test_zeros_and_non_finite_norms_are_grey_and_said_to_be():
    h = np.ones((5, 3))
    h[1, 0], h[2, 1], h[3, 2] = 0, np.inf, np.nan
    figure = plot.gradient_flow(flow_of(h, np.ones((5, 3))))
    hidden = np.ma.getmaskarray(maps_of(figure)[0].get_array())
    np.testing.assert_array_equal(hidden.T, ~(np.isfinite(h) & (h > 0)))
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert any("grey: zero or not finite" in label for label in labels)
    assert size(figure)[0] == 1200


@without_warnings
@pytest.mark.parametrize(
    "norms",
    [np.ones((1, 1)), np.ones((1, 4)), np.ones((3, 1)), np.zeros((4, 4)), np.full((2, 3), np.nan),
     np.full((2, 3), 1e-30), np.geomspace(1e-45, 1e38, 12).reshape(4, 3)],
    ids=["1x1", "one record", "one step", "zero", "nan", "tiny", "wide"],
)  # fmt: skip
def test_odd_recordings_are_drawn_without_a_warning(norms):
    assert size(plot.gradient_flow(flow_of(norms, norms)))[0] == 1200


def test_windows_of_different_lengths_and_steps_out_of_order():
    flow = GradientFlow()
    for step, length in ((20, 3), (0, 5), (10, 5)):
        flow.tag(step)
        flow.record(np.full((2, length), 1.0 + step))
    mesh = maps_of(plot.gradient_flow(flow))[0]
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :3, 0], [0, 10, 20])
    assert mesh.get_array()[4].tolist() == [1, 11, None]


# -- clipping ---------------------------------------------------------------------------------


def test_the_timeline_shows_loss_norms_threshold_and_fraction():
    before = np.random.default_rng(0).lognormal(0, 1, 300)
    timeline = timeline_of(before, limit=1.25)
    loss, norms, fraction = plot.clip_timeline(timeline).axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), timeline.loss)
    assert norms.get_yscale() == "log"
    np.testing.assert_array_equal(norms.lines[0].get_ydata(), timeline.after)
    bars = [path.vertices[:, 1] for path in norms.collections[0].get_paths()]
    np.testing.assert_allclose(bars, [(1.25, norm) for norm in before[before > 1.25]])
    for label, values in (("before", before), ("after", timeline.after)):
        smooth = line(norms, f"{label} (smoothed)")[1]  # means of the logs of 7 steps
        np.testing.assert_allclose(smooth[100], np.exp(np.log(values[97:104]).mean()), rtol=1e-12)
    assert set(line(norms, "threshold 1.25")[1]) == {1.25}
    np.testing.assert_array_equal(
        fraction.lines[0].get_ydata(), timeline.running_fraction_clipped(100)
    )
    assert norms.get_legend() is not None


@pytest.mark.parametrize(
    ("before", "threshold", "words"),
    [
        ([0.5, 0.25], 1.0, "Clipping at 1 never acted: the largest norm was 0.5"),
        ([0.5, 0.25], None, "Clipping never acted"),
        ([0.5, 4.0], None, "Clipping at 1 acted on 50% of 2 steps; the largest norm was 4"),
        ([0.5] * 999 + [4.0], None, "Clipping at 1 acted on 0.1% of 1,000 steps"),
    ],
)
def test_the_title_says_what_clipping_did(before, threshold, words):
    assert words in title(plot.clip_timeline(timeline_of(before), threshold=threshold))


@without_warnings
@pytest.mark.parametrize(
    "before", [[0.3], [5.0], [2.0] * 30, [0.0, 0.5], [0.0]],
    ids=["one", "one clipped", "constant", "a zero", "only zero"],
)  # fmt: skip
def test_odd_timelines_are_drawn_without_a_warning(before):
    figure = plot.clip_timeline(timeline_of(before))
    assert size(figure)[0] == 1200
    low, high = figure.axes[1].get_ylim()
    assert high > 1.2 * low


# -- learning curves --------------------------------------------------------------------------


def test_loss_curve_shows_raw_smoothed_validation_and_reference():
    steps = np.arange(0, 3000, 10)
    losses = 1 + np.exp(-steps / 500) + 0.1 * np.random.default_rng(0).normal(size=300)
    figure = plot.loss_curve(
        steps, losses, validation=([0, 2990], [2.1, 1.2]), reference=1.1,
        reference_label="TensorFlow", unit="bits",
    )  # fmt: skip
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), losses)
    smooth = line(axes, "training (smoothed)")[1]
    assert np.std(np.diff(smooth)) < 0.2 * np.std(np.diff(losses))
    assert smooth[0] == losses[0]  # no lag where training is fastest
    np.testing.assert_allclose(smooth[150], losses[147:154].mean(), rtol=1e-12)
    x, y = line(axes, "validation")
    assert x.tolist() == [0, 2990] and y.tolist() == [2.1, 1.2]
    assert set(line(axes, "TensorFlow: 1.1")[1]) == {1.1}
    assert axes.get_ylabel() == "loss (bits)"
    assert title(figure) == "Validation loss falls from 2.1 to 1.2 (TensorFlow: 1.1)"


def test_perplexity_is_e_to_the_loss_on_a_log_axis_beside_the_loss():
    losses = np.linspace(np.log(27), np.log(4.5), 50)
    figure = plot.perplexity(range(50), losses, symbol="word")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log" and "perplexity per word" in axes.get_ylabel()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.exp(losses))
    (right,) = axes.child_axes
    assert "nats per word" in right.get_ylabel()
    figure.canvas.draw()
    np.testing.assert_allclose(right.get_ylim(), np.log(axes.get_ylim()), rtol=1e-6)
    assert title(figure) == "Training perplexity falls from 27 to 4.5"


@without_warnings
@pytest.mark.parametrize("losses", [[3.3], [2.0, 2.0], [1.0, np.nan, 2.0], [0.0, 0.0], [800.0, 1]])
def test_odd_losses_are_drawn_without_a_warning(losses):
    for draw in (plot.loss_curve, plot.perplexity):
        assert size(draw(range(len(losses)), losses))[0] == 1200


def test_values_that_do_not_pair_up_are_refused():
    with pytest.raises(ShapeError, match=r"loss_curve: losses.*\(3,\) and \(2,\)"):
        plot.loss_curve([0, 1, 2], [1.0, 2.0])
    with pytest.raises(ShapeError, match=r"perplexity: validation.*\(1,\) and \(2,\)"):
        plot.perplexity([0], [1.0], validation=([0], [1.0, 2.0]))
    with pytest.raises(ArgumentError, match="no records"):
        plot.perplexity([], [])


def test_an_empty_recorder_is_refused_and_told_how_to_record():
    with pytest.raises(ArgumentError, match="lstm.flow = flow.record"):
        plot.gradient_flow(GradientFlow())
    with pytest.raises(ArgumentError, match="timeline.record"):
        plot.clip_timeline(ClipTimeline())


# -- files, notebooks, imports ----------------------------------------------------------------


def test_save_writes_a_png_and_replaces_the_old_one(tmp_path):
    figure = plot.loss_curve([0, 1], [2.0, 1.0])
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")
    plot.save(figure, path)
    assert path.read_bytes() == figure._repr_png_()
    assert path.read_bytes().startswith(PNG)
    assert os.listdir(tmp_path) == ["loss.png"]


def test_save_refuses_other_names_and_leaves_the_old_file_when_drawing_fails(tmp_path):
    figure = plot.loss_curve([0, 1], [2.0, 1.0])
    with pytest.raises(ArgumentError, match=r"\.png"):
        plot.save(figure, tmp_path / "loss.jpg")
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")
    figure.axes[0].set_title("$\\unbalanced{$")  # mathematical type that cannot be set
    with pytest.raises(ValueError, match="unbalanced"):
        plot.save(figure, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["loss.png"]


def run_python(code):
    environment = {**os.environ, "PYTHONPATH": str(Path(plot.__file__).parents[1])}
    environment.pop("DISPLAY", None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_importing_plot_and_watch_does_not_import_matplotlib():
    run_python(
        "import sys, minigrad.plot, minigrad.watch\n"
        "assert not [name for name in sys.modules if name.startswith('matplotlib')]"
    )


def test_drawing_needs_neither_pyplot_nor_a_display_nor_a_backend(tmp_path):
    run_python(
        "import os, sys\n"
        "os.environ['MPLBACKEND'] = 'TkAgg'\n"
        "from minigrad import plot\n"
        f"plot.save(plot.perplexity([0, 1], [2.0, 1.0]), r'{tmp_path / 'p.png'}')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
