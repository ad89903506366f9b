"""The parabola: TensorFlow's numbers, where the bends are, its gate."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim, plot
from models import curve_regression as model_file
from models.curve_regression import Bent

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "curve_regression.npz")


def _model(dtype):
    model = Bent(np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    model.hidden.weight.data, model.hidden.bias.data = GOLDEN["init/W1"], GOLDEN["init/b1"][0]
    model.output.weight.data, model.output.bias.data = GOLDEN["init/W2"], GOLDEN["init/b2"][0]
    return model


def _by_tensorflow_name(model, value):
    yield "W1", value(model.hidden.weight)
    yield "b1", value(model.hidden.bias)[None]
    yield "W2", value(model.output.weight)
    yield "b2", value(model.output.bias)[None]


@pytest.mark.parametrize(
    ("kernel", "dtype", "rtol", "steps"),
    [
        ("numba", np.float64, 1e-9, 1000),
        ("numba", np.float32, 1e-4, 1000),
        ("numpy", np.float64, 1e-9, 20),
    ],
)
def test_a_thousand_steps_as_in_tensorflow(kernel, dtype, rtol, steps):
    """Losses, predictions, gradients, weights: goldens/curve_regression.npz."""
    model = _model(dtype)
    optimizer = optim.SGD(model.parameters(), lr=model_file.RATE)
    x, y = GOLDEN["in/x"].astype(dtype), GOLDEN["in/y"].astype(dtype)

    def close(ours, key):
        assert ours.dtype == dtype
        theirs = GOLDEN[key]
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())

    with mg.kernels.use(kernel):
        for step in range(steps):
            predicted = model(x)
            loss = mg.mse_loss(predicted, y)
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                close(predicted.numpy(), "step1/prediction")
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    close(ours, f"grad1/{name}")
            optimizer.step()
            if step + 1 in (1, 2, 3, 1000):
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    close(ours, f"after{step + 1}/{name}")


def test_points_are_the_documents():
    x, y = model_file.points(np.random.default_rng(1))
    assert x.shape == y.shape == (300, 1) and x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x, GOLDEN["in/x"])
    noise = y - (x**2 - 0.5)
    assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(0.05, rel=0.1)


def test_initial_weights_are_the_documents():
    models = [Bent(np.random.default_rng(seed)) for seed in range(60)]
    for name in ("hidden", "output"):
        weights = np.stack([getattr(model, name).weight.numpy() for model in models])
        assert abs(weights.mean()) < 0.1 and weights.std() == pytest.approx(1, rel=0.1)
        assert (getattr(models[0], name).bias.numpy() == np.float32(0.1)).all()


def test_the_line_is_straight_between_its_bends():
    model = _model(np.float64)
    bends = np.sort(model.bends())
    ends = np.array([bends[0] - 1, *bends, bends[-1] + 1])

    def slope(at, width=1e-4):
        y = model(np.array([[at - width], [at + width]])).numpy()[:, 0]
        return (y[1] - y[0]) / (2 * width)

    for left, right in zip(ends[:-1], ends[1:]):
        third = (right - left) / 3
        if third > 1e-3:
            assert slope(left + third) == pytest.approx(slope(right - third), rel=1e-6)
    turns = [abs(slope(at + 2e-4) - slope(at - 2e-4)) for at in bends]
    assert min(turns) > 1e-3  # every unit does bend the line


def test_a_unit_without_a_weight_bends_nowhere():
    model = _model(np.float32)
    model.hidden.weight.array[0, 3] = 0
    assert np.isinf(model.bends()[3]) and np.isfinite(np.delete(model.bends(), 3)).all()


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    model_file.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_bends_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    metrics = _run(tmp_path, "--smoke", "--seed", "1")
    assert metrics["steps"] == 200 and metrics["metric"]["name"] == "loss"
    assert metrics["loss_of_parabola"] == pytest.approx(0.0025, rel=0.3)
    assert metrics["metric"]["value"] < 0.006 < 0.1 < metrics["first_loss"]


def test_it_prints_every_50_steps_and_draws_what_it_says(tmp_path, capsys):
    metrics = _run(tmp_path, "--steps", "101")
    said = capsys.readouterr().out
    assert [f"step {step}:" in said for step in (0, 50, 100, 150)] == [True, True, True, False]
    assert f"{metrics['metric']['value']:.4g}" in said
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"fit.png", "bends.png", "metrics.json"}
