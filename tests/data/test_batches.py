"""CursorBatches and SequenceBatches against literal, slow statements of the documents' readers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import CursorBatches, SequenceBatches, encode
from minigrad.errors import ArgumentError, DataError, DTypeError, ShapeError


class SlowCursors:
    """The tutorial's algorithm, with ids for one-hot rows: one cursor, one step at a time."""

    def __init__(self, ids, batch_size, unroll):
        self.ids = list(ids)
        self.unroll = unroll
        segment = len(self.ids) // batch_size
        self.cursors = [segment * n for n in range(batch_size)]
        self.last_row = self.advance()

    def advance(self):
        row = []
        for n, cursor in enumerate(self.cursors):
            row.append(self.ids[cursor])
            cursor += 1
            if cursor == len(self.ids):
                cursor = 0
            self.cursors[n] = cursor
        return row

    def window(self):
        rows = [self.last_row]
        while len(rows) < self.unroll + 1:
            rows.append(self.advance())
        self.last_row = rows[-1]
        return rows


@given(
    length=st.integers(1, 60),
    batch_size=st.integers(1, 60),
    unroll=st.integers(1, 150),
    calls=st.integers(1, 6),
)
def test_equals_the_documents_generator(length, batch_size, unroll, calls):
    batch_size = min(batch_size, length)
    ids = np.arange(length)  # all different, so that a wrong place shows
    fast, slow = CursorBatches(ids, batch_size, unroll), SlowCursors(ids, batch_size, unroll)
    for _ in range(calls):
        assert next(fast).tolist() == slow.window()


@pytest.mark.parametrize(
    ("length", "batch_size", "unroll"), [(1000, 64, 10), (643, 64, 10), (641, 64, 7), (11, 3, 40)]
)
def test_many_wraps(length, batch_size, unroll):
    ids = np.random.default_rng(0).integers(0, 27, length)
    fast, slow = CursorBatches(ids, batch_size, unroll), SlowCursors(ids, batch_size, unroll)
    for _ in range(4 * length // unroll + 5):
        assert next(fast).tolist() == slow.window()


def test_a_small_case_by_hand():
    batches = CursorBatches(encode("abcdefg"), batch_size=2, unroll=3)  # cursors at a and d
    assert next(batches).tolist() == [[1, 4], [2, 5], [3, 6], [4, 7]]
    assert next(batches).tolist() == [[4, 7], [5, 1], [6, 2], [7, 3]]


def test_windows_overlap_by_one_row_and_targets_follow_inputs():
    batches = CursorBatches(np.arange(1000), batch_size=8, unroll=10)
    first, second = next(batches), next(batches)
    np.testing.assert_array_equal(first[-1], second[0])
    inputs, targets = first[:-1], first[1:]
    assert inputs.shape == targets.shape == (10, 8)
    np.testing.assert_array_equal(targets, inputs + 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64, ">i4"])
def test_one_dtype_and_layout_whatever_the_ids(dtype):
    window = next(CursorBatches((np.arange(100) % 27).astype(dtype), 4, 5))
    assert window.dtype == np.int64 and window.shape == (6, 4) and window.flags.c_contiguous
    assert window[:, 1].tolist() == [25, 26, 0, 1, 2, 3]


def test_windows_are_fresh_arrays():
    ids = np.arange(50)
    batches = CursorBatches(ids, 5, 4)
    window = next(batches)
    kept = window.copy()
    window[...] = -1
    assert next(batches)[0].tolist() == kept[-1].tolist()
    assert ids.tolist() == list(range(50))


def test_strided_and_listed_ids():
    every_other = np.arange(100)[::2]
    assert next(CursorBatches(every_other, 5, 2)).tolist() == [
        [0, 20, 40, 60, 80],
        [2, 22, 42, 62, 82],
        [4, 24, 44, 64, 84],
    ]
    assert next(CursorBatches([3, 1, 2], 1, 2)).tolist() == [[3], [1], [2]]


def test_is_an_endless_iterator_that_does_not_restart():
    batches = CursorBatches(np.arange(7), 2, 3)
    assert iter(batches) is batches
    seen = [window[0].tolist() for _, window in zip(range(4), batches, strict=False)]
    assert seen == [[0, 3], [3, 6], [6, 2], [2, 5]]
    assert batches.position == 12


def test_resume_anywhere():
    ids = np.random.default_rng(1).integers(0, 27, 101)
    whole = CursorBatches(ids, 7, 10)
    windows = [next(whole) for _ in range(40)]
    for stop in (0, 1, 15, 39):
        first = CursorBatches(ids, 7, 10)
        for _ in range(stop):
            next(first)
        state = first.state_dict()
        assert state == {"position": 10 * stop, "batch_size": 7, "length": 101}
        assert all(type(value) is int for value in state.values())
        second = CursorBatches(ids, 7, 10)
        next(second)  # it need not be new
        second.load_state_dict(state)
        for expected in windows[stop:]:
            np.testing.assert_array_equal(next(second), expected)


def test_resume_after_a_trip_through_npz(tmp_path):
    batches = CursorBatches(np.arange(100), 4, 6)
    next(batches)
    np.savez(tmp_path / "state.npz", **batches.state_dict())
    expected = next(batches)
    again = CursorBatches(np.arange(100), 4, 6)
    with np.load(tmp_path / "state.npz") as state:
        again.load_state_dict(dict(state))
    np.testing.assert_array_equal(next(again), expected)
    assert type(again.position) is int


def test_resume_with_another_unroll_goes_on_at_the_same_character():
    short, long = CursorBatches(np.arange(100), 4, 6), CursorBatches(np.arange(100), 4, 9)
    last = next(short)[-1]
    long.load_state_dict(short.state_dict())
    assert next(long)[0].tolist() == last.tolist()


def test_a_position_beyond_every_machine_integer():
    batches = CursorBatches(np.arange(100), 4, 6)
    batches.load_state_dict({"position": 10**30 + 3, "batch_size": 4, "length": 100})
    assert next(batches)[:, 0].tolist() == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "batch_size 5, but here it is 4"),
        ({"length": 99}, "length 99, but here it is 100"),
        ({"position": -1}, "must not be negative"),
        ({"position": 1.5}, "must be an integer"),
        ({"position": "3"}, "must be an integer"),
        ({"unroll": 6}, "exactly the entries position, batch_size, length"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(change, message):
    batches = CursorBatches(np.arange(100), 4, 6)
    next(batches)
    before = batches.state_dict()
    with pytest.raises(DataError, match=message):
        batches.load_state_dict({**before, **change})
    assert batches.state_dict() == before
    for wrong in ({}, {"position": 3}, None, [1, 2, 3]):
        with pytest.raises(DataError, match="exactly the entries"):
            batches.load_state_dict(wrong)


@pytest.mark.parametrize(
    ("ids", "batch_size", "unroll", "error", "message"),
    [
        (np.arange(63), 64, 10, DataError, "63 characters, fewer than batch_size=64"),
        ([], 1, 1, DataError, "0 characters"),
        (np.arange(9), 0, 10, ArgumentError, "batch_size must be at least 1, not 0"),
        (np.arange(9), -2, 10, ArgumentError, "batch_size must be at least 1, not -2"),
        (np.arange(9), 2, 0, ArgumentError, "unroll must be at least 1, not 0"),
        (np.arange(9), 2.0, 1, DTypeError, r"batch_size must be an integer, not 2\.0 \(float\)"),
        (np.arange(9), True, 1, DTypeError, "batch_size must be an integer, not True"),
        (np.arange(9), 2, None, DTypeError, "unroll must be an integer, not None"),
        (np.arange(9), 2, "3", DTypeError, "unroll must be an integer, not '3'"),
        ("abcdef", 2, 1, DTypeError, "encode it first"),
        (b"abcdef", 2, 1, DTypeError, "encode it first"),
        (np.arange(9.0), 2, 1, DTypeError, "float64"),
        (np.ones(9, dtype=bool), 2, 1, DTypeError, "bool"),
        (np.eye(3, dtype=int), 2, 1, ShapeError, r"\(3, 3\)"),
        (5, 1, 1, ShapeError, r"shape is \(\)"),
    ],
)
def test_bad_arguments_are_refused(ids, batch_size, unroll, error, message):
    with pytest.raises(error, match=message) as caught:
        CursorBatches(ids, batch_size, unroll)
    assert str(caught.value).startswith("CursorBatches: ")


def test_numpy_integers_are_integers():
    assert next(CursorBatches(np.arange(9), np.int32(3), np.uint8(2))).shape == (3, 3)


# -- SequenceBatches ---------------------------------------------------------------------------


def slow_epoch(ids, batch_size, unroll):
    """The tutorial's producer, with lists for tensors."""
    row = len(ids) // batch_size
    rows = [ids[row * n : row * (n + 1)] for n in range(batch_size)]
    epoch = []
    for i in range((row - 1) // unroll):
        x = [each[i * unroll : (i + 1) * unroll] for each in rows]
        y = [each[i * unroll + 1 : (i + 1) * unroll + 1] for each in rows]
        epoch.append((x, y))
    return epoch


@given(length=st.integers(2, 200), batch_size=st.integers(1, 20), unroll=st.integers(1, 40))
def test_an_epoch_equals_the_documents_producer(length, batch_size, unroll):
    expected = slow_epoch(list(range(length)), batch_size, unroll)
    if not expected:
        with pytest.raises(DataError, match="take a longer text"):
            SequenceBatches(np.arange(length), batch_size, unroll)
        return
    batches = SequenceBatches(np.arange(length), batch_size, unroll)
    assert len(batches) == len(expected)
    for _ in range(2):  # every pass is a whole epoch
        epoch = [(x.tolist(), y.tolist()) for x, y in batches]
        assert epoch == expected


def test_an_epoch_by_hand():
    batches = SequenceBatches(np.arange(12), batch_size=2, unroll=2)  # rows 0 to 5 and 6 to 11
    epoch = [(x.tolist(), y.tolist()) for x, y in batches]
    assert epoch == [
        ([[0, 1], [6, 7]], [[1, 2], [7, 8]]),
        ([[2, 3], [8, 9]], [[3, 4], [9, 10]]),
    ]  # 5 and 11 are targets of no window: the last would need one more


def test_the_size_of_an_epoch_of_ptb():
    assert len(SequenceBatches(np.zeros(929_589, np.int64), 20, 35)) == 1327


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, ">i4"])
def test_windows_are_fresh_and_of_one_dtype_and_layout(dtype):
    ids = np.arange(100).astype(dtype)[::-1]
    batches = SequenceBatches(ids, 1, 9)
    for x, y in batches:
        for window in (x, y):
            assert window.dtype == np.int64 and window.shape == (1, 9)
            assert window.flags.c_contiguous and window.flags.owndata
            window[...] = -1
    assert ids.tolist() == list(range(99, -1, -1))


def test_two_passes_at_once_do_not_disturb_each_other():
    batches = SequenceBatches(np.arange(40), 2, 3)
    for (x, _), (again, _) in zip(batches, batches, strict=True):
        np.testing.assert_array_equal(x, again)


@pytest.mark.parametrize(
    ("ids", "batch_size", "unroll", "error", "message"),
    [
        (np.arange(71), 2, 35, DataError, "71 entries, which makes 2 rows of 35.* needs 36"),
        ([], 1, 1, DataError, "0 entries"),
        (np.arange(9), 0, 1, ArgumentError, "batch_size must be at least 1"),
        (np.arange(9), 1, -1, ArgumentError, "unroll must be at least 1"),
        (np.arange(9), 1, 1.0, DTypeError, "unroll must be an integer"),
        (np.arange(9.0), 1, 1, DTypeError, "float64"),
        ("abc", 1, 1, DTypeError, "encode it first"),
        (np.eye(3, dtype=int), 1, 1, ShapeError, r"\(3, 3\)"),
    ],
)
def test_bad_arguments_of_sequences_are_refused(ids, batch_size, unroll, error, message):
    with pytest.raises(error, match=message) as caught:
        SequenceBatches(ids, batch_size, unroll)
    assert str(caught.value).startswith("SequenceBatches: ")
