"""Softmax and its losses against TensorFlow's numbers: goldens/ops_misc.npz."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import PatternWarning

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_misc.npz")
Z, UPSTREAM = GOLDEN["softmax/z"], GOLDEN["softmax/upstream"]
TARGETS = {
    "sparse": GOLDEN["softmax/labels"],
    "onehot": np.eye(5)[GOLDEN["softmax/labels"]],
    "soft": GOLDEN["softmax/soft_labels"],
    "unnormalised": GOLDEN["softmax/unnormalised_labels"],
}


def loss_and_gradient(target):
    z = mg.Tensor(Z, requires_grad=True)
    rows = mg.cross_entropy(z, target, reduction="none")
    return rows.array, mg.grad(rows, z, UPSTREAM)[0].array


def test_softmax():
    np.testing.assert_allclose(mg.softmax(Z).array, GOLDEN["softmax/softmax"], rtol=1e-14)
    np.testing.assert_allclose(mg.log_softmax(Z).array, GOLDEN["softmax/log_softmax"], rtol=1e-13)


@pytest.mark.parametrize("kind", ["sparse", "onehot", "soft"])
def test_cross_entropy(kind):
    rows, gradient = loss_and_gradient(TARGETS[kind])
    np.testing.assert_allclose(rows, GOLDEN[f"xent_{kind}/loss"], rtol=1e-13)
    np.testing.assert_allclose(gradient, GOLDEN[f"xent_{kind}/dlogits"], rtol=1e-12, atol=1e-16)


def test_targets_that_do_not_sum_to_one_have_the_true_gradient():
    """The loss is TensorFlow's; the gradient is not, and this says by how much.

    d/dz of -sum(y log_softmax(z)) is sum(y) softmax(z) - y.  TensorFlow leaves sum(y) out, so
    its result is no gradient of its loss; ours is, as central differences show.
    """
    target = TARGETS["unnormalised"]
    rows, gradient = loss_and_gradient(target)
    np.testing.assert_allclose(rows, GOLDEN["xent_unnormalised/loss"], rtol=1e-13)
    theirs = GOLDEN["xent_unnormalised/dlogits"]
    left_out = UPSTREAM[:, None] * (target.sum(1, keepdims=True) - 1) * GOLDEN["softmax/softmax"]
    np.testing.assert_allclose(gradient, theirs + left_out, rtol=1e-11, atol=1e-15)
    assert np.abs(left_out).max() > 0.1  # so the two do differ here
    step = 1e-6 * np.random.default_rng(0).standard_normal(Z.shape)
    ends = [mg.cross_entropy(Z + s, target, reduction="none").array for s in (step, -step)]
    along = np.sum(UPSTREAM * (ends[0] - ends[1])) / 2
    assert np.sum(gradient * step) == pytest.approx(along, rel=1e-6)
    assert np.sum(theirs * step) != pytest.approx(along, rel=0.05)


def test_softmax_twice():
    z = mg.Tensor(Z[:4], requires_grad=True)
    with pytest.warns(PatternWarning, match="softmax twice"):
        loss = mg.cross_entropy(mg.softmax(z), TARGETS["sparse"][:4])
    loss.backward()
    np.testing.assert_allclose(loss.item(), GOLDEN["double_softmax/loss"], rtol=1e-14)
    np.testing.assert_allclose(z.grad.array, GOLDEN["double_softmax/dz"], rtol=1e-11, atol=1e-17)
