"""Exponents of growth, and the tables and pictures around them."""

import math

import numpy as np
import pytest

from benchmarks.scaling import __main__ as program
from benchmarks.scaling import curves


def test_exponent_of_a_power():
    sizes = [10, 30, 100, 300, 1000]
    for power in (0.5, 1, 1.5, 2):
        assert curves.exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_fits_leave_out_what_a_call_costs():
    sizes = [1, 4, 16, 64, 256, 1024, 4096]
    times = [size + 20 for size in sizes]  # linear growth, above twenty units for calling at all
    assert curves.larger(sizes) == [3, 4, 5, 6]
    assert 0.9 < curves.exponent(sizes, times) < 1
    everything = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    assert everything < 0.7


def test_larger_takes_three_at_least_whatever_their_order():
    assert curves.larger([1, 2, 100]) == [0, 1, 2]
    assert curves.larger([1000, 1, 10, 100, 300]) == [0, 3, 4]


def test_no_exponent_where_there_is_nothing_to_fit():
    assert math.isnan(curves.exponent([1, 2], [1, 2]))
    assert math.isnan(curves.exponent([1, 2, 4], [1, 2, 0]))


def _sweep():
    curve = {"sizes": [1, 10, 100], "milliseconds": [1.0, 10.0, 100.0], "megabytes": [1, 2, 4]}
    powers = {k: curves.exponent(curve["sizes"], curve[k]) for k in ("milliseconds", "megabytes")}
    short = {"sizes": [1], "milliseconds": [5.0], "megabytes": [3]}
    return {
        "sizes": [1, 10, 100], "fixed": "hidden 8",
        "curves": {
            "minigrad": curve | {"exponents": powers},
            "PyTorch": short | {"exponents": dict.fromkeys(powers, math.nan)},
        },
    }  # fmt: skip


def test_table_says_exponents_and_gaps():
    text = program.table("batch", _sweep())
    assert "time ~ batch^1.00" in text and "PyTorch: time" not in text
    lines = text.splitlines()
    assert lines[2].split()[0] == "10" and lines[2].rstrip().endswith("-")


def test_picture(tmp_path):
    curves.draw({"batch": _sweep()}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


class _Worker:
    """Answers as a worker would; `losses` by library."""

    losses = {"minigrad": [1.0, 0.5, 0.25], "PyTorch": [1.0, 0.5, 0.25]}
    open = 0

    def __init__(self, target, arguments, environment, limit):
        self.library = arguments["library"]
        if self.losses[self.library] is None:
            raise program.Missing("No module named 'torch'")
        _Worker.open += 1

    def ask(self, method, limit, **arguments):
        memory = {"before": 100.0, "peak": 150.0}
        return {"begin": {"losses": self.losses[self.library], "memory": memory}, "turn": 0.25}[
            method
        ]

    def close(self):
        _Worker.open -= 1


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(program, "Worker", _Worker)
    monkeypatch.setattr(program, "BREATH", 0)
    yield monkeypatch
    assert _Worker.open == 0


SIZES = {"batch": 1, "length": 2, "hidden": 3, "threads": 1}


def test_a_point(workers):
    points = program.measure_point(SIZES, 2, {})
    assert points == {
        who: {"milliseconds": 250.0, "megabytes": 50.0} for who in ("minigrad", "PyTorch")
    }


def test_other_losses_are_refused(workers):
    workers.setattr(_Worker, "losses", {"minigrad": [1, 2, 3], "PyTorch": [1, 2, 3.1]})
    with pytest.raises(ValueError, match="losses differ"):
        program.measure_point(SIZES, 1, {})


def test_a_missing_library_is_named_once(workers):
    workers.setattr(_Worker, "losses", {"minigrad": [1, 2, 3], "PyTorch": None})
    missing = {}
    found = program.sweep("batch", (1, 2, 4), {"length": 2, "hidden": 3, "threads": 1}, 1, missing)
    assert list(found["curves"]) == ["minigrad"] and list(missing) == ["PyTorch"]
