"""Learning rate schedules: closed forms, resuming, what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest

from minigrad.errors import ArgumentError, DTypeError
from minigrad.nn.module import Parameter
from minigrad.optim import (
    SGD,
    Adam,
    Cosine,
    ExponentialDecay,
    Schedule,
    StepLR,
    WarmUp,
)
from minigrad.tensor import Tensor

GOLDEN = dict(np.load(Path(__file__).parent / "goldens" / "ops_misc.npz"))


def sgd(lr=1.0, *more):
    groups = [{"params": [Parameter(np.ones(2))], "lr": rate} for rate in (lr, *more)]
    return SGD(groups, lr)


def rates(schedule, count):
    """Rate of each of the first ``count`` updates."""
    found = []
    for _ in range(count):
        found.append(schedule.lr)
        schedule.step()
    return found


KINDS = {
    "exponential": lambda o: ExponentialDecay(o, 0.5, 3),
    "staircase": lambda o: ExponentialDecay(o, 0.5, 3, staircase=True),
    "step": lambda o: StepLR(o, 4, 0.3),
    "cosine": lambda o: Cosine(o, 10, 0.01),
    "warm": lambda o: WarmUp(o, 5),
    "warm, cosine": lambda o: WarmUp(o, 5, then=Cosine(o, 10)),
    "warm, warm, step": lambda o: WarmUp(o, 2, then=WarmUp(o, 3, then=StepLR(o, 2))),
}


@pytest.mark.parametrize("staircase", [True, False])
def test_golden_exponential_decay(staircase):
    optimizer = sgd(10.0)
    schedule = ExponentialDecay(optimizer, 0.1, 5000, staircase)
    found = []
    for step in range(20001):
        if step in GOLDEN["decay/steps"]:
            assert schedule.lr == optimizer.param_groups[0]["lr"]
            found.append(schedule.lr)
        schedule.step()
    np.testing.assert_allclose(found, GOLDEN[f"decay/staircase_{staircase}"], rtol=1e-12)


def test_step_lr():
    found = rates(StepLR(sgd(2.0), 3), 10)
    np.testing.assert_allclose(found, [2, 2, 2, 0.2, 0.2, 0.2, 0.02, 0.02, 0.02, 0.002])
    np.testing.assert_allclose(rates(StepLR(sgd(), 1, gamma=2.0), 3), [1, 2, 4])


def test_cosine():
    found = rates(Cosine(sgd(1.0), 4, final=0.2), 7)
    half = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    np.testing.assert_allclose(found, [1, half, 0.6, 1.2 - half, 0.2, 0.2, 0.2])
    assert rates(Cosine(sgd(), 3), 5)[3:] == [0.0, 0.0]


def test_warm_up():
    np.testing.assert_allclose(rates(WarmUp(sgd(2.0), 4), 7), [0.5, 1, 1.5, 2, 2, 2, 2])
    optimizer = sgd(2.0)
    then = StepLR(optimizer, 2)
    found = rates(WarmUp(optimizer, 3, then=then), 8)
    np.testing.assert_allclose(found, [2 / 3, 4 / 3, 2, 2, 2, 0.2, 0.2, 0.02])
    assert then.steps == 0


def test_warm_up_of_a_schedule_that_has_already_moved_the_rate():
    optimizer = sgd(6.0)
    schedule = WarmUp(optimizer, 2, then=WarmUp(optimizer, 3))
    np.testing.assert_allclose(rates(schedule, 7), [3, 6, 2, 4, 6, 6, 6])


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_follows_from_its_own_rate(kind):
    one, two = KINDS[kind](sgd(1.0, 0.1)), KINDS[kind](sgd(0.1))
    for _ in range(20):
        np.testing.assert_allclose(one.optimizer.param_groups[1]["lr"], two.lr, rtol=1e-15)
        one.step()
        two.step()


def test_a_group_added_later_starts_from_its_own_rate():
    optimizer = sgd(1.0)
    schedule = StepLR(optimizer, 2, 0.5)
    schedule.step()
    optimizer.add_param_group({"params": [Parameter(np.ones(1))], "lr": 8.0})
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 4.0]
    assert schedule.base_lrs == [1.0, 8.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizer_uses_the_rate(kind):
    optimizer = sgd(0.7)
    schedule = KINDS[kind](optimizer)
    w = optimizer.param_groups[0]["params"][0]
    for _ in range(12):
        w.data = np.zeros(2)
        w.grad = Tensor(np.ones(2))
        optimizer.step()
        np.testing.assert_array_equal(w.array, -schedule.lr)
        schedule.step()


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_exact(kind):
    schedule = KINDS[kind](sgd(0.3, 0.7))
    for _ in range(7):
        schedule.step()
    saved, optimizer_saved = schedule.state_dict(), schedule.optimizer.state_dict()
    expected = [(schedule.step(), schedule.lr)[1] for _ in range(7)]

    fresh = KINDS[kind](sgd(0.3, 0.7))
    fresh.load_state_dict(saved)
    assert [(fresh.step(), fresh.lr)[1] for _ in range(7)] == expected

    late = sgd(5.0, 5.0)  # the schedule is made after the decayed rate was loaded
    late.load_state_dict(optimizer_saved)
    schedule = KINDS[kind](late)
    schedule.load_state_dict(saved)
    assert [(schedule.step(), schedule.lr)[1] for _ in range(7)] == expected


def test_a_rate_a_million_steps_on_has_not_drifted():
    schedule = ExponentialDecay(sgd(), 0.5, 100_000)
    schedule.load_state_dict(
        {"schedule": "ExponentialDecay", "steps": 1_000_000, "base_lrs": [1.0]}
    )
    assert schedule.lr == 0.5**10


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda o: ExponentialDecay(o, 0.0, 5), ArgumentError, "ExponentialDecay: decay_rate"),
        (lambda o: ExponentialDecay(o, -0.1, 5), ArgumentError, "decay_rate"),
        (lambda o: ExponentialDecay(o, 0.1, 0), ArgumentError, "decay_steps"),
        (lambda o: ExponentialDecay(o, 0.1, math.inf), ArgumentError, "decay_steps"),
        (lambda o: ExponentialDecay(o, 0.1, "5"), DTypeError, "decay_steps"),
        (lambda o: ExponentialDecay(o, 0.1, 5, 1), DTypeError, "staircase must be True or False"),
        (lambda o: StepLR(o, 0), ArgumentError, "StepLR: step_size"),
        (lambda o: StepLR(o, 3, -1), ArgumentError, "StepLR: gamma"),
        (lambda o: Cosine(o, 0), ArgumentError, "Cosine: total_steps"),
        (lambda o: Cosine(o, 5, -0.1), ArgumentError, "Cosine: final"),
        (lambda o: Cosine(o, 5, math.nan), ArgumentError, "Cosine: final"),
        (lambda o: WarmUp(o, 0), ArgumentError, "WarmUp: steps"),
        (lambda o: WarmUp(o, 5, then=0.1), DTypeError, "then must be a schedule, got float"),
        (lambda o: WarmUp(o, 5, then=StepLR(sgd(), 3)), ArgumentError, "same optimiser"),
        (lambda o: StepLR([o], 3), DTypeError, "StepLR: expects an optimiser, got list"),
    ],
)
def test_arguments_out_of_range(make, error, text):
    optimizer = sgd()
    with pytest.raises(error, match=text):
        make(optimizer)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_states_that_do_not_fit():
    schedule = StepLR(sgd(1.0), 2)
    good = schedule.state_dict()
    for change, text in [
        ({"schedule": "Cosine"}, "state of 'Cosine'"), ({"steps": -1}, "count"),
        ({"steps": 1.5}, "count"), ({"steps": True}, "count"), ({"base_lrs": None}, "base_lrs"),
        ({"base_lrs": [1.0, 2.0]}, "each of the 1"), ({"base_lrs": [-1.0]}, "base_lrs"),
    ]:  # fmt: skip
        with pytest.raises(ArgumentError, match=text):
            schedule.load_state_dict({**good, "steps": 5, **change})
        assert schedule.state_dict() == good and schedule.lr == 1.0


def test_a_schedule_of_ones_own():
    class Halves(Schedule):
        def at(self, base, steps):
            return base / (1 + steps)

    assert rates(Halves(sgd(6.0)), 3) == [6.0, 3.0, 2.0]
    with pytest.raises(TypeError, match="does not define at"):
        Schedule(sgd())


def test_repr():
    schedule = StepLR(Adam([Parameter(np.ones(1))], 0.01), 2)
    schedule.step()
    assert repr(schedule) == "StepLR(steps=1, lr=0.01)"
