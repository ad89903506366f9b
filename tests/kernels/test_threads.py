"""Rows shared among threads: each once, the same bits, errors, interrupts, late threads."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.kernels import threads
from minigrad.kernels.registry import Kernel

ROOT = Path(__file__).parents[2]


def compiled(outputs):
    """A kernel of the test's own; what it compiles is not kept on disk."""

    def make(function):
        return Kernel(function, function, outputs, lambda f: numba.njit(nogil=True)(f))

    return make


@compiled(("hits",))
def touch(hits, start, stop):
    for n in range(start, stop):
        hits[n] += 1


@compiled(("hits",))
def touch_slowly(hits, turns, start, stop):
    """The later a piece begins, the longer it takes."""
    total = 1.0
    for k in range(turns * (start + 1)):
        total = total / (1 + 1e-9) + k * 1e-12
    for n in range(start, stop):
        hits[n] += 1 if total else 0


def mark_start(starts, start, stop):
    starts[start] = 1


@compiled(("hits",))
def fail_late(hits, start, stop):
    if start:
        raise ValueError("in the second piece")
    hits[start:stop] += 1


@pytest.fixture
def thread_count():
    before = kernels.get_num_threads()
    yield kernels.set_num_threads
    kernels.set_num_threads(before)


def lstm_arguments(t=6, n=40, h=16):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    rows, which = draw(t * n, 4 * h), np.arange(t * n).reshape(t, n)
    states = [draw(t + 1, n, h), draw(t + 1, n, h), draw(t, 4, n, h)]
    return [rows, which, rng.integers(0, t + 1, n), draw(4 * h), draw(h, 4 * h), *states]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_bits_do_not_depend_on_threads(thread_count, count):
    results = []
    for threads_now in (1, count):
        thread_count(threads_now)
        args = lstm_arguments()
        kernels.run_rows(kernels.lstm_forward, 40, 2, *args)
        results.append(args)
    for one, many in zip(*results):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_row_is_done_once(thread_count, count):
    thread_count(count)
    for rows in (0, 1, 4, 9, 16, 17, 64, 1000):
        hits = np.zeros(rows, np.int64)
        kernels.run_rows(touch, rows, 2, hits)
        assert (hits == 1).all()


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_share_is_cut_into_as_many_pieces_as_the_kernel_likes(
    thread_count, pieces, monkeypatch
):
    thread_count(2)
    monkeypatch.setattr(threads, "_team", threads._Team())
    starts = np.zeros(64, np.int64)
    kernel = Kernel(mark_start, mark_start, ("starts",), numba.njit(nogil=True), None, pieces)
    kernels.run_rows(kernel, 64, 1, starts)
    assert np.flatnonzero(starts).tolist() == list(range(0, 64, 64 // (2 * pieces)))
    assert len(threads._team.workers) == 1  # and the caller: never more than two at work
    starts[:] = 0
    kernels.run_rows(kernel, 64, 20, starts)  # no piece smaller than the grain
    assert starts.sum() <= 3


@pytest.mark.parametrize("rows, sizes", [(20, (10, 10)), (7, (4, 3)), (10_000, (5008, 4992))])
def test_few_rows_are_dealt_evenly_and_many_are_cut_at_whole_vectors(thread_count, rows, sizes):
    thread_count(2)
    starts = np.zeros(rows, np.int64)
    kernel = Kernel(mark_start, mark_start, ("starts",), numba.njit(nogil=True), None, 1)
    kernels.run_rows(kernel, rows, 3, starts)
    assert np.flatnonzero(starts).tolist() == [0, sizes[0]]


def test_threads_that_come_late_or_sleep_change_nothing(thread_count):
    """Calls close together, and calls after which the threads have gone to sleep."""
    thread_count(3)
    hits = np.zeros(64, np.int64)
    for k in range(600):
        kernels.run_rows(touch, 64, 1, hits)
        if k % 50 == 0:
            time.sleep(0.005)
    assert (hits == 600).all()


def test_threads_do_take_part(thread_count):
    """With pieces that take long, two threads are both seen at work."""
    thread_count(2)
    seen = set()
    begin = threads._Worker.begin

    def watched(self, function, args, core):
        def run(*args):
            before = args[6].copy()
            function(*args)
            seen.add(bool((before != args[6]).any()))

        begin(self, run, args, core)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads._Worker, "begin", watched)
        deadline = time.monotonic() + 60  # the other cores may be busy with other programs
        while True not in seen and time.monotonic() < deadline:
            kernels.run_rows(touch_slowly, 16, 1, np.zeros(16, np.int64), 4_000_000)
    assert True in seen


def test_an_error_in_a_thread_reaches_the_caller_and_leaves_the_threads_usable(thread_count):
    thread_count(2)
    for _ in range(5):
        with pytest.raises(ValueError, match="in the second piece"):
            kernels.run_rows(fail_late, 16, 1, np.zeros(16, np.int64))
        hits = np.zeros(16, np.int64)
        kernels.run_rows(touch, 16, 1, hits)
        assert (hits == 1).all()


def test_an_interrupt_while_waiting_leaves_no_stale_thread(thread_count, monkeypatch):
    """A thread that is still busy with the abandoned call must not count for the next."""
    thread_count(3)

    def interrupted(seconds):
        raise KeyboardInterrupt

    kernels.run_rows(touch_slowly, 24, 1, np.zeros(24, np.int64), 1)  # compiles
    for _ in range(50):
        with monkeypatch.context() as patch:
            patch.setattr(threads.time, "sleep", interrupted)
            try:
                kernels.run_rows(touch_slowly, 24, 1, np.zeros(24, np.int64), 1_000_000)
            except KeyboardInterrupt:
                break
    else:
        pytest.fail("the caller never had to wait")
    for _ in range(20):
        hits = np.zeros(24, np.int64)
        kernels.run_rows(touch, 24, 1, hits)
        assert (hits == 1).all()


def test_python_threads_may_launch_at_the_same_time(thread_count):
    thread_count(2)
    originals = [lstm_arguments(5, 16 + k, 16) for k in range(4)]
    expected = [[a.copy() for a in args] for args in originals]
    for args in expected:
        kernels.run_rows(kernels.lstm_forward, args[1].shape[1], 4, *args)
    wrong = []

    def work(args, right):
        for _ in range(30):
            kernels.run_rows(kernels.lstm_forward, args[1].shape[1], 4, *args)
        if any(not np.array_equal(a, b) for a, b in zip(args, right)):
            wrong.append(args)

    running = [threading.Thread(target=work, args=pair) for pair in zip(originals, expected)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not wrong


if hasattr(os, "fork"):

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_forked_process_has_threads_of_its_own(thread_count):
        thread_count(2)
        kernels.run_rows(touch, 64, 1, np.zeros(64, np.int64))
        child = os.fork()
        if child == 0:
            hits = np.zeros(64, np.int64)
            kernels.run_rows(touch, 64, 1, hits)
            os._exit(0 if (hits == 1).all() else 1)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.01)
        else:
            os.kill(child, 9)
            pytest.fail("the forked process hangs")
        assert status == 0


@pytest.mark.parametrize("rule", [mg.optim.SGD, mg.optim.Adam])
def test_large_parameters_are_updated_in_ranges_with_the_same_bits(rule, thread_count):
    rng = np.random.default_rng(0)
    start, gradient = rng.standard_normal((2, 3 * kernels.FLAT_GRAIN + 5), dtype=np.float32)
    found = []
    for threads_wanted in (1, 2):
        thread_count(threads_wanted)
        weight = mg.Tensor(start.copy(), requires_grad=True)
        optimizer = rule([weight], lr=0.1)
        for _ in range(2):
            weight.grad = mg.Tensor(gradient.copy())
            mg.optim.clip_grad_norm_([weight], 500.0)
            optimizer.step()
        found.append(weight.numpy())
    assert (found[0] != start).mean() > 0.99
    np.testing.assert_array_equal(*found)


def test_caches_of_two_processes_may_be_mixed(tmp_path):
    """Each compiles all and keeps it: of one file the first may remain, of another the last."""
    program = (
        "import sys, numpy as np, minigrad as mg\n"
        "from minigrad import kernels\n"
        "mg.set_num_threads(2)\n"
        "if sys.argv[1] == 'more': kernels.small_matmul(*[np.ones((2, 2)), False] * 2, np.ones(2),"
        " np.ones((2, 2)))\n"
        "x = np.ones((64, 40)); out = np.zeros(40)\n"
        "kernels.run_rows(kernels.sum_rows, 40, 4, x, out)\n"
        "print((out == 64).all())"
    )

    def run(folder, word):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / folder)}
        return subprocess.run(
            [sys.executable, "-c", program, word], env=environment, cwd=ROOT, capture_output=True,
            text=True, check=True,
        )  # fmt: skip

    assert [run("a", "").stdout, run("b", "more").stdout] == ["True\n"] * 2
    mixed = 0
    for file in (tmp_path / "a").rglob("handover.sum_rows_shared*"):
        shutil.copy(file, tmp_path / "b" / file.relative_to(tmp_path / "a"))
        mixed += 1
    assert mixed == 2  # index and code
    again = run("b", "more")
    assert again.stdout == "True\n" and again.stderr == ""  # and nothing was compiled


def test_a_kernel_may_be_written_where_there_is_no_file():
    """In a notebook, or at the prompt; shared among threads too."""
    program = (
        "import numpy as np, minigrad as mg\n"
        "from minigrad import kernels\n"
        "from minigrad.kernels.registry import kernel\n"
        "mg.set_num_threads(2)\n"
        "def double_twin(x, start, stop):\n"
        "    x[start:stop] *= 2\n"
        "@kernel(twin=double_twin, outputs=('x',))\n"
        "def double(x, start, stop):\n"
        "    for n in range(start, stop): x[n] *= 2\n"
        "x = np.ones(64); double(x, 0, 32); kernels.run_rows(double, 64, 4, x)\n"
        "with kernels.use('check'): double(x, 0, 64)\n"
        "print(x.sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{32 * 8 + 32 * 4}.0\n"
