"""The straight line: TensorFlow's numbers, its error surface, its gate."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim, plot
from models import linear_regression as model_file
from models.linear_regression import HEIGHT, NOISE, SLOPE, Line, mean_error, travelled

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "linear_regression.npz")


def _line(dtype):
    line = Line(np.random.default_rng(0))
    if dtype == np.float64:
        line.double()
    line.k.data, line.b.data = GOLDEN["init/k"].astype(dtype), GOLDEN["init/b"].astype(dtype)
    return line


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(np.float64, 1e-9, 0), (np.float32, 0, 2e-6)])
def test_a_hundred_steps_as_in_tensorflow(dtype, rtol, atol, kernel):
    """k, b and the loss before every update: goldens/linear_regression.npz."""
    line = _line(dtype)
    optimizer = optim.SGD(line.parameters(), lr=model_file.RATE)
    with mg.kernels.use(kernel):
        for step, (x, y) in enumerate(zip(GOLDEN["in/x"], GOLDEN["in/y"])):
            for ours, name in ((line.k, "k"), (line.b, "b")):
                assert ours.shape == () and ours.dtype == dtype
                theirs = GOLDEN[f"steps/{name}_before"][step]
                assert ours.item() == pytest.approx(theirs, rel=rtol, abs=atol)
            loss = mg.square(line(float(x)) - float(y))
            assert loss.dtype == dtype
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol, abs=10 * atol)
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                assert line.k.grad.item() == pytest.approx(GOLDEN["grad1/k"], rel=rtol, abs=atol)
                assert line.b.grad.item() == pytest.approx(GOLDEN["grad1/b"], rel=rtol, abs=atol)
            optimizer.step()
    assert step == 99
    assert line.k.item() == pytest.approx(GOLDEN["after100/k"], rel=rtol, abs=atol)
    assert line.b.item() == pytest.approx(GOLDEN["after100/b"], rel=rtol, abs=atol)


def test_a_number_starts_as_tensorflow_starts_it():
    lines = [Line(np.random.default_rng(seed)) for seed in range(200)]
    values = np.array([(line.k.item(), line.b.item()) for line in lines])
    assert np.abs(values).max() <= np.sqrt(3) and (np.abs(values).max(axis=0) > 1.6).all()
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.2


def test_a_step_leaves_the_line_off_by_x_squared_on_the_other_side():
    """What the docstring says about the rate 0.5, and about 1."""
    for rate, factor in ((0.5, lambda x: -(x**2)), (1.0, lambda x: -1 - 2 * x**2)):
        for x in (0.0, 0.3, 1.0):
            line = _line(np.float64)
            before = (line(x) - 1.0).item()
            mg.square(line(x) - 1.0).backward()
            optim.SGD(line.parameters(), lr=rate).step()
            assert (line(x) - 1.0).item() == pytest.approx(factor(x) * before, abs=1e-12)


def test_the_error_surface_is_the_mean_over_all_points():
    x = np.random.default_rng(0).random(400_000)
    for k, b in ((3.0, -1.0), (1.2, 0.5), (3.5, -1.3)):
        sampled = np.mean((k * x + b - (SLOPE * x + HEIGHT)) ** 2) + NOISE**2
        assert mean_error(k, b) == pytest.approx(sampled, rel=2e-2)
    h = 1e-3  # its curvature, by central differences

    def at(i, j):
        return mean_error(SLOPE + i * h, HEIGHT + j * h)

    mixed = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    kk, bb = (at(i, j) + at(-i, -j) - 2 * at(0, 0) for i, j in ((1, 0), (0, 1)))
    hessian = np.array([[kk, mixed], [mixed, bb]]) / h**2
    np.testing.assert_allclose(hessian, model_file.CURVATURE, rtol=1e-5)


def test_ways_along_and_across_the_valley():
    flat, steep = np.linalg.eigh(model_file.CURVATURE)[1].T
    to_and_fro = np.array([0 * flat, 2 * flat + steep, 3 * flat - steep, 2.5 * flat])
    assert travelled(to_and_fro) == (pytest.approx(2.5), pytest.approx(4))


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    model_file.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


@pytest.mark.parametrize("seed", ["0", "1"])
def test_gate_finds_the_line(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    metrics = _run(tmp_path, "--smoke", "--seed", seed)
    assert metrics["steps"] == 100
    assert metrics["metric"]["name"] == "worse_of_k_and_b" and metrics["metric"]["value"] < 0.03
    assert metrics["metric"]["value"] == max(abs(metrics["k"] - 3), abs(metrics["b"] + 1))
    assert metrics["losses"][0] > 0.01 > metrics["losses"][-1]


def test_the_document_prints_every_20_steps(tmp_path, capsys):
    _run(tmp_path)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("k ")]
    assert len(said) == 5


def test_a_rate_of_1_leads_away_and_can_still_be_drawn(tmp_path):
    assert _run(tmp_path, "--rate", "1", "--steps", "40")["metric"]["value"] > 10
    assert {path.name for path in tmp_path.glob("*.[pj]*")} == {
        "surface.png", "learning.png", "metrics.json",
    }  # fmt: skip
