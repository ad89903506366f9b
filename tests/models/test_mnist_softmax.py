"""Softmax regression on MNIST: TensorFlow's numbers, the NaN trap, its gate."""

import json
import math
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim, plot
from minigrad.data import load_mnist
from minigrad.errors import PatternWarning
from models import mnist_softmax as model_file
from models.mnist_softmax import Softmax, Trained, accuracy, ink, loss_of, losses_by_std

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "mnist_softmax.npz")
IMAGES = GOLDEN["in/x_256"] / 256  # (S, N, 784), one entry a step
LABELS = GOLDEN["in/y_onehot"].argmax(axis=2)
pytestmark = pytest.mark.filterwarnings("ignore::minigrad.errors.PatternWarning")


@pytest.fixture(autouse=True)
def packaged_images(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


def _model(dtype=np.float64):
    """The model with the golden's initial weights."""
    model = Softmax(1.0, np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    model.dense.weight.data, model.dense.bias.data = GOLDEN["init/W"], GOLDEN["init/b"][0]
    return model


def _close(ours, key, rtol):
    """Against the whole array, or its digest: every so many entries, and its 2-norm."""
    if f"{key}#slice" in GOLDEN:
        theirs = GOLDEN[f"{key}#slice"]
        assert ours.shape == tuple(GOLDEN[f"{key}#shape"])
        assert np.linalg.norm(ours) == pytest.approx(float(GOLDEN[f"{key}#l2"]), rel=rtol)
        ours = ours.ravel()[:: GOLDEN[f"{key}#stride"]]
    else:
        theirs = GOLDEN[key]
    np.testing.assert_allclose(
        ours.reshape(theirs.shape), theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(), err_msg=key
    )


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
@pytest.mark.parametrize("variant", ["as-written", "corrected"])
def test_three_steps_as_in_tensorflow(variant, dtype, rtol, kernel):
    """Losses, predictions, gradients, weights: goldens/mnist_softmax.npz.

    Both ways to write the loss have the same gradients while nothing underflows.
    """
    model = _model(dtype)
    optimizer = optim.SGD(model.parameters(), lr=model_file.RATE)
    weight, bias = model.dense.weight, model.dense.bias
    with mg.kernels.use(kernel):
        for step, (x, labels) in enumerate(zip(IMAGES, LABELS, strict=True)):
            logits = model(x.astype(dtype))
            loss = loss_of(logits, labels, variant)
            assert loss.dtype == dtype
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            right = (logits.numpy().argmax(axis=1) == labels).mean()
            assert step == 0 or right > 0 and step < 3
            optimizer.zero_grad()
            loss.backward()
            norm = np.sqrt(np.square(weight.grad).sum() + np.square(bias.grad).sum()).item()
            assert norm == pytest.approx(GOLDEN["grad_global_norm"][step], rel=rtol)
            if step == 0:
                _close(mg.softmax(logits).numpy(), "step1/prediction", rtol)
                _close(weight.grad.numpy(), "grad1/W", rtol)
                _close(bias.grad.numpy(), "grad1/b", rtol)
            optimizer.step()
            assert weight.dtype == dtype
            _close(weight.array, f"after{step + 1}/W", rtol)
            _close(bias.array, f"after{step + 1}/b", rtol)


def test_underflow_makes_the_written_loss_nan_and_leaves_the_corrected_one():
    logits = mg.tensor(np.array([[200.0, 0.0] + [50.0] * 8], np.float32), requires_grad=True)
    with np.errstate(all="ignore"):
        for labels in (np.array([0]), np.array([1])):  # right, and wrong
            written = loss_of(logits, labels, "as-written")
            assert not math.isfinite(written.item())
            written.backward()
            assert np.isnan(logits.grad.numpy()).any()
            logits.grad = None
            corrected = loss_of(logits, labels, "corrected")
            assert corrected.item() == pytest.approx(200 * labels[0], abs=1e-4)
            corrected.backward()
            assert np.isfinite(logits.grad.numpy()).all()
            logits.grad = None


def test_minigrad_warns_of_the_document_and_not_of_the_correction(recwarn):
    logits = mg.tensor(np.zeros((1, 10)), requires_grad=True)
    loss_of(logits, np.array([3]), "corrected")
    assert not [w for w in recwarn if issubclass(w.category, PatternWarning)]
    with pytest.warns(PatternWarning, match="log of softmax"):
        loss_of(logits, np.array([3]), "as-written")


def test_losses_by_std_scale_the_same_weights():
    data = load_mnist()
    images, labels = data.test_images[:50], data.test_labels[:50]
    stds = np.array([0.5, 1.0, 6.0])
    written, corrected = (
        losses_by_std(stds, images, labels, variant, np.random.default_rng(3))
        for variant in ("as-written", "corrected")
    )
    np.testing.assert_allclose(written[:2], corrected[:2], rtol=1e-5)
    assert np.isnan(written[2]) and np.isfinite(corrected).all()
    model = Softmax(1.0, np.random.default_rng(3))
    assert corrected[1] == pytest.approx(loss_of(model(ink(images)), labels, "corrected").item())


def test_where_the_weights_start():
    noisy, zeros = (Softmax(std, np.random.default_rng(2)).dense for std in (1.0, 0.0))
    assert noisy.weight.shape == (784, 10) and noisy.weight.dtype == np.float32
    assert abs(noisy.weight.numpy().std() - 1) < 0.03
    assert not zeros.weight.numpy().any()
    assert (noisy.bias.numpy() == np.float32(0.1)).all()


def test_how_much_of_the_noise_is_left():
    generator = np.random.default_rng(0)
    noise, learned = generator.standard_normal((2, 784, 10))
    learned -= noise * (learned * noise).sum() / (noise * noise).sum()  # at a right angle

    def left(before, after):
        return Trained(np.ones(1), [(0, 0.5)], before, after).noise_left

    assert left(noise, noise) == pytest.approx(1)
    assert left(noise, 0.25 * noise + learned) == pytest.approx(0.25)
    assert left(0 * noise, learned) == 0


def test_accuracy_and_ink():
    data = load_mnist()
    model = Softmax(1.0, np.random.default_rng(0))
    images = data.test_images[:70]
    assert ink(images).dtype == np.float32 and ink(images).shape == (70, 784)
    assert ink(images).min() == 0 and ink(images).max() == 1
    answers = model(ink(images)).numpy().argmax(axis=1)
    assert accuracy(model, images, answers) == 1
    assert accuracy(model, images, (answers + 1) % 10) == 0


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    model_file.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_zeros_are_ahead_and_both_losses_agree(tmp_path, capsys):
    metrics = _run(tmp_path, "--smoke", "--seed", "1")
    reached, left = metrics["test_accuracies"], metrics["noise_left"]
    assert metrics["steps"] == 300 and metrics["training_images"] == 5500
    assert metrics["metric"] == {"name": "test_accuracy", "value": reached["as-written"]}
    assert 0.6 < reached["as-written"] < 0.82 and reached["zeros"] > 0.84  # 0.1 is guessing
    assert reached["corrected"] == pytest.approx(reached["as-written"], abs=0.005)
    assert 0.9 < left["corrected"] < 1 and left["zeros"] == 0
    said = capsys.readouterr()
    assert said.out.count("PatternWarning: log of softmax") == 1 and "Warning" not in said.err
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"accuracy.png", "weights.png", "trap.png", "metrics.json"}


def test_the_trap_ends_the_training_that_walks_into_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    metrics = _run(tmp_path, "--std", "8", "--steps", "3", "--variant", "as-written")
    assert "step 0: the loss is nan" in capsys.readouterr().out
    assert metrics["steps"] == 1 and metrics["noise_left"]["as-written"] == pytest.approx(1)
    assert _run(tmp_path, "--std", "8", "--steps", "3", "--variant", "corrected")["steps"] == 3


@pytest.mark.slow
def test_whole_run_on_the_packaged_images(tmp_path):
    reached = _run(tmp_path)["test_accuracies"]
    assert reached["as-written"] > 0.84 and reached["zeros"] > 0.9
