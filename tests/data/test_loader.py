"""Datasets, random_split, default_collate and DataLoader."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import (
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from minigrad.errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError


class Squares(Dataset):
    """Item i is (the row [i, i*i] in float32, the number i)."""

    def __init__(self, count):
        self.count = count
        self.visited = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert type(index) is int
        self.visited.append(index)
        return np.array([index, index * index], dtype=np.float32), index


def rows(count):
    return TensorDataset(
        np.arange(2 * count, dtype=np.float32).reshape(count, 2), np.arange(count, dtype=np.int32)
    )


def order(loader):
    """The labels of one pass, batch by batch."""
    return [batch[1].tolist() for batch in loader]


# -- datasets ----------------------------------------------------------------------------------


def test_tensor_dataset_items():
    data = rows(4)
    assert len(data) == 4
    x, y = data[1]
    assert x.tolist() == [2.0, 3.0] and y == 1
    assert data[-1][1] == 3
    assert [part.tolist() for part in data[1:3]] == [[[2, 3], [4, 5]], [1, 2]]
    assert data[np.array([3, 0])][1].tolist() == [3, 0]
    assert [int(y) for _, y in data] == [0, 1, 2, 3]  # ends at its IndexError


def test_tensor_dataset_keeps_arrays_and_dtypes():
    x = np.zeros((3, 2), dtype=np.float16)
    assert TensorDataset(x).arrays[0] is x
    assert TensorDataset([1, 2, 3]).arrays[0].dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((), ArgumentError, "at least one array"),
        (
            (np.zeros((3, 2)), np.zeros(4)),
            ShapeError,
            r"array 1 has 4 items \(axis 0 of \(4,\)\), but array 0 has 3 \(axis 0 of \(3, 2\)\)",
        ),
        ((np.zeros(3), 5), ShapeError, "array 1 is a scalar"),
        ((5,), ShapeError, "array 0 is a scalar"),
        ((np.array([None, 1]),), DTypeError, "array 0, a ndarray, is not an array of numbers"),
        (([[1, 2], [3]],), ShapeError, "array 0 is not an array"),
    ],
)
def test_tensor_dataset_refuses(arrays, error, message):
    with pytest.raises(error, match=message):
        TensorDataset(*arrays)


def test_a_dataset_without_its_methods_cannot_be_made():
    class Half(Dataset):
        def __len__(self):
            return 3

    with pytest.raises(TypeError, match="__getitem__"):
        Half()


def test_subset():
    part = Subset(rows(5), [4, 0, 4])
    assert len(part) == 3
    assert [int(y) for _, y in part] == [4, 0, 4]
    assert len(Subset(rows(5), [])) == 0
    with pytest.raises(IndexError):
        part[3]


def test_subset_copies_its_indices():
    indices = np.array([0, 1])
    part = Subset(rows(5), indices)
    indices[:] = 4
    assert part.indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0, 5], IndexRangeError, r"indices\[1\] is 5, but the dataset's 5 items are 0\.\.4"),
        ([0, -1], IndexRangeError, r"indices\[1\] is -1"),
        ([True, False, True, False, True], DTypeError, "flatnonzero"),
        ([0.0], DTypeError, "float64"),
        ([[0]], ShapeError, r"\(1, 1\)"),
        (3, ShapeError, r"\(\)"),
    ],
)
def test_subset_refuses(indices, error, message):
    with pytest.raises(error, match=message):
        Subset(rows(5), indices)


@pytest.mark.parametrize(
    "build", [DataLoader, lambda d: Subset(d, [0]), lambda d: random_split(d, [1], 0)]
)
def test_what_is_no_dataset_is_refused(build):
    for wrong, message in (
        (3, "a int has not"),
        (iter([1]), "list_iterator has not"),
        ({"x": np.zeros(3)}, "a dict is no dataset of numbered items"),
        ("train.csv", "a str is no dataset"),
    ):
        with pytest.raises(DTypeError, match=message):
            build(wrong)


# -- random_split ------------------------------------------------------------------------------


def test_random_split_deals_out_every_item_once():
    parts = random_split(rows(100), [70, 20, 10], 3)
    assert [len(part) for part in parts] == [70, 20, 10]
    dealt = np.concatenate([part.indices for part in parts])
    assert sorted(dealt) == list(range(100)) and dealt.tolist() != list(range(100))


def test_random_split_repeats_with_its_seed():
    def deal(generator):
        return [part.indices.tolist() for part in random_split(rows(30), [20, 10], generator)]

    assert deal(3) == deal(3) == deal(np.random.default_rng(3)) == deal(np.int64(3))
    assert deal(3) != deal(4)
    rng = np.random.default_rng(3)
    assert deal(rng) != deal(rng)  # a generator goes on


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 200))
def test_random_split_by_fractions_leaves_nothing_over(weights, count):
    fractions = [weight / sum(weights) for weight in weights]
    parts = random_split(range(count), fractions, 0)
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(count))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * count) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ([0.8, 0.2], [80, 20]),
        ([0.29, 0.71], [29, 71]),
        ([0.7, 0.1, 0.2], [70, 10, 20]),
        ([1.0], [100]),
    ],
)
def test_random_split_sizes(fractions, sizes):
    assert [len(part) for part in random_split(range(100), fractions, 0)] == sizes


def test_random_split_by_fractions_that_only_nearly_add_up():
    parts = random_split(range(1_000_000), [0.5, 0.4999991], 0)
    assert sum(len(part) for part in parts) == 1_000_000


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([6, 3], r"add up to 9, but the dataset has 10 items"),
        ([11, -1], "must not be negative"),
        ([0.5, 0.6], r"must add up to 1, but .* add up to 1\.1"),
        ([9, 0.1], "counts must be integers"),
        ([float("nan"), 1.0], "negative or NaN"),
        ([], "must be counts or fractions"),
        (10, "must be counts or fractions"),
        (["a"], "must be counts or fractions"),
        ([True], "must be counts or fractions"),
    ],
)
def test_random_split_refuses_lengths_before_drawing(lengths, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ArgumentError, match=message):
        random_split(rows(10), lengths, rng)
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    ("generator", "error", "message"),
    [
        (None, ArgumentError, "same seed gives the same order"),
        (-1, ArgumentError, "must not be negative"),
        (True, DTypeError, "not bool"),
        (0.5, DTypeError, "not float"),
        (np.random.RandomState(0), DTypeError, "not RandomState"),
    ],
)
def test_generators_are_explicit(generator, error, message):
    with pytest.raises(error, match=message):
        random_split(rows(10), [5, 5], generator)
    with pytest.raises(error, match=message):
        DataLoader(rows(10), shuffle=True, generator=generator)


# -- default_collate ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "dtype", "values"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([1.5, 2.0], np.float64, [1.5, 2.0]),
        ([1, 2.5], np.float64, [1.0, 2.5]),
        ([True, False], np.bool_, [True, False]),
        ([np.float32(1), np.float32(2)], np.float32, [1.0, 2.0]),
        ([np.int16(1), np.int16(2)], np.int16, [1, 2]),
        ([np.zeros(2, np.float32), np.ones(2, np.float32)], np.float32, [[0, 0], [1, 1]]),
        ([np.zeros((0, 3))], np.float64, [[]]),
    ],
)
def test_collate_numbers_and_arrays(items, dtype, values):
    batch = default_collate(items)
    assert isinstance(batch, np.ndarray) and batch.dtype == dtype
    assert batch.tolist() == values and len(batch) == len(items)


def test_collate_fields():
    Pair = namedtuple("Pair", "x y")
    x, y = default_collate([(np.zeros(3, np.float32), 1), (np.ones(3, np.float32), 2)])
    assert x.shape == (2, 3) and y.tolist() == [1, 2]
    batch = default_collate([Pair(1, "a"), Pair(2, "b")])
    assert type(batch) is Pair and batch.x.tolist() == [1, 2] and batch.y == ["a", "b"]
    batch = default_collate([{"x": np.zeros(2), "n": [1, 2.0]}, {"n": [3, 4.0], "x": np.ones(2)}])
    assert list(batch) == ["x", "n"] and batch["x"].shape == (2, 2)
    assert isinstance(batch["n"], list) and [part.tolist() for part in batch["n"]] == [
        [1, 3],
        [2, 4],
    ]
    assert default_collate([b"a", b"b"]) == [b"a", b"b"]
    assert default_collate([(), ()]) == ()


def test_collate_reads_what_numpy_reads():
    class Arrayish:
        def __array__(self, dtype=None, copy=None):
            return np.array([1, 2], dtype=np.float32)

    assert default_collate([Arrayish(), Arrayish()]).dtype == np.float32


def test_collate_copies():
    item = np.zeros(2)
    default_collate([item])[...] = 7
    assert item.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], DataError, "no items"),
        (
            [np.zeros(2), np.zeros(3)],
            ShapeError,
            r"item 1 has shape \(3,\), but item 0 has \(2,\); pad",
        ),
        ([(0, np.zeros(2)), (0, np.zeros((2, 1)))], ShapeError, r"item 1\[1\] has shape \(2, 1\)"),
        ([np.zeros(2), 5], ShapeError, r"item 1 has shape \(\)"),
        (
            [np.zeros(2, np.float32), np.zeros(2)],
            DTypeError,
            "item 1 is float64, but item 0 is float32",
        ),
        ([{"x": np.zeros(1)}, {"y": np.zeros(1)}], DataError, r"item 1 has the keys \['y'\]"),
        ([{"x": (1, None)}], DTypeError, r"item 0\['x'\]\[1\], a NoneType, .* collate_fn"),
        ([{"x": 1}, (1,)], DataError, "item 1 is a tuple, but item 0 is a dict"),
        ([(1,), np.zeros(1)], DataError, "item 1 is a ndarray, but item 0 is a tuple"),
        ([("a",), (1,)], DataError, r"item 1\[0\] is a int, but item 0\[0\] is a str"),
        ([(1, 2), (1,)], DataError, "item 1 has 1 fields, but item 0 has 2"),
        ([None, None], DTypeError, "item 0, a NoneType"),
        ([{1, 2}], DTypeError, "item 0, a set"),
        ([2**70, 1], DTypeError, "not an array of numbers"),
    ],
)
def test_collate_refuses(items, error, message):
    with pytest.raises(error, match=message):
        default_collate(items)


# -- DataLoader --------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.booleans())
def test_every_item_comes_once(count, batch_size, drop_last, shuffle):
    kept = count - count % batch_size if drop_last else count
    for data in (rows(count), Squares(count), Subset(rows(count), np.arange(count))):
        if kept == 0:
            with pytest.raises(ArgumentError, match="drop_last"):
                DataLoader(data, batch_size, shuffle, drop_last=drop_last, generator=0)
            continue
        loader = DataLoader(data, batch_size, shuffle, drop_last=drop_last, generator=0)
        batches = order(loader)
        assert len(loader) == len(batches)
        assert all(len(batch) == batch_size for batch in batches[: kept // batch_size])
        seen = sum(batches, [])
        assert len(seen) == kept and len(set(seen)) == kept
        if not shuffle:
            assert seen == list(range(kept))


@pytest.mark.parametrize("data", [rows(5), Squares(5)])
def test_batches_are_tuples_of_arrays(data):
    first, *_, last = DataLoader(data, batch_size=2)
    assert type(first) is tuple
    x, y = first
    assert x.shape == (2, 2) and x.dtype == np.float32 and x.flags.c_contiguous
    assert y.shape == (2,) and y.tolist() == [0, 1]
    assert last[0].shape == (1, 2)


def test_one_array_still_gives_a_tuple():
    (batch,) = DataLoader(TensorDataset(np.arange(3)), batch_size=3)
    assert type(batch) is tuple and len(batch) == 1


def test_the_short_cut_equals_the_long_way():
    class Long(TensorDataset):
        """Not the class itself, so the loader visits every item."""

    rng = np.random.default_rng(0)
    arrays = (
        np.asfortranarray(rng.random((23, 3, 2), dtype=np.float32)),
        rng.random(23),
        rng.integers(0, 9, 46)[::2].astype(np.uint8),
    )
    part = rng.permutation(23)[:17]
    for wrap in (lambda data: data, lambda data: Subset(Subset(data, part), np.arange(16)[::-1])):
        quick = DataLoader(wrap(TensorDataset(*arrays)), 5, True, generator=1)
        slow = DataLoader(wrap(Long(*arrays)), 5, True, generator=1)
        for left, right in zip(quick, slow, strict=True):
            for a, b in zip(left, right, strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype and a.flags.c_contiguous and b.flags.c_contiguous


@pytest.mark.parametrize("data", [rows(6), Squares(6)])
def test_subsets_are_loaded_in_their_own_order(data):
    assert order(DataLoader(Subset(data, [5, 1, 3]), 2)) == [[5, 1], [3]]
    assert order(DataLoader(Subset(Subset(data, [5, 1, 3]), [2, 0]), 2)) == [[3, 5]]


@pytest.mark.parametrize("base", [TensorDataset, Subset])
def test_a_subclass_that_changes_its_items_is_respected(base):
    class Doubled(base):
        def __getitem__(self, index):
            assert type(index) is int  # as such a class may rely on
            return tuple(2 * part for part in super().__getitem__(index))

    args = (np.arange(4),) if base is TensorDataset else (TensorDataset(np.arange(4)), range(4))
    (batch,) = DataLoader(Doubled(*args), batch_size=4)
    assert batch[0].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("data", [rows(6), Squares(6), Subset(rows(6), range(6))])
def test_batches_are_copies(data):
    for x, _ in DataLoader(data, batch_size=6):
        x[...] = -1
    (again,) = DataLoader(data, batch_size=6)
    assert (again[0] >= 0).all()


def test_items_are_fetched_when_asked_for():
    data = Squares(100)
    passing = iter(DataLoader(data, batch_size=10))
    assert data.visited == []
    next(passing)
    assert data.visited == list(range(10))


def test_shuffle_repeats_with_its_seed_and_differs_by_pass():
    def passes(generator):
        loader = DataLoader(rows(50), 7, shuffle=True, generator=generator)
        return [order(loader) for _ in range(3)]

    first = passes(5)
    assert first == passes(5) == passes(np.random.default_rng(5))
    assert first != passes(6)
    assert first[0] != first[1] != first[2]
    assert sorted(sum(first[1], [])) == list(range(50))


def test_shuffling_never_touches_the_global_state():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    list(DataLoader(rows(50), 7, shuffle=True, generator=5))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_a_pass_is_drawn_when_it_starts():
    loader = DataLoader(rows(20), 20, shuffle=True, generator=5)
    first, second = iter(loader), iter(loader)
    late, early = next(second)[1].tolist(), next(first)[1].tolist()
    reference = DataLoader(rows(20), 20, shuffle=True, generator=5)
    assert [early, late] == [order(reference)[0], order(reference)[0]]


def test_without_shuffle_the_generator_is_left_alone():
    rng = np.random.default_rng(0)
    assert order(DataLoader(rows(3), 2, generator=rng)) == [[0, 1], [2]]
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("data", [rows(5), Squares(5)])
def test_collate_fn_gets_the_list_of_items(data):
    loader = DataLoader(data, batch_size=2, collate_fn=lambda items: [int(y) for _, y in items])
    assert list(loader) == [[0, 1], [2, 3], [4]]


def test_anything_with_length_and_items_is_a_dataset():
    assert [b.tolist() for b in DataLoader([3, 1, 2], batch_size=2)] == [[3, 1], [2]]
    assert [b.tolist() for b in DataLoader(np.eye(2), batch_size=2)] == [[[1, 0], [0, 1]]]
    assert isinstance([1], Dataset) and not isinstance(3, Dataset)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size must be at least 1, not 0"),
        ({"batch_size": 2.0}, DTypeError, "batch_size must be an integer"),
        ({"batch_size": None}, DTypeError, "batch_size must be an integer, not None"),
        (
            {"shuffle": True},
            ArgumentError,
            "shuffle=True needs generator=.*same seed gives the same order",
        ),
        (
            {"generator": "7"},
            DTypeError,
            "generator must be a np.random.Generator or an integer seed",
        ),
        ({"collate_fn": 3}, DTypeError, "collate_fn must be a function"),
        ({"batch_size": 6, "drop_last": True}, ArgumentError, "leaves no batch of the 5 items"),
    ],
)
def test_loader_refuses(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        DataLoader(rows(5), **arguments)
    assert str(caught.value).startswith("DataLoader: ")


def test_an_empty_dataset_is_refused():
    for empty in ([], TensorDataset(np.zeros((0, 3))), Subset(rows(3), [])):
        with pytest.raises(DataError, match="empty"):
            DataLoader(empty)
