"""Pipelines: order, batches, one seed, errors with their place, and no thread left behind."""

import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import CursorBatches, DataLoader, Pipeline, TensorDataset
from minigrad.errors import ArgumentError, DataError, DTypeError, PipelineError, ShapeError

ROOT = Path(__file__).parents[2]

# an error in a destructor is only a warning, and would be overlooked
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name == "minigrad prefetch"]


@pytest.fixture(autouse=True)
def no_thread_left():
    assert not prefetch_threads()
    yield
    assert not prefetch_threads()


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def fails_at(bad):
    def parse(item):
        if item == bad:
            raise ZeroDivisionError(f"cannot parse {item}")
        return item

    return parse


# -- what comes out -----------------------------------------------------------------------------


def test_shuffle_holds_every_item_once_and_each_pass_has_an_order_of_its_own():
    pipeline = Pipeline(range(50)).shuffle(generator=3)
    first, second = list(pipeline), list(pipeline)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first != list(range(50))


@pytest.mark.parametrize("size", [1, 2, 7, 50, 80])
def test_a_small_buffer_shuffles_near_by(size):
    order = list(Pipeline(range(50)).shuffle(size, generator=0))
    assert sorted(order) == list(range(50))
    # an item comes at most size - 1 places early: only so many are held
    assert all(place >= item - (size - 1) for place, item in enumerate(order))
    assert (order == list(range(50))) == (size == 1)


def test_shuffle_is_even():
    """Each of 4 items is at each of 4 places about as often (5 sigma)."""
    seen = np.zeros((4, 4))
    pipeline = Pipeline(range(4)).shuffle(generator=1)
    for _ in range(4000):
        seen[np.arange(4), list(pipeline)] += 1
    assert abs(seen - 1000).max() < 5 * np.sqrt(4000 * 3 / 16)


def test_a_small_buffer_draws_evenly_from_what_it_holds():
    pipeline = Pipeline(range(12)).shuffle(3, generator=0)
    firsts = np.bincount([next(iter(pipeline)) for _ in range(3000)], minlength=12)
    assert firsts[3:].sum() == 0 and abs(firsts[:3] - 1000).max() < 5 * np.sqrt(3000 * 2 / 9)


@pytest.mark.parametrize("size", [None, 5])
def test_the_same_seed_gives_the_same_order_whatever_is_left_early_or_made_ahead(size):
    def passes(ahead, taken):
        pipeline = Pipeline(range(20)).shuffle(size, generator=9)
        pipeline = pipeline.map(lambda x, rng: (x, rng.random()), generator=4)
        pipeline = pipeline.prefetch(3) if ahead else pipeline
        return [list(itertools.islice(pipeline, count)) for count in taken]

    plain = passes(False, [20, 20, 20])
    assert plain == passes(True, [20, 20, 20])
    left = passes(True, [4, 0, 20])
    assert left[0] == plain[0][:4] and left[2] == plain[2]


def test_repeat_shuffles_each_pass_anew_and_is_the_same_ahead():
    def items(ahead):
        pipeline = Pipeline(range(6)).shuffle(generator=2).repeat(3)
        return list(pipeline.prefetch(2) if ahead else pipeline)

    order = items(False)
    rounds = [tuple(order[i : i + 6]) for i in (0, 6, 12)]
    assert all(sorted(part) == list(range(6)) for part in rounds) and len(set(rounds)) == 3
    assert items(True) == order


def test_repeat_without_end_and_of_nothing():
    assert list(itertools.islice(Pipeline([1, 2]).repeat(), 5)) == [1, 2, 1, 2, 1]
    assert list(Pipeline([]).repeat(3)) == []
    with pytest.raises(PipelineError, match=r"stage 1, repeat\(\).*nothing to repeat"):
        list(Pipeline([]).repeat())


def test_batches_are_those_of_a_loader():
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    y = np.arange(7)
    loader = DataLoader(TensorDataset(x, y), batch_size=3)
    ours = list(Pipeline(TensorDataset(x, y)).batch(3))
    assert len(ours) == 3
    for theirs, mine in zip(loader, ours, strict=True):
        for a, b in zip(theirs, mine, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert len(list(Pipeline(TensorDataset(x, y)).batch(3, drop_last=True))) == 2
    assert list(Pipeline([1, 2, 3]).batch(2, collate_fn=sum)) == [3, 3]


def test_padded_batches_of_sequences_and_of_tuples():
    items = [([1, 2], [5], 0), ([3], [6, 7, 8], 1), ([4], [9], 2)]
    (a, b, label), (c, _, last) = Pipeline(items).padded_batch(2, value=-1)
    assert a.ids.tolist() == [[1, 2], [3, -1]] and a.lengths.tolist() == [2, 1]
    assert b.ids.tolist() == [[5, -1, -1], [6, 7, 8]] and label.tolist() == [0, 1]
    assert c.ids.tolist() == [[4]] and last.tolist() == [2]
    assert len(list(Pipeline(items).padded_batch(2, drop_last=True))) == 1


def test_buckets_hold_like_lengths_and_lose_nothing():
    rng = np.random.default_rng(0)
    items = [rng.integers(1, 9, n) for n in rng.integers(1, 31, 100)]
    edges, seen = (10, 20), []
    for ids, lengths in Pipeline(items).bucket(8, boundaries=edges):
        assert len(set(np.searchsorted(edges, lengths))) == 1
        assert ids.shape == (len(lengths), lengths.max()) and len(lengths) <= 8
        seen += [tuple(row[:n]) for row, n in zip(ids, lengths)]
    assert sorted(seen) == sorted(tuple(x) for x in items)
    whole = list(Pipeline(items).bucket(8, boundaries=edges, drop_last=True))
    assert whole and all(len(batch.lengths) == 8 for batch in whole)


def test_sources_of_every_kind():
    assert list(Pipeline(lambda: iter([1, 2])).repeat(2)) == [1, 2, 1, 2]
    x = [row.tolist() for (row,) in Pipeline(TensorDataset(np.eye(2)))]
    assert x == [[1, 0], [0, 1]]
    batches = Pipeline(DataLoader(TensorDataset(np.arange(4)), batch_size=2)).prefetch(1)
    for _ in range(2):
        assert [a.tolist() for (a,) in batches] == [[0, 1], [2, 3]]
    windows = Pipeline(CursorBatches(np.arange(12), 1, 4)).prefetch(2)
    assert next(iter(windows)).ravel().tolist() == [0, 1, 2, 3, 4]


def test_an_iterator_goes_on_where_it_stopped_and_is_refused_when_it_is_used_up():
    pipeline = Pipeline(x for x in range(4))
    assert next(iter(pipeline)) == 0
    assert list(pipeline) == [1, 2, 3]
    with pytest.raises(DataError, match="an iterator .*genexpr.*has come to its end"):
        iter(pipeline)
    with pytest.raises(PipelineError, match=r"repeat\(2\), element 3: .*come to its end"):
        list(Pipeline(iter([1, 2, 3])).repeat(2))


def test_stages_leave_the_pipeline_before_them_as_it_was():
    plain = Pipeline([1, 2, 3])
    doubled = plain.map(lambda x: 2 * x)
    assert list(plain) == [1, 2, 3] and list(doubled) == [2, 4, 6]
    assert repr(doubled.batch(2).prefetch(1)) == (
        "Pipeline(list -> map(<lambda>) -> batch(2) -> prefetch(1))"
    )


# -- ahead of need ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
def test_the_thread_makes_so_many_ahead_and_no_more(size):
    made = []
    pipeline = Pipeline(range(100)).map(lambda x: made.append(x) or x).prefetch(size)
    with iter(pipeline) as items:
        for taken in range(1, 6):
            assert next(items) == taken - 1
            wait_until(lambda taken=taken: len(made) == taken + size)
            time.sleep(0.01)
            assert len(made) == taken + size
    assert len(made) == 5 + size


def test_work_ahead_is_done_in_another_thread_and_at_the_same_time():
    where = set()

    def slow(x):
        where.add(threading.current_thread().name)
        return x

    started = iter(Pipeline(range(3)).map(slow).prefetch(2))
    assert not prefetch_threads()  # it begins with the first item
    assert list(started) == [0, 1, 2] and where == {"minigrad prefetch"}


def test_leaving_the_loop_ends_the_threads():
    pipeline = Pipeline(range(1000)).prefetch(2).map(lambda x: x).prefetch(3).batch(2).prefetch(1)
    for _ in pipeline:
        assert len(prefetch_threads()) >= 1
        break
    assert not prefetch_threads()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_loop_ends_the_threads(error):
    with pytest.raises(error) as kept:
        for batch in Pipeline(range(1000)).batch(2).prefetch(2).map(np.sum):
            raise error(batch)
    assert not prefetch_threads()
    assert kept  # though its traceback is still there


def test_close_and_with_end_the_threads_while_the_iterator_lives():
    items = iter(Pipeline(range(1000)).prefetch(2).map(lambda x: x))
    assert next(items) == 0
    items.close()
    assert not prefetch_threads() and list(items) == []
    items.close()
    with iter(Pipeline(range(1000)).prefetch(2)) as items:
        next(items)
    assert not prefetch_threads() and next(items, None) is None


def test_garbage_collection_ends_the_threads_also_from_within_a_cycle():
    items = iter(Pipeline(range(1000)).prefetch(2).map(lambda x: x))
    next(items)
    del items
    assert not prefetch_threads()
    cycle = [iter(Pipeline(range(1000)).prefetch(2))]
    next(cycle[0])
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert prefetch_threads()
        gc.collect()
    finally:
        gc.enable()
    assert not prefetch_threads()


def test_an_iterator_that_dies_in_its_own_thread_does_not_wait_for_itself():
    """The thread runs the garbage collector, which finds the iterator that the thread is of."""
    holder = []

    def drop(x):
        if x == 1:
            wait_until(lambda: holder)
            holder.clear()
            gc.collect()
        return x

    items = iter(Pipeline(range(1000)).map(drop).prefetch(1))
    holder.append(items)
    del items
    gc.disable()
    try:
        next(holder[0])  # makes item 1 ahead
        wait_until(lambda: not prefetch_threads())
    finally:
        gc.enable()


def test_the_end_and_an_error_end_the_threads():
    assert list(Pipeline(range(5)).prefetch(2)) == list(range(5))
    assert not prefetch_threads()
    items = iter(Pipeline(range(5)).map(fails_at(2)).prefetch(2))
    with pytest.raises(PipelineError) as kept:
        list(items)
    assert not prefetch_threads() and list(items) == [] and kept


def run(code, **options):
    program = textwrap.dedent(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-u", "-c", program], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip


def test_a_program_ends_though_its_iterator_is_still_there():
    process = run(
        """
        from minigrad.data import Pipeline
        items = iter(Pipeline(range(1000)).prefetch(2))
        kept = [items, next(items)]
        print("done")
        """
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "done\n", "")


if os.name == "posix":  # where SIGINT can be sent

    @pytest.mark.parametrize("busy", ["waiting", "in the loop"])
    def test_ctrl_c_ends_loop_thread_and_program(busy):
        process = run(
            f"""
            import threading, time
            from minigrad.data import Pipeline
            release = threading.Event()
            def slow(x):
                if x == 2 and {busy == "waiting"}:
                    print("ready", flush=True)
                    release.wait(2)
                return x
            try:
                for x in Pipeline(range(9)).map(slow).prefetch(1):
                    if x == 1 and {busy == "in the loop"}:
                        print("ready", flush=True)
                        time.sleep(100)
            except KeyboardInterrupt:
                print("interrupted", [t.name for t in threading.enumerate()])
            """
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "interrupted ['MainThread']\n", "")


def test_one_pipeline_in_several_threads():
    """Each thread has a pass of its own."""
    pipeline = Pipeline(range(300)).map(lambda x: x + 1).prefetch(2)
    sums = []
    threads = [threading.Thread(target=lambda: sums.append(sum(pipeline))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(1, 301))] * 4


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_names_stage_and_element_and_keeps_the_original_traceback(ahead):
    pipeline = Pipeline(range(9)).shuffle(1, generator=0).map(fails_at(5)).batch(2)
    pipeline = pipeline.prefetch(2) if ahead else pipeline
    taken = []
    with pytest.raises(PipelineError) as caught:
        for batch in pipeline:
            taken.append(batch.tolist())
    assert taken == [[0, 1], [2, 3]]
    assert str(caught.value) == "stage 2, map(parse), element 5: ZeroDivisionError: cannot parse 5"
    cause = caught.value.__cause__
    assert type(cause) is ZeroDivisionError
    lines = traceback.extract_tb(cause.__traceback__)
    assert (lines[-1].name, Path(lines[-1].filename).name) == ("parse", "test_pipeline.py")


def raising_source():
    yield 1
    raise OSError("disk gone")


class Broken:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return [1, 2, "x"][index] + 0


@pytest.mark.parametrize(
    "pipeline, pattern, cause",
    [
        (Pipeline(raising_source), r"the source, raising_source, element 1: OSError", OSError),
        (Pipeline(Broken()), r"the source, Broken, element 2: TypeError", TypeError),
        (Pipeline([np.ones(1), np.ones(2)]).batch(2), r"stage 1, batch\(2\), element 0: ShapeError:"
         " default_collate: item 1", ShapeError),
        (Pipeline([[1], [], [2]]).padded_batch(3), r"padded_batch\(3\), element 0: DataError: pad:"
         " sequence 1", DataError),
        (Pipeline([([1], 2), [3]]).padded_batch(2), "padded_batch.*tuples of 2", DataError),
        (Pipeline([[1], 2]).bucket(2, (3,)), r"stage 1, bucket\(2\), element 0: TypeError",
         TypeError),
        (Pipeline([1, 2]).batch(1).map(next), r"stage 2, map\(next\), element 0", TypeError),
        (Pipeline([1]).map(lambda x: next(iter(()))), "stage 1, map.*StopIteration", RuntimeError),
        (Pipeline([1]).repeat(2).prefetch(1).map(int.bit_length, generator=0),
         r"stage 3, map\(bit_length\)", TypeError),
    ],
)  # fmt: skip
def test_every_stage_says_where(pipeline, pattern, cause):
    for ending in (pipeline, pipeline.prefetch(1), pipeline.repeat(2)):
        with pytest.raises(PipelineError, match=pattern) as caught:
            list(ending)
        assert isinstance(caught.value.__cause__, cause)
        assert not prefetch_threads()


@pytest.mark.parametrize(
    "call, error, pattern",
    [
        (lambda p: Pipeline("text"), DTypeError, "Pipeline: source must be .* not str"),
        (lambda p: Pipeline({1: 2}), DTypeError, "source must be .* not dict"),
        (lambda p: Pipeline(3), DTypeError, "source must be .* not int"),
        (lambda p: p.shuffle(), ArgumentError, r"Pipeline.shuffle: shuffling needs generator="),
        (lambda p: p.shuffle(0, generator=0), ArgumentError, "shuffle: buffer_size must be at lea"),
        (lambda p: p.shuffle(2.0, generator=0), DTypeError, "buffer_size must be an integer"),
        (lambda p: p.shuffle(2, generator="x"), DTypeError, "generator must be"),
        (lambda p: p.map(3), DTypeError, "Pipeline.map: function must be a function, not int"),
        (lambda p: p.map(len, generator=-1), ArgumentError, "seed must not be negative"),
        (lambda p: p.batch(0), ArgumentError, "Pipeline.batch: batch_size must be at least 1"),
        (lambda p: p.batch(2, collate_fn=1), DTypeError, "collate_fn must be a function"),
        (lambda p: p.padded_batch(-1), ArgumentError, "padded_batch: batch_size"),
        (lambda p: p.bucket(2, (3, 3)), ArgumentError, "Pipeline.bucket: boundaries must increase"),
        (lambda p: p.bucket(2, 3), DTypeError, "Pipeline.bucket: boundaries must be lengths"),
        (lambda p: p.bucket(2, (0, 3)), ArgumentError, "a boundary must be at least 1"),
        (lambda p: p.repeat(0), ArgumentError, "Pipeline.repeat: count"),
        (lambda p: p.repeat(True), DTypeError, "count must be an integer"),
        (lambda p: p.prefetch(0), ArgumentError, "Pipeline.prefetch: size"),
        (lambda p: p.prefetch(1.5), DTypeError, "Pipeline.prefetch: size"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, pattern):
    with pytest.raises(error, match=pattern):
        call(Pipeline([1, 2]))
