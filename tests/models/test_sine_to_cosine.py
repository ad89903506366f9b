"""The sine to cosine network: TensorFlow's numbers, its windows, its gate, its command line."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, plot
from models import sine_to_cosine

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "sin_cos_rnn.npz")


def _model(dtype=np.float32):
    """The model with the golden's initial weights."""
    model = sine_to_cosine.SineToCosine(np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    kernel = GOLDEN["init/rnn_kernel"]  # input above state
    model.rnn.w_x.data, model.rnn.w_h.data = kernel[:1], kernel[1:]
    model.head.weight.data, model.head.bias.data = GOLDEN["init/dense_kernel"], 0.0 * kernel[0, :1]
    return model


def _by_tensorflow_name(model, value):
    yield "rnn_kernel", np.concatenate([value(model.rnn.w_x), value(model.rnn.w_h)])
    yield "rnn_bias", value(model.rnn.bias)
    yield "dense_kernel", value(model.head.weight)
    yield "dense_bias", value(model.head.bias)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("dtype", "rtol", "steps"), [(np.float64, 1e-9, 50), (np.float32, 1e-4, 15)]
)
def test_steps_as_in_tensorflow(dtype, rtol, steps, kernel):
    """Losses, predictions, states, gradients, weights: goldens/sin_cos_rnn.npz.

    This training amplifies rounding (TensorFlow's float32 leaves its float64 by 10% at step
    51), so float32 is followed for 15 steps, float64 for 50 of the 60.
    """
    model = _model(dtype)
    optimizer = optim.Adam(model.parameters(), lr=sine_to_cosine.RATE)
    state = None

    def close(ours, theirs):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())

    with mg.kernels.use(kernel):
        for step in range(steps):
            outputs, state = model(GOLDEN["in/x"][step].astype(dtype), state)
            loss = mg.mse_loss(outputs, GOLDEN["in/y"][step].astype(dtype))
            optimizer.zero_grad()
            loss.backward()
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            close(outputs.numpy(), GOLDEN["steps/outs"][step])
            close(state.numpy(), GOLDEN["steps/final_state"][step])
            if step == 0:
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    close(ours, GOLDEN[f"grad1/{name}"])
            optimizer.step()
            state = state.detach()
            if f"after{step + 1}/rnn_bias" in GOLDEN:
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    close(ours, GOLDEN[f"after{step + 1}/{name}"])


def test_windows_are_those_of_the_golden_and_share_their_ends():
    for step in range(60):
        places, x, y = sine_to_cosine.window(step)
        assert x.shape == y.shape == (1, 10, 1) and x.dtype == y.dtype == np.float32
        np.testing.assert_allclose(x, GOLDEN["in/x"][step], atol=1e-6)
        np.testing.assert_allclose(y, GOLDEN["in/y"][step], atol=1e-6)
        assert places[-1] == pytest.approx(sine_to_cosine.window(step + 1)[0][0], rel=1e-12)


def test_initial_weights_are_glorots():
    models = [sine_to_cosine.SineToCosine(np.random.default_rng(seed)) for seed in range(20)]
    recurrent = np.stack([np.concatenate([m.rnn.w_x, m.rnn.w_h]) for m in models])
    dense = np.stack([m.head.weight.numpy() for m in models])
    for values, limit in ((recurrent, np.sqrt(6 / (33 + 32))), (dense, np.sqrt(6 / 33))):
        assert 0.98 * limit < np.abs(values).max() <= limit
    assert not models[0].rnn.bias.numpy().any() and not models[0].head.bias.numpy().any()


def test_layer_and_cell_are_the_same():
    generator = np.random.default_rng(2)
    model = sine_to_cosine.SineToCosine(generator)
    model.double()
    cell = nn.RNNCell(1, sine_to_cosine.HIDDEN, generator=generator)
    cell.double()
    cell.load_state_dict(model.rnn.state_dict())
    x = generator.standard_normal((1, 10, 1))
    state = mg.tensor(generator.standard_normal((1, 32)))
    outputs, last = model(x, state)
    stepwise, end = nn.unroll(cell, mg.tensor(x), state)
    np.testing.assert_allclose(
        outputs.numpy(), model.head(stepwise).numpy(), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(last.numpy(), end.numpy(), rtol=1e-12, atol=1e-15)


def test_errors_by_point_go_on_with_the_state_or_without():
    """A model that only says what its state tells it."""

    def model(x, state=None):
        state = np.zeros((1, 1)) if state is None else state
        return mg.tensor(np.full((1, 10, 1), state[0, 0])), 1 - state

    carried, zeros = sine_to_cosine.error_by_point(model, np.ones((1, 1)), first=0)
    places = np.linspace(0, np.pi, 10)
    c = np.cos(places)  # windows begin with 1, -1, 1 ...: the state is 1 in those from 1
    np.testing.assert_allclose(carried, np.sqrt(((1 - c) ** 2 + (0 + c) ** 2) / 2), atol=1e-6)
    np.testing.assert_allclose(zeros, np.abs(c), atol=1e-6)


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def unseen(monkeypatch):
    """Pictures are made but not painted, which takes longer than all the rest."""
    monkeypatch.setattr(plot, "save", lambda figure, path: None)


def _run(tmp_path, *arguments):
    sine_to_cosine.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_follows_the_cosine_by_means_of_its_state(tmp_path):
    """Nobody without a memory does better than 0.33: a sine does not say whether it rises."""
    metrics = _run(tmp_path, "--smoke", "--seed", "9")
    assert metrics["steps"] == 60
    assert metrics["metric"]["name"] == "rmse" and metrics["metric"]["value"] < 0.15
    carried, zeros = metrics["rmse_by_point_state_carried"], metrics["rmse_by_point_state_zero"]
    assert carried[0] < 0.2 and zeros[0] > 0.9
    losses = metrics["losses"]
    assert len(losses) == 60 and losses[0] > 0.3
    assert metrics["metric"]["value"] == pytest.approx(np.sqrt(np.mean(losses[-10:])), rel=1e-12)
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"curves.png", "learning_curve.png", "state.png", "metrics.json"}


@pytest.mark.parametrize("steps", ["1", "61"])
def test_pictures_stand_any_number_of_windows(tmp_path, steps):
    assert _run(tmp_path, "--steps", steps)["steps"] == int(steps)


def test_same_seed_same_numbers_on_one_thread_and_two(tmp_path, unseen):
    before = mg.get_num_threads()
    try:
        found = []
        for threads, seed in ((1, "3"), (2, "3"), (2, "4")):
            mg.set_num_threads(threads)
            found.append(_run(tmp_path, "--steps", "20", "--seed", seed)["losses"])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, unseen, kernel):
    assert _run(tmp_path, "--steps", "3", "--kernels", kernel)["kernels"] == kernel


@pytest.mark.parametrize("arguments", [["--steps", "none"], ["--live", "yes"], ["--seed", "-1"]])
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, *arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == "" and said.err.count("\n") == 1
