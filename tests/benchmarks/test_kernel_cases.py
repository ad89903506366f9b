"""The table of kernels to time: complete, and counting what it says."""

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.kernels import __main__ as program
from benchmarks.kernels import cases, limits, picture, workloads
from benchmarks.kernels.calls import Call, largest, written_down
from minigrad import kernels, ops


def test_every_kernel_has_a_case():
    registered, listed = set(kernels.load()), set(cases.CASES)
    assert not registered - listed, f"no case in benchmarks/kernels/cases.py: {registered - listed}"
    assert not listed - registered, f"cases of kernels that are gone: {listed - registered}"


def test_every_case_names_a_program_and_every_kernel_module_a_family():
    for name, case in cases.CASES.items():
        assert case.program in workloads.PROGRAMS, name
    known = {module for _, modules in picture.COLOURS.values() for module in modules}
    modules = {k.function.__module__.rpartition(".")[2] for k in kernels.load().values()}
    assert modules <= known


@pytest.mark.slow
def test_programs_call_their_kernels():
    with kernels.use("numpy"):
        for name in kernels.load():
            flops, moved, size = cases.work(cases.call_for(name))
            assert flops >= 0 and moved > 0 and size > 0, name
    workloads.calls_of.cache_clear()


def test_calls_are_written_down_once_and_hooks_removed():
    before = kernels.Kernel.__call__, kernels.run_rows
    with kernels.use("numpy"), written_down() as calls:
        ops.matmul(np.ones((300, 80), np.float32), np.ones((80, 100), np.float32))
    assert [call.kernel.name for call in calls] == ["matmul"]
    assert (kernels.Kernel.__call__, kernels.run_rows) == before
    assert calls[0].rows == 300 and calls[0].named.c.shape == (300, 100)
    assert cases.CASES["matmul"].flops(calls[0].named) == 2 * 300 * 80 * 100


def test_hooks_are_removed_after_an_error():
    before = kernels.Kernel.__call__, kernels.run_rows
    with pytest.raises(RuntimeError), written_down():
        raise RuntimeError
    assert (kernels.Kernel.__call__, kernels.run_rows) == before


def _call(name, *args, rows=None, grain=0):
    return Call(kernels.load()[name], args, rows, grain)


def test_largest_is_by_bytes():
    small, large = (_call("relu", x, x.copy()) for x in (np.ones(3), np.ones(5)))
    other = _call("sum_all", np.ones(100), np.ones(1))
    assert largest([small, large, other], "relu") is large
    assert largest([other], "relu") is None


def test_bytes_count_once_and_updated_arrays_twice():
    x = np.ones(1000, np.float32)
    assert cases.work(_call("relu", x, x)) == (1000, 4000, 4000)  # the same memory
    assert cases.work(_call("sgd", x, x.copy(), 0.1, 0.0)) == (2000, 12_000, 8000)


def test_flops_of_recurrences_and_windows():
    zeros = np.zeros
    forward = _call("rnn_forward", zeros((75, 4)), zeros((15, 5)), zeros(5), zeros(4),
                    zeros((4, 4)), False, zeros((16, 5, 4)))  # fmt: skip
    assert cases.work(forward)[0] == 15 * 5 * 4 * (2 * 4 + 3)
    window = 1, 1, 1, 1, 2, 2, 14, 14
    convolution = _call("conv2d_forward", zeros((50, 14, 14, 32)), zeros((5, 5, 32, 64)), zeros(64),
                        True, window, 1, (2, 2), zeros((50, 7, 7, 64)), zeros(1))  # fmt: skip
    products = 2 * 50 * 14 * 14 * 64 * 25 * 32
    assert products <= cases.work(convolution)[0] < 1.01 * products


def test_gathering_moves_the_rows_that_are_taken():
    table, ids = np.zeros((10_000, 200), np.float32), np.zeros(7, np.int64)
    gathered = _call("gather_rows", table, ids, np.zeros((7, 200), np.float32))
    assert cases.work(gathered)[1] == 2 * 7 * 800 + 56
    scattered = _call("scatter_add_rows", np.zeros((7, 200), np.float32), ids, table)
    assert cases.work(scattered)[1] == 7 * 800 + 56 + 2 * 800  # one row, seven times


def test_check_sees_other_work(monkeypatch):
    call = _call("relu", np.linspace(-1, 1, 50), np.empty(50), rows=50, grain=100)
    monkeypatch.setattr(call.kernel, "compiled", call.kernel.twin)
    monkeypatch.setattr(call.kernel, "run", call.kernel.twin)
    call.check()
    monkeypatch.setattr(call.kernel, "twin", lambda x, y, start, stop: y.fill(0.9))
    with pytest.raises(ValueError, match="y of relu"):
        call.check()


ROOF = limits.Roof(2, {"float32": 100e9}, {1 << 14: 80e9, 1 << 20: 40e9, 1 << 28: 10e9})


def test_the_roof_is_the_lower_of_both():
    assert ROOF.memory == 10e9 and ROOF.cache == 80e9
    assert ROOF.bandwidth_at(1 << 17) == pytest.approx(60e9)  # between, by the logarithm
    assert ROOF.bandwidth_at(1) == 80e9 and ROOF.bandwidth_at(1 << 40) == 10e9
    assert ROOF.least_seconds(100e9, 1, 1, "float32") == 1  # products
    assert ROOF.least_seconds(1, 10e9, 1 << 28, "float32") == 1  # bytes
    assert ROOF.least_seconds(0, 20e9, 1 << 30, "float32") == 2


def test_the_better_of_two_measurements_counts():
    worse = limits.Roof(2, {"float32": 90e9}, {1 << 14: 90e9, 1 << 20: 30e9, 1 << 28: 9e9})
    best = limits.best_of({2: ROOF}, {2: worse})[2]
    assert best.peak["float32"] == 100e9
    assert best.bandwidth == {1 << 14: 90e9, 1 << 20: 40e9, 1 << 28: 10e9}


def _timed(kernel, twin):
    turns = {"kernel": kernel, "twin": twin}
    return {name: timing.Timing(name, 0, times, 9) for name, times in turns.items()}


def test_a_row_and_its_line():
    x = np.ones((1 << 28) // 4, np.float32)  # 256 MB read and written: 512
    row = program.row_of(
        _call("relu", x, x, rows=len(x), grain=1), _timed([1e5, 2e5, 3e5], [4e5, 4e5, 4e5]),
        {1: ROOF, 2: ROOF},
    )  # fmt: skip
    assert row["threads"] <= 2 and row["bound"] == "bytes"
    assert row["roof_share"] == pytest.approx((1 << 28) / 10e9 / 0.2)
    assert row["twin_ratio"] == 2 and row["microseconds"] == 2e5
    head, line = program.table([row]).splitlines()
    assert line.split()[0] == "relu" and line.split()[-1] == "bytes" and "13%" in line
    assert len(head) <= len(line) + 2


def test_labels_do_not_overlap_and_stay_inside():
    rng = np.random.default_rng(0)
    points, sizes = rng.normal(300, 40, (40, 2)), np.tile([60.0, 10.0], (40, 1))
    corners = picture.place_labels(points, sizes, (0, 0, 600, 600))
    assert (corners >= 0).all() and (corners + sizes <= 600).all()
    for k, (corner, size) in enumerate(zip(corners, sizes)):
        apart = (corners >= corner + size) | (corners + sizes <= corner)
        apart[k] = True
        assert apart.any(axis=1).all(), k


def test_an_unknown_kernel_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["no_such_kernel"])
    assert "no_such_kernel" in capsys.readouterr().err
