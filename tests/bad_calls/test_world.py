"""The look before and after sees a change of every kind, and the table refuses wrong errors."""

import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import ShapeError


def touched(w, change):
    """A call that changes something and is refused only then."""
    change(w)
    raise ShapeError("sum: refused")


CHANGES = [
    lambda w: w.x.array.__setitem__((1, 2), np.nextafter(w.x.array[1, 2], 9)),
    lambda w: w.x.requires_grad_(False),
    lambda w: setattr(w.x, "grad", mg.zeros(2, 3)),
    lambda w: w.x.register_hook(lambda g: g),
    lambda w: w.ids.__setitem__((0, 0), 3),
    lambda w: w.rng.random(),
    lambda w: w.dropout.generator.random(),
    lambda w: w.model.eval(),
    lambda w: w.model[2].running_mean.array.fill(1),
    lambda w: w.batch_norm(w.plain),
    lambda w: w.adam.step(),
    lambda w: w.adam.state_dict()["state"],
    lambda w: w.adam.param_groups[0].update(lr=0.2),
    lambda w: w.decay.step(),
    lambda w: w.adam.add_param_group({"params": [w.x]}),
    lambda w: optim.clip_grad_norm_(w.graded, 0.1),
    lambda w: next(w.cursor),
    lambda w: next(iter(w.loader)),
    lambda w: w.timeline.record(1, 0.5, optim.ClipReport(1.0, 1.0, 1.0, False)),
    lambda w: w.captured.__dict__.update(more=1),
    lambda w: mg.set_num_threads(mg.get_num_threads() + 1),
    lambda w: np.random.seed(5),
]
HARMLESS = {11, 19}  # looking at a state, and what a captured function keeps for itself


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_change_is_seen(refused, number):
    threads, legacy = mg.get_num_threads(), np.random.get_state()

    def run():
        refused(lambda w: touched(w, CHANGES[number]), ShapeError, "sum: refused")

    try:
        if number in HARMLESS:
            run()
        else:
            with pytest.raises(AssertionError):
                run()
    finally:
        mg.set_num_threads(threads)
        np.random.set_state(legacy)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda w: w.x.sum(axis=5), "mean: "),
        (lambda w: w.x.sum(axis=5), "sum: <...> axis 6"),
        (lambda w: w.x[9], "getitem: "),  # another type
        (lambda w: w.x.sum(), ""),  # no error
    ],
)
def test_another_message_another_type_and_no_error_fail(refused, call, message):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        refused(call, ShapeError, message)


def test_an_untyped_error_fails(refused):
    with pytest.raises(ZeroDivisionError):
        refused(lambda w: 1 / 0, ShapeError, "")


def test_there_are_enough_rows_and_no_two_of_one_name():
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_[!w]*.py"))
    names = re.findall(r'^    \("([^"]+)", ', text, re.MULTILINE)
    assert len(names) >= 700 and len(set(names)) == len(names)
