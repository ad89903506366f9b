"""Warnings about softmax twice, log of softmax and relu on logits: when, where, when not."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import PatternWarning

RNG = np.random.default_rng(0)
IDS = np.array([0, 2, 1, 1])


def logits(*shape, dtype=np.float32):
    return mg.Tensor(RNG.standard_normal(shape or (4, 3)).astype(dtype), requires_grad=True)


def warned(function, *args, **kwargs):
    """Texts of the PatternWarnings of a call, with the last one's file and line."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function(*args, **kwargs)
    return [str(w.message) for w in found if w.category is PatternWarning]


ROWS_KEPT = {
    "none": lambda p: p,
    "reshape": lambda p: p.reshape(2, 2, 3).reshape(4, 3),
    "astype": lambda p: p.astype(np.float64),
    "rows turned": lambda p: p.reshape(2, 2, 3).permute(1, 0, 2).reshape(4, 3),
    "transposed twice": lambda p: p.unsqueeze(0).swapaxes(0, 1).squeeze(1),
    "flip": lambda p: p.flip(1),
    "rows picked": lambda p: p[np.array([3, 2, 1, 0])],
    "a mask of rows": lambda p: p[np.ones(4, bool)],
    "slices": lambda p: p[::-1],
    "all but a new axis": lambda p: p[None, :, :].squeeze(0),
    "ellipsis": lambda p: p[1:, ...][np.array([0, 1, 2, 0])],
    "unstacked": lambda p: p.reshape(1, 4, 3).unstack(0)[0],
    "split": lambda p: p.broadcast_to(2, 4, 3).split(2)[1][0],
    "last step": lambda p: p.broadcast_to(2, 4, 3).swapaxes(0, 1)[:, -1, :],
    "ellipsis before": lambda p: p[..., 1:3, :][np.array([0, 1, 1, 0])],
    "broadcast": lambda p: mg.broadcast_to(p[0], (4, 3)),
    "identity": lambda p: mg.apply(mg.functional.ops.identity, p),
}
ROWS_LOST = {
    "transposed": lambda p: p.reshape(3, 4).T,
    "reversed axes": lambda p: mg.transpose(p.reshape(3, 4)),
    "cut": lambda p: mg.concat([p, p], 1)[:, :3],
    "classes picked": lambda p: p[:, np.array([0, 1, 1])],
    "classes turned around": lambda p: p[:, ::-1],
    "one class, repeated": lambda p: p[:, 1].broadcast_to(3, 4).T,
    "a new axis at the end": lambda p: p[:, 0, None].broadcast_to(4, 3),
    "ellipsis first": lambda p: p[..., :3],
    "other rows": lambda p: p.reshape(2, 6).reshape(4, 3),
    "unstacked classes": lambda p: p.reshape(4, 3, 1).broadcast_to(4, 3, 3).unstack(2)[0],
    "split classes": lambda p: p.split(1, 1)[0].broadcast_to(4, 3),
    "times": lambda p: p * 4,
    "plus logits": lambda p: p + 1.0,
    "detached": lambda p: p.detach(),
}


@pytest.mark.parametrize("move", ROWS_KEPT.values(), ids=ROWS_KEPT)
def test_softmax_twice(move):
    p = mg.softmax(logits())
    (text,) = warned(mg.cross_entropy, move(p), IDS)
    assert text.startswith("softmax twice: cross_entropy (at test_patterns.py:")
    assert "softmax (made at test_patterns.py:" in text and "with 3 classes" in text
    assert "0.576 at most" in text and "below 0.551" in text and "what goes into" in text


@pytest.mark.parametrize("move", ROWS_LOST.values(), ids=ROWS_LOST)
def test_what_is_not_rows_of_a_softmax_any_more(move):
    p = mg.softmax(logits())
    assert not warned(mg.cross_entropy, move(p), IDS)


def test_the_bound_that_the_warning_names():
    """The best probabilities there are, one for the true class, still cost that much."""
    best = mg.tensor(np.eye(3, dtype=np.float32))
    assert mg.cross_entropy(best, np.arange(3)).item() == pytest.approx(0.551, abs=5e-4)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_only_a_softmax_over_the_classes_counts(axis):
    for p in (mg.softmax(logits(), axis), mg.softmax(logits(), axis=axis), logits().softmax(axis)):
        assert len(warned(mg.cross_entropy, p, IDS)) == (axis in (1, -1))


@pytest.mark.parametrize("log", [mg.log, np.log, lambda p: p.log()])
@pytest.mark.parametrize("move", [*ROWS_KEPT.values(), ROWS_LOST["transposed"],
                                  lambda p: p[np.arange(4), IDS], lambda p: p[..., 0]])  # fmt: skip
def test_log_of_softmax(move, log):
    p = mg.softmax(logits(), axis=0)
    (text,) = warned(log, move(p))
    assert text.startswith("log of softmax: log (at test_patterns.py:")
    assert "made at test_patterns.py:" in text and "log_softmax" in text


def test_the_underflow_that_the_warning_names():
    x = mg.Tensor(np.array([0, -104], np.float32), requires_grad=True)
    with np.errstate(all="ignore"):
        assert mg.softmax(x).array[1] == 0 and np.isfinite(mg.log_softmax(x).array).all()


@pytest.mark.parametrize("relu", [mg.relu, nn.Sequential(mg.relu), lambda x: x.relu().T.T])
def test_relu_on_logits(relu):
    (text,) = warned(mg.cross_entropy, relu(logits()), IDS)
    assert text.startswith("relu on logits: cross_entropy (at test_patterns.py:")
    assert "what goes into the relu" in text


RIGHT = {
    "plain": lambda z: mg.cross_entropy(z, IDS),
    "log_softmax": lambda z: mg.cross_entropy(mg.log_softmax(z), IDS),
    "attention": lambda z: mg.cross_entropy(mg.softmax(z) @ logits(3, 3), IDS),
    "relu below": lambda z: mg.cross_entropy(mg.relu(z) @ logits(3, 3), IDS),
    "relu scaled": lambda z: mg.cross_entropy(mg.relu(z) * 2, IDS),
    "tanh": lambda z: mg.cross_entropy(mg.tanh(z), IDS),
    "log of exp": lambda z: mg.log(mg.exp(z)),
    "log of a sum": lambda z: mg.log(mg.softmax(z).sum(0)),
    "log of sigmoid": lambda z: mg.log(mg.sigmoid(z)),
    "log of more than softmax": lambda z: mg.log(mg.softmax(z) + 1e-6),
    "soft targets": lambda z: mg.cross_entropy(z, mg.softmax(logits())),
    "an array": lambda z: mg.cross_entropy(mg.softmax(z).array, IDS),
    "log of an array": lambda z: mg.log(np.ones(3)),
    "log of a number": lambda z: mg.log(2.0),
    "log of a leaf": lambda z: mg.log(mg.tensor([1.0], requires_grad=True)),
    "softmax, mean squares": lambda z: mg.mse_loss(mg.softmax(z), mg.zeros(4, 3)),
}


@pytest.mark.parametrize("loss", RIGHT.values(), ids=RIGHT)
def test_nothing_wrong_no_warning(loss):
    assert not warned(loss, logits())


def test_no_graph_no_warning():
    with mg.no_grad():
        assert not warned(mg.cross_entropy, mg.softmax(logits()), IDS)
    assert not warned(mg.log, mg.softmax(logits().detach()))


def test_a_graph_that_was_freed_is_no_trouble():
    z = logits()
    p = z.softmax().reshape(2, 2, 3)
    p.sum().backward()
    assert not warned(mg.cross_entropy, p, IDS.reshape(2, 2)) and not warned(mg.log, p)


def test_once_for_each_place_and_at_the_users_line():
    def train():
        for _ in range(3):
            mg.cross_entropy(mg.softmax(logits()), IDS)
        np.log(mg.softmax(logits()))

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        train()
    assert [w.filename for w in found] == [__file__] * 2
    first = train.__code__.co_firstlineno
    assert [w.lineno - first for w in found] == [2, 3]


def test_silenced_or_made_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PatternWarning)
        mg.cross_entropy(mg.softmax(logits()), IDS)
        warnings.simplefilter("error", PatternWarning)
        with pytest.raises(PatternWarning, match="softmax twice"):
            mg.cross_entropy(mg.softmax(logits()), IDS)
    assert issubclass(PatternWarning, UserWarning)


def test_the_loss_is_what_it_was():
    z = logits()
    with pytest.warns(PatternWarning):
        twice = mg.cross_entropy(mg.softmax(z), IDS)
    p = np.exp(z.array) / np.exp(z.array).sum(1, keepdims=True)
    expected = mg.cross_entropy(p, IDS).item()
    assert twice.item() == pytest.approx(expected, rel=1e-6)
