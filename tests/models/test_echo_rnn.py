"""The echo network: TensorFlow's numbers, its two cells, what it may not see, its command line."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, plot
from models import _plots, echo_rnn, sine_to_cosine

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "echo_rnn.npz")


def _model(dtype=np.float32):
    """The model with the golden's initial weights."""
    model = echo_rnn.EchoRNN(np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    model.rnn.w_x.data, model.rnn.w_h.data = GOLDEN["init/W"][:1], GOLDEN["init/W"][1:]
    model.w.data, model.b.data = GOLDEN["init/W2"], GOLDEN["init/b2"][0]
    return model


def _by_tensorflow_name(model, value):
    """TensorFlow's variables: input and state share a matrix, biases are rows."""
    yield "W", np.concatenate([value(model.rnn.w_x), value(model.rnn.w_h)])
    yield "b", value(model.rnn.bias)[None]
    yield "W2", value(model.w)
    yield "b2", value(model.b)[None]


@pytest.mark.parametrize("way", ["fused", "unrolled"])
@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("dtype", "rtol", "windows"), [(np.float64, 1e-9, 50), (np.float32, 2e-5, 5)]
)
def test_windows_as_in_tensorflow(dtype, rtol, windows, kernel, way):
    """Losses, predictions, states, gradients, weights: goldens/echo_rnn.npz.

    Float32 is followed for five windows; later rounding has grown, in TensorFlow too.
    """
    model = _model(dtype)
    forward = model if way == "fused" else model.unrolled
    optimizer = optim.Adagrad(model.parameters(), lr=echo_rnn.RATE)
    state = None

    def close(ours, theirs):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())

    with mg.kernels.use(kernel):
        for step in range(windows):
            x, y = GOLDEN["in/x"][step], GOLDEN["in/y"][step]  # (5, 15)
            bits = np.ascontiguousarray(x.T[:, :, None], dtype)  # (15, 5, 1)
            logits, state = forward(bits, state)
            loss = mg.cross_entropy(logits, y.T.astype(np.int64))
            optimizer.zero_grad()
            loss.backward()
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            close(state.numpy(), GOLDEN["steps/final_state"][step])
            if step == 0:
                close(mg.softmax(logits).numpy(), GOLDEN["step1/predictions"])
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    close(ours, GOLDEN[f"grad1/{name}"])
            optimizer.step()
            state = state.detach()
            if f"after{step + 1}/W" in GOLDEN:
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    close(ours, GOLDEN[f"after{step + 1}/{name}"])


def test_fused_and_unrolled_are_the_same_in_values_and_gradients():
    generator = np.random.default_rng(3)
    bits, echo = echo_rnn.series(generator)
    model = echo_rnn.EchoRNN(generator)
    model.double()
    cell = nn.RNNCell(1, 4, generator=generator)
    cell.double()
    cell.load_state_dict(model.rnn.state_dict())

    def unroll(x, state):
        outputs, state = nn.unroll(cell, mg.tensor(x), state, time_major=True)
        return mg.linear(outputs, model.w, model.b), state

    results = []
    for forward in (model, model.unrolled, unroll):
        state = mg.tensor(np.random.default_rng(4).standard_normal((5, 4)), requires_grad=True)
        model.zero_grad()
        cell.zero_grad()
        logits, last = forward(bits[:15].astype(np.float64), state)
        (mg.cross_entropy(logits, echo[:15]) + (last * last).sum()).backward()
        rnn = cell if forward is unroll else model.rnn
        gradients = [p.grad.numpy() for p in (*rnn.parameters(), model.w, model.b, state)]
        results.append([logits.numpy(), last.numpy(), *gradients])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_series_is_cut_into_rows_that_go_on_where_the_one_above_ends():
    bits, echo = echo_rnn.series(np.random.default_rng(0))
    assert bits.shape == (10_000, 5, 1) and bits.dtype == np.float32 and bits.flags.c_contiguous
    assert echo.shape == (10_000, 5) and echo.dtype == np.int64 and echo.flags.c_contiguous
    bits = bits[:, :, 0]
    assert set(np.unique(bits)) == {0, 1} and abs(bits.mean() - 0.5) < 0.01
    np.testing.assert_array_equal(echo[3:], bits[:-3])
    np.testing.assert_array_equal(echo[:3, 1:], bits[-3:, :-1])  # what no state has heard
    assert not echo[:3, 0].any()


def test_weights_start_uniform_and_none_of_them_negative():
    models = [echo_rnn.EchoRNN(np.random.default_rng(seed)) for seed in range(200)]
    for select in (lambda m: m.rnn.w_x, lambda m: m.rnn.w_h, lambda m: m.w):
        values = np.stack([select(model).numpy() for model in models])
        assert values.dtype == np.float32
        assert 0 <= values.min() < 0.01 and 0.99 < values.max() < 1
        assert abs(values.mean() - 0.5) < 0.03
    assert not models[0].rnn.bias.numpy().any() and not models[0].b.numpy().any()


def test_only_bits_past_the_first_three_of_each_row_are_judged():
    def says(bits, mistakes):
        """Logits of somebody who is always right past the third bit, but for ``mistakes``."""
        answer = np.zeros((10_000, 5))
        answer[3:] = bits[:-3, :, 0]
        for at in mistakes:
            answer[at] = 1 - answer[at]
        return mg.tensor(np.stack([1 - answer, answer], axis=-1)), None

    for mistakes, wrong in (([], 0), ([(0, 0), (2, 4)], 0), ([(3, 0), (9999, 4), (2, 1)], 2)):
        found = echo_rnn.wrong_bits(
            lambda bits, mistakes=mistakes: says(bits, mistakes), np.random.default_rng(0)
        )
        assert found == (wrong, 5 * 9_997)


def test_inputs_before_the_window_receive_exactly_zero_gradient():
    model = _model()
    carried, detached = (
        echo_rnn.reach(model, np.random.default_rng(0), detached) for detached in (False, True)
    )
    assert carried.shape == detached.shape == (15, 30)
    assert (detached[:, :15] == 0).all()
    assert (carried[:, :15] > 0).any(axis=1).all()
    np.testing.assert_array_equal(carried[:, 15:], detached[:, 15:])  # inside nothing changes
    now = np.arange(15)
    assert (carried[now, now + 15] > 0).all()  # each prediction sees the input of its step
    for t in range(15):
        assert (carried[t, t + 16 :] == 0).all()  # and no later one


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def unseen(monkeypatch):
    """Pictures are made but not painted, which takes longer than all the rest."""
    monkeypatch.setattr(plot, "save", lambda figure, path: None)


def _run(tmp_path, *arguments):
    echo_rnn.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_smoke_run_predicts_every_bit(tmp_path, capsys):
    metrics = _run(tmp_path, "--smoke")
    assert metrics["steps"] == echo_rnn.SMOKE_STEPS == 3 * 666
    assert metrics["metric"] == {"name": "accuracy", "value": 1.0}
    assert metrics["wrong_bits"] == 0 and metrics["last_epoch_loss"] < 0.01
    assert metrics["gradient_before_window"] == 0
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"echo.png", "spikes.png", "reach.png", "metrics.json"}
    assert "49,985 of 49,985 bits right" in capsys.readouterr().out


def test_untrained_it_guesses(tmp_path, unseen):
    metrics = _run(tmp_path, "--steps", "1")
    assert 0.4 < metrics["metric"]["value"] < 0.6


def test_the_two_cells_train_alike(tmp_path, unseen):
    fused, unrolled = (_run(tmp_path, "--steps", "30", "--cell", c) for c in ("fused", "unrolled"))
    assert fused["last_epoch_loss"] == pytest.approx(unrolled["last_epoch_loss"], rel=1e-4)
    assert fused["cell"] == "fused" and unrolled["cell"] == "unrolled"


def test_same_seed_same_numbers_on_one_thread_and_two(tmp_path, unseen):
    before = mg.get_num_threads()
    try:
        found = []
        for threads, seed in ((1, "3"), (2, "3"), (2, "4")):
            mg.set_num_threads(threads)
            metrics = _run(tmp_path, "--steps", "40", "--seed", seed)
            found.append((metrics["metric"]["value"], metrics["last_epoch_loss"]))
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, unseen, kernel):
    assert _run(tmp_path, "--steps", "3", "--kernels", kernel)["kernels"] == kernel


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--cell", "round"], ["--life"]])
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, *arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == "" and said.err.count("\n") == 1


# -- the live window --------------------------------------------------------------------------


@pytest.fixture
def gui(monkeypatch, unseen):
    """A toolkit that opens windows nowhere; a list of what was done to them."""
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    done = []

    class Manager(FigureManagerBase):
        @classmethod
        def pyplot_show(cls, *, block=None):
            done.append(("show", block))

    class Canvas(FigureCanvasAgg):
        required_interactive_framework = "headless"  # what needs no display
        manager_class = Manager

        def draw(self):
            done.append(("draw", len(self.figure.axes)))

        def flush_events(self):
            if "close" in done:
                plt.close(self.figure)

    pretended = types.ModuleType("pretended_gui")
    pretended.FigureCanvas, pretended.FigureManager = Canvas, Manager
    monkeypatch.setitem(sys.modules, "pretended_gui", pretended)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    plt.switch_backend("module://pretended_gui")
    yield done
    plt.close("all")
    plt.switch_backend("agg")


@pytest.mark.parametrize(
    ("model", "steps", "drawings", "panels"), [(echo_rnn, 201, 3, 6), (sine_to_cosine, 4, 4, 3)]
)
def test_live_draws_while_training_and_leaves_the_window_open(
    tmp_path, gui, model, steps, drawings, panels
):
    model.main(["--live", "--steps", str(steps), "--out", str(tmp_path)])
    assert gui == [("show", False), *[("draw", panels)] * drawings, ("show", True)]
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == steps


def test_a_window_that_was_closed_does_not_end_training(tmp_path, gui):
    gui.append("close")
    assert _run(tmp_path, "--live", "--steps", "201")["steps"] == 201
    assert gui == ["close", ("show", False), ("draw", 6)]


def test_nothing_is_painted_into_a_closed_window(gui):
    window, painted = _plots.LiveWindow("title", height=4.0), []
    for number in range(4):
        if number == 2:
            gui.append("close")  # as soon as it has been drawn
        window.draw(lambda figure, n: painted.append(n), number)
    window.wait()
    assert painted == [0, 1, 2] and gui[-1] == ("draw", 0)


def test_live_without_a_window_is_one_line_and_exit_code_2(tmp_path, capsys):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, "--live", "--steps", "1")
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1
    assert "--live" in said and "display" in said
    assert not plt.get_fignums()


@pytest.mark.slow
def test_whole_run_predicts_every_bit(tmp_path):
    metrics = _run(tmp_path)
    assert metrics["metric"]["value"] == 1 and metrics["last_epoch_loss"] < 0.00038
