"""Padding and bucketing: nothing lost, nothing twice, the share of padding as counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import BucketBatches, pad
from minigrad.errors import ArgumentError, DataError, DTypeError, ShapeError


def _made(lengths):
    """Sequences that can be told apart: number i holds 100 i + 1, 100 i + 2, ..."""
    return [100 * i + 1 + np.arange(length) for i, length in enumerate(lengths)]


def test_pad():
    padded = pad([[3, 4], np.array([5], np.int8), (6, 7, 8)], value=-1)
    assert padded.ids.tolist() == [[3, 4, -1], [5, -1, -1], [6, 7, 8]]
    assert padded.lengths.tolist() == [2, 1, 3]
    assert padded.ids.dtype == padded.lengths.dtype == np.int64


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    boundaries=st.lists(st.integers(1, 30), max_size=4, unique=True).map(sorted),
    shuffle=st.booleans(),
)
def test_every_sequence_comes_once_with_its_partner(lengths, batch_size, boundaries, shuffle):
    first, second = _made(lengths), [[i] * (31 - n) for i, n in enumerate(lengths)]
    batches = BucketBatches(
        first, second, batch_size=batch_size, boundaries=boundaries, shuffle=shuffle, generator=3
    )
    seen, real, places = [], 0, 0
    epoch = list(batches)
    assert len(epoch) == len(batches)
    for a, b in epoch:
        assert len(a.ids) == len(b.ids) <= batch_size
        assert a.ids.shape[1] == a.lengths.max() and b.ids.shape[1] == b.lengths.max()
        assert len(set(np.searchsorted(boundaries, a.lengths))) == 1
        for row, n, other, m in zip(a.ids, a.lengths, b.ids, b.lengths, strict=True):
            i = row[0] // 100
            seen.append(i)
            assert row[:n].tolist() == first[i].tolist() and not row[n:].any()
            assert other[:m].tolist() == second[i] and not other[m:].any()
        real += a.lengths.sum() + b.lengths.sum()
        places += a.ids.size + b.ids.size
    assert sorted(seen) == list(range(len(lengths)))
    assert (batches.padding.real, batches.padding.places) == (real, places)


def test_what_is_saved_by_hand():
    """Two batches of two: (1, 9) and (1, 9) without buckets, (1, 1) and (9, 9) with them."""
    sequences = _made([1, 9, 1, 9])
    padding = BucketBatches(sequences, batch_size=2, boundaries=[5]).padding
    assert (padding.real, padding.places, padding.places_without) == (20, 20, 36)
    assert padding.share == 0 and padding.share_without == pytest.approx(16 / 36)
    assert padding.saved == pytest.approx(16 / 36)
    assert str(padding) == (
        "padding is 0.0% of the batches, without buckets 44.4%; 44.4% of all places are saved"
    )
    one = BucketBatches(sequences, batch_size=2).padding
    assert one.places == one.places_without == 36 and one.saved == 0


def test_many_lengths_save_much():
    lengths = np.random.default_rng(0).integers(1, 101, 4000)
    batches = BucketBatches(
        _made(lengths), batch_size=32, boundaries=range(10, 100, 10), shuffle=True, generator=0
    )
    list(batches)
    assert batches.padding.share < 0.12 < 0.4 < batches.padding.share_without


def test_orders():
    sequences = _made([3] * 50)

    def order(batches):
        return [row[0] // 100 for batch, in batches for row in batch.ids]

    shuffled = BucketBatches(sequences, batch_size=4, shuffle=True, generator=1)
    first, second = order(shuffled), order(shuffled)
    assert first != second and sorted(first) == sorted(second) == list(range(50))
    again = BucketBatches(sequences, batch_size=4, shuffle=True, generator=1)
    assert order(again) == first
    assert order(BucketBatches(sequences, batch_size=4)) == list(range(50))


def test_drop_last():
    batches = BucketBatches(_made([1] * 5 + [9] * 3), batch_size=2, boundaries=[4], drop_last=True)
    sizes = [len(batch.ids) for batch, in batches]
    assert sizes == [2, 2, 2] and len(batches) == 3


def test_refusals():
    good = _made([1, 2])
    for error, words, make in [
        (DataError, ["no sequences"], lambda: pad([])),
        (DataError, ["sequence 1", "EOS"], lambda: pad([[1], []])),
        (ShapeError, ["number 0", "(1, 1)"], lambda: pad([[[1]]])),
        (DTypeError, ["sequence 0", "float64"], lambda: pad([[0.5]])),
        (DTypeError, ["text"], lambda: pad("abc")),
        (ArgumentError, ["at least one"], lambda: BucketBatches(batch_size=2)),
        (ShapeError, ["column 1 has 1", "column 0 has 2"],
         lambda: BucketBatches(good, good[:1], batch_size=2)),
        (ArgumentError, ["increase"],
         lambda: BucketBatches(good, batch_size=2, boundaries=[5, 5])),
        (ArgumentError, ["boundary"], lambda: BucketBatches(good, batch_size=2, boundaries=[0])),
        (ArgumentError, ["batch_size"], lambda: BucketBatches(good, batch_size=0)),
        (ArgumentError, ["generator"], lambda: BucketBatches(good, batch_size=2, shuffle=True)),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            make()
        assert all(word in str(caught.value) for word in words), caught.value
