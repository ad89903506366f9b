"""The network at the documents' size against TensorFlow: sums and norms of what is too large."""

import math
import pathlib

import numpy as np
import pytest

from minigrad import optim
from models import mnist_cnn
from models.mnist_cnn import CNN, loss_of

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "mnist_cnn.npz")
NAMES = ["W_conv1", "b_conv1", "W_conv2", "b_conv2", "W_fc1", "b_fc1", "W_fc2", "b_fc2"]
BOUND = 0.15
pytestmark = pytest.mark.filterwarnings("ignore::minigrad.errors.PatternWarning")


def uniform(stream, count):
    """The goldens' numbers by formula, uniform in [0, 1): splitmix64."""
    x = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 40)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def close(ours, key, rtol):
    """Against the whole array, or its digest: every so many entries, and its 2-norm."""
    if f"{key}#slice" in GOLDEN:
        theirs = GOLDEN[f"{key}#slice"]
        assert ours.shape == tuple(GOLDEN[f"{key}#shape"])
        assert np.linalg.norm(ours) == pytest.approx(float(GOLDEN[f"{key}#l2"]), rel=rtol)
        ours = ours.ravel()[:: GOLDEN[f"{key}#stride"]]
    else:
        theirs = GOLDEN[key]
    np.testing.assert_allclose(ours, theirs, rtol, rtol * np.abs(theirs).max(), err_msg=key)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-4)])
@pytest.mark.parametrize(
    ("variant", "program"), [("as-written", "relu_xent"), ("log-softmax", "log_softmax")]
)
def test_three_steps_as_in_tensorflow(variant, program, dtype, rtol):
    """Losses, the first gradients, the weights after three updates of Adam."""
    model = CNN(np.random.default_rng(0), np.random.default_rng(1))
    if dtype == np.float64:
        model.double()
    for n, (parameter, name) in enumerate(zip(model.parameters(), NAMES, strict=True), start=1):
        shape = parameter.shape
        if name.startswith("b"):
            parameter.data = np.full(shape, 0.1)
        else:
            values = (2 * uniform(n, math.prod(shape)) - 1) * BOUND
            if f"full/init/{name}#first16" in GOLDEN:
                np.testing.assert_array_equal(values[:16], GOLDEN[f"full/init/{name}#first16"])
            parameter.data = values.reshape(shape)
    model.eval()
    optimizer = optim.Adam(model.parameters(), lr=mnist_cnn.RATE)
    for step, (pixels, labels) in enumerate(zip(GOLDEN["in/x_256"], GOLDEN["in/y"], strict=True)):
        logits = model((pixels / 256).reshape(-1, 28, 28, 1).astype(dtype))
        loss = loss_of(logits, labels, variant)
        assert loss.dtype == dtype
        assert loss.item() == pytest.approx(GOLDEN[f"full_{program}/loss"][step], rel=rtol)
        optimizer.zero_grad()
        loss.backward()
        norm = np.sqrt(sum(np.square(p.grad.numpy()).sum() for p in model.parameters()))
        assert norm == pytest.approx(GOLDEN[f"full_{program}/grad_global_norm"][step], rel=rtol)
        if step == 0:
            for parameter, name in zip(model.parameters(), NAMES):
                close(parameter.grad.numpy(), f"full_{program}/grad1/{name}", 5 * rtol)
        optimizer.step()
    if dtype == np.float64:  # in float32 rounding decides where a gradient is nearly zero
        for parameter, name in zip(model.parameters(), NAMES):
            close(parameter.numpy(), f"full_{program}/after3/{name}", rtol)
