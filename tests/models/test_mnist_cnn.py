"""The convolutional network on MNIST: TensorFlow's numbers, both mistakes, its flags, its gate."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import PatternWarning
from models import mnist_cnn as model_file
from models.mnist_cnn import CNN, VARIANTS, ink, loss_of, named

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "mnist_cnn.npz")
PROGRAMS = {
    "as-written": "small_relu_xent", "corrected": "small_xent", "log-softmax": "small_log_softmax",
    "from-logits": "small_log_softmax",  # the same numbers while nothing underflows
}  # fmt: skip
NAMES = ["W_conv1", "b_conv1", "W_conv2", "b_conv2", "W_fc1", "b_fc1", "W_fc2", "b_fc2"]
pytestmark = pytest.mark.filterwarnings("ignore::minigrad.errors.PatternWarning")


@pytest.fixture(autouse=True)
def packaged_images(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


def small(dtype):
    """The network in TensorFlow's small sizes, with its weights, dropout off."""
    model = CNN(np.random.default_rng(0), np.random.default_rng(1), (4, 8), 16)
    if dtype == np.float64:
        model.double()
    for parameter, name in zip(model.parameters(), NAMES, strict=True):
        parameter.data = GOLDEN[f"small/init/{name}"].astype(dtype)
    return model.eval()


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-4)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_steps_as_in_tensorflow(variant, dtype, rtol):
    program = PROGRAMS[variant]
    model = small(dtype)
    optimizer = optim.Adam(model.parameters(), lr=model_file.RATE)
    for step, (pixels, labels) in enumerate(zip(GOLDEN["in/x_256"], GOLDEN["in/y"], strict=True)):
        images = (pixels / 256).reshape(-1, 28, 28, 1).astype(dtype)
        logits = model(images)
        loss = loss_of(logits, labels, variant)
        assert loss.dtype == dtype
        assert loss.item() == pytest.approx(float(GOLDEN[f"{program}/loss"][step]), rel=rtol)
        right = (named(logits.numpy(), variant) == labels).sum()
        assert right == GOLDEN[f"{program}/steps/n_correct"][step]
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for parameter, name in zip(model.parameters(), NAMES):
                theirs = GOLDEN[f"{program}/grad1/{name}"]
                np.testing.assert_allclose(
                    parameter.grad.numpy(), theirs, rtol=rtol, atol=rtol * np.abs(theirs).max()
                )
        optimizer.step()
    for parameter, name in zip(model.parameters(), NAMES):
        theirs = GOLDEN[f"{program}/after3/{name}"]
        # Adam's first steps have the size of the rate whatever the gradient: rounding that
        # turns the sign of one that is nearly zero shows
        np.testing.assert_allclose(
            parameter.numpy(), theirs, rtol=rtol, atol=1e-9 if dtype == np.float64 else 1e-4
        )


def test_minigrad_warns_of_both_mistakes_and_of_nothing_else(recwarn):
    logits = mg.tensor(np.zeros((1, 10)), requires_grad=True)
    for variant in ("corrected", "from-logits"):
        loss_of(logits, np.array([3]), variant)
    assert not [w for w in recwarn if issubclass(w.category, PatternWarning)]
    with pytest.warns(PatternWarning, match="relu"):
        loss_of(logits, np.array([3]), "as-written")
    with pytest.warns(PatternWarning, match="log of softmax"):
        loss_of(logits, np.array([3]), "log-softmax")


def test_sizes_and_where_the_weights_start():
    model = CNN(np.random.default_rng(2), np.random.default_rng(3))
    assert [p.shape for p in model.parameters()] == [
        (5, 5, 1, 32), (32,), (5, 5, 32, 64), (64,), (3136, 1024), (1024,), (1024, 10), (10,),
    ]  # fmt: skip
    for parameter in model.parameters():
        values = parameter.numpy()
        if parameter.ndim == 1:
            assert (values == np.float32(0.1)).all()
        else:
            assert np.abs(values).max() <= 0.2 and np.abs(values).max() > 0.15
    images = ink(np.full((2, 28, 28), 255, np.uint8))
    assert images.dtype == np.float32 and images.max() == 1
    first, second = model.maps(images)
    assert first.shape == (2, 14, 14, 32) and second.shape == (2, 7, 7, 64)
    assert model(images).shape == (2, 10)


def test_dropout_is_off_in_evaluation():
    model = CNN(np.random.default_rng(2), np.random.default_rng(3))
    image = np.zeros((1, 28, 28), np.uint8)
    assert (model(ink(image)).numpy() != model(ink(image)).numpy()).any()
    a, b = (model_file.logits_of(model, image) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert model.training


@pytest.mark.parametrize(
    "variant",
    ["as-written", *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS
                     if name != "as-written")],
)  # fmt: skip
def test_smoke(variant, tmp_path):
    model_file.main(["--smoke", "--out", str(tmp_path), "--variant", variant])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model"] == "mnist_cnn" and metrics["metric"]["name"] == "test_accuracy"
    assert metrics["variant"] == variant and metrics["batch"] == VARIANTS[variant].batch
    assert len(metrics["losses"]) == model_file.SMOKE_STEPS
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {
        "accuracy.png", "filters.png", "feature_maps.png", "confusion.png", "worst.png"
    }  # fmt: skip


def test_it_learns(tmp_path):
    """A gate: 30 small batches name two of three of the packaged test images."""
    model_file.main(["--steps", "60", "--batch", "32", "--out", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["metric"]["value"] > 0.6


def test_a_wrong_variant_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        model_file.main(["--variant", "nonsense"])
    assert stopped.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err
