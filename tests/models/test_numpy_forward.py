"""The forward propagation by hand: the document's numbers, their gradients, the command line."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import plot
from models import numpy_forward
from models.numpy_forward import B_OUT, BIAS, W_H, W_OUT, W_X

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "numpy_forward.npz")


def _run(tmp_path, *arguments):
    numpy_forward.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_weights_are_the_documents():
    np.testing.assert_array_equal(W_X[0], GOLDEN["init/w_cell_input"])
    np.testing.assert_array_equal(W_H, GOLDEN["init/w_cell_state"])
    np.testing.assert_array_equal(BIAS, GOLDEN["init/b_cell"])
    np.testing.assert_array_equal(W_OUT, GOLDEN["init/w_output"])
    np.testing.assert_array_equal(B_OUT, GOLDEN["init/b_output"])


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
def test_engine_gives_the_documents_numbers(kernel):
    inputs = GOLDEN["in/X"][:, None].astype(float)
    model = numpy_forward.Network()
    exact = {"rtol": 1e-14, "atol": 0}
    with mg.kernels.use(kernel):
        steps = model.written_out(inputs)
        for name, kept in (("before_activation", steps.z), ("state", steps.h), ("output", steps.o)):
            np.testing.assert_allclose(mg.concat(kept).numpy(), GOLDEN[name], **exact)
        np.testing.assert_allclose(mg.concat(steps.h).numpy(), GOLDEN["tf_state"], **exact)
        for outputs in (model(inputs, mg.tensor(np.zeros((1, 2)))), model.fused(inputs)):
            assert outputs.dtype == np.float64
            np.testing.assert_allclose(outputs.numpy(), GOLDEN["output"], **exact)


def test_prints_the_documents_numbers_to_the_last_digit(tmp_path, capsys):
    metrics = _run(tmp_path)
    said = capsys.readouterr().out
    for name in ("before_activation", "state", "output"):
        for row in GOLDEN[name]:
            assert str(row) in said, row
    assert "All gradients agree" in said
    assert metrics["steps"] == 2
    assert metrics["metric"] == {"name": "last_output", "value": float(GOLDEN["output"][-1, 0])}
    assert metrics["outputs"] == GOLDEN["output"][:, 0].tolist()
    assert (tmp_path / "unrolled.png").read_bytes().startswith(b"\x89PNG")


def _by_hand(count):
    """Back-propagation through time of the sum of the outputs, in NumPy; inputs 1, 2 ..."""
    h = [np.zeros(2)]
    for x in range(1, count + 1):
        h.append(np.tanh(x * W_X[0] + h[-1] @ W_H + BIAS))
    d_h, d_z = np.zeros((count, 2)), np.zeros((count, 2))
    back = np.zeros(2)
    for t in reversed(range(count)):
        d_h[t] = W_OUT[:, 0] + back
        d_z[t] = d_h[t] * (1 - h[t + 1] ** 2)
        back = d_z[t] @ W_H.T
    weights = {
        "cell.w_x": np.arange(1, count + 1)[None] @ d_z, "cell.w_h": np.array(h[:-1]).T @ d_z,
        "cell.bias": d_z.sum(axis=0), "head.weight": np.sum(h[1:], axis=0)[:, None],
        "head.bias": np.array([count]),
    }  # fmt: skip
    return d_h, d_z, weights


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_gradients_are_those_of_bptt_by_hand(tmp_path, capsys, monkeypatch, count):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    d_h, d_z, weights = _by_hand(count)
    model = numpy_forward.Network()
    slopes = numpy_forward.gradients(model.written_out(np.arange(1.0, count + 1)[:, None]))
    np.testing.assert_allclose(mg.concat(slopes.h).numpy(), d_h, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(mg.concat(slopes.z).numpy(), d_z, rtol=1e-9, atol=1e-15)
    assert all(o.numpy() == 1 for o in slopes.o)
    metrics = _run(tmp_path, "--steps", str(count))
    for name, gradient in weights.items():
        np.testing.assert_allclose(metrics["gradients"][name], gradient, rtol=1e-9, atol=1e-15)
    parts = capsys.readouterr().out.split("sum over the steps")[1].splitlines()[1 : count + 1]
    assert parts[0] == "  step 1: [0. 0.], [0. 0.]"
    total = sum(np.array([float(n) for n in _numbers_of(part)]) for part in parts)
    np.testing.assert_allclose(total, weights["cell.w_h"].ravel(), atol=1e-6)


def _numbers_of(line):
    return line.split(":")[1].replace("[", " ").replace("]", " ").replace(",", " ").split()


@pytest.mark.parametrize("count", [1, 4])
def test_the_picture_has_room(tmp_path, count):
    _run(tmp_path, "--steps", str(count), "--smoke")
    assert (tmp_path / "unrolled.png").stat().st_size > 10_000


def test_the_picture_shows_values_and_gradients():
    model = numpy_forward.Network()
    steps = model.written_out(np.array([[1.0], [2.0]]))
    figure = numpy_forward.unrolled_figure(steps, numpy_forward.gradients(steps))
    said = [text.get_text() for text in figure.axes[0].texts]
    for wanted in (
        "0.5370, 0.4621", "0.8597, 0.8837", "1.5613", "2.7271",  # h, o
        "1.1137, 2.2536", "0.1137, 0.2536", "0.7925, 1.7723",  # dL/dh_1, its part, dL/dz_1
        "L = sum of the outputs = 4.2884",
    ):  # fmt: skip
        assert wanted in said, wanted


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--steps", "two"], ["--live"]])
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, *arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == "" and said.err.count("\n") == 1


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, monkeypatch, kernel):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    assert _run(tmp_path, "--kernels", kernel)["kernels"] == kernel
