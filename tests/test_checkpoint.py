"""minigrad.checkpoint: what comes back, what is refused, what a crash leaves."""

import io
import json
import os
import subprocess
import sys
import zipfile
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn, optim, watch
from minigrad.data import CursorBatches, DataLoader, Endless, SequenceBatches, TensorDataset
from minigrad.errors import ArgumentError, CheckpointError, DataError, DTypeError

KINDS = [
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64,
]  # fmt: skip


class Look(NamedTuple):
    step: int
    both: tuple
    counts: np.ndarray


class Net(nn.Module):
    """Parameters, and the buffers of a batch norm."""

    def __init__(self, seed=0, width=4, norm=True):
        generator = np.random.default_rng(seed)
        self.dense = nn.Linear(3, width, generator=generator)
        if norm:
            self.norm = nn.BatchNorm(width)

    def forward(self, x):
        return self.norm(self.dense(x))


def train(model, optimizer, steps, generator):
    for _ in range(steps):
        loss = mg.square(model(mg.tensor(generator.random((8, 3), dtype=np.float32)))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def same(a, b):
    """Equal in value, kind and bits, however deep."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b):
            same(left, right)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, mg.Tensor):
        same(a.array, b.array)
    elif isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    elif isinstance(a, np.random.Generator):
        same(a.bit_generator.state, b.bit_generator.state)
    elif isinstance(a, float):
        assert repr(a) == repr(b)
    else:
        assert a == b


# -- what comes back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**200, "", "né\n", 0.1, 1e-310, -0.0, float("nan"),
        float("-inf"), [], (), {}, [1, 2.5, "x", None], (1, (2, [3])), list(range(10)),
        [True] * 9, [0.1, float("nan"), float("inf"), -0.0, 5e-324], [2**70] * 5,
        [1, 2, 3, 4.0], [True, 1, 2, 3], {"a": {"b": [1.0] * 6}}, {1: 2, (3, 4): "x"},
        {"$array": "x"}, {"a/b": [1.0] * 9, "a": {"b": [2.0] * 9}},
        np.arange(6).reshape(2, 3), np.zeros((0, 3), np.float16), np.array(3 + 4j),
        np.array([True, False]), np.float32(0.1), np.int8(-3), [np.float64(0.1)] * 6,
        [np.arange(3), np.arange(3)] * 3, [np.arange(3), np.arange(4)] * 3,
        [np.zeros(2, np.float32), np.zeros(2)] * 3, [np.array(1.5)] * 5,
        [(1, 0.5), (2, 0.25)] * 4, [(1, 0.5), (2,)] * 4, [()] * 6, [[1, 2]] * 7,
        Look(1, (2.0, 3.0), np.arange(3)), [Look(i, (0.5, i), np.arange(3)) for i in range(9)],
        (mg.tensor([1.0, 2.0]), None), mg.tensor(np.arange(3)),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_values_come_back_as_they_were(tmp_path, value):
    checkpoint.save(tmp_path / "c.npz", value=value, after=[value])
    read = checkpoint.read(tmp_path / "c.npz", Look)
    same(read["value"], value)
    same(read["after"], [value])
    same(checkpoint.snapshot(value, Look), value)


def test_views_and_fortran_order_come_back(tmp_path):
    base = np.arange(24.0).reshape(4, 6)
    values = {"strided": base[::2, ::3], "fortran": np.asfortranarray(base)}
    values["big"] = base.astype(">f4")
    checkpoint.save(tmp_path / "c.npz", **values)
    read = checkpoint.read(tmp_path / "c.npz")
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value)
    assert read["fortran"].flags.f_contiguous and read["big"].dtype == np.float32
    read["fortran"][0, 0] = 7  # arrays of their own


@pytest.mark.parametrize("kind", KINDS)
def test_generators_go_on_where_they_were(tmp_path, kind):
    generator, other = np.random.Generator(kind(3)), np.random.Generator(kind(4))
    generator.random(3, dtype=np.float32)  # leaves half a number in the buffer
    checkpoint.save(tmp_path / "c.npz", generator=generator)
    wanted = generator.integers(2**31, size=9, dtype=np.uint32), generator.standard_normal(3)
    checkpoint.load(tmp_path / "c.npz", generator=other)
    same((other.integers(2**31, size=9, dtype=np.uint32), other.standard_normal(3)), wanted)
    again = checkpoint.read(tmp_path / "c.npz")["generator"]
    same(again.integers(2**31, size=9, dtype=np.uint32), wanted[0])


def test_numpy_reads_the_arrays_by_name(tmp_path):
    model = Net()
    checkpoint.save(tmp_path / "c.npz", model=model)
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["model/dense.weight"], model.dense.weight.array)
        assert json.loads(file["structure.json"])["format"] == "minigrad checkpoint"


@pytest.mark.parametrize(
    "make", [optim.SGD, optim.Adam, optim.Adagrad, optim.RMSProp], ids=lambda make: make.__name__
)
def test_a_training_goes_on_with_the_same_bits(tmp_path, make):
    def begin(seed):
        model = Net(seed)
        optimizer = make(model.parameters(), lr=0.1)
        return {
            "model": model, "optimizer": optimizer, "generator": np.random.default_rng(seed),
            "schedule": optim.Cosine(optimizer, 9), "losses": [],
        }  # fmt: skip

    def go_on(kept, steps):
        for _ in range(steps):
            kept["losses"].append(train(kept["model"], kept["optimizer"], 1, kept["generator"]))
            kept["schedule"].step()

    straight, first, second = begin(0), begin(0), begin(5)
    go_on(straight, 7)
    go_on(first, 3)
    checkpoint.save(tmp_path / "c.npz", step=3, **first)
    losses = second["losses"]
    assert checkpoint.load(tmp_path / "c.npz", **second) == {"step": 3}
    go_on(second, 4)
    assert losses is second["losses"]  # changed in place
    same(second["losses"], straight["losses"])
    same(second["model"].state_dict(), straight["model"].state_dict())
    same(second["optimizer"].state_dict(), straight["optimizer"].state_dict())


def test_data_positions_come_back(tmp_path):
    def begin(seed):
        generator = np.random.default_rng(seed)
        loader = DataLoader(TensorDataset(np.arange(10)), 3, shuffle=True, generator=generator)
        return {
            "cursor": CursorBatches(np.arange(50), 2, 3), "endless": Endless(loader, generator),
            "words": Endless(SequenceBatches(np.arange(40), 2, 5)), "generator": generator,
        }  # fmt: skip

    names = ("cursor", "endless", "words")
    for taken in range(12):
        first, second = begin(0), begin(1)
        for name in names:
            for _ in range(taken):
                next(first[name])
        checkpoint.save(tmp_path / "c.npz", **first)
        checkpoint.load(tmp_path / "c.npz", **second)
        for name in names:
            for _ in range(9):
                same(next(second[name]), next(first[name]))
        assert second["endless"].epoch == first["endless"].epoch


def test_recorders_come_back(tmp_path):
    def begin():
        lstm = nn.LSTM(3, 4, generator=np.random.default_rng(0))
        kept = {
            "flows": watch.GradientFlow.attach(lstm), "gates": watch.Saturation.attach(lstm),
            "clips": watch.ClipTimeline(),
        }  # fmt: skip
        return lstm, kept

    lstm, kept = begin()
    for step in range(6):
        kept["flows"].tag(step)
        lstm(np.ones((2, 5, 3), np.float32))[0].sum().backward()
        clipped = optim.clip_grad_norm_(lstm.parameters(), 1.0 if step else 99.0)
        kept["clips"].record(step, 0.5, clipped)
    checkpoint.save(tmp_path / "c.npz", **kept)
    _, other = begin()
    checkpoint.load(tmp_path / "c.npz", **other)
    name = next(iter(kept["flows"]))
    same(other["flows"][name].h, kept["flows"][name].h)
    same(other["flows"][name].steps, kept["flows"][name].steps)
    same(other["gates"][name].both, kept["gates"][name].both)
    same(other["clips"].shares, kept["clips"].shares)
    same(other["clips"].before, kept["clips"].before)
    assert other["clips"].fraction_clipped == kept["clips"].fraction_clipped


def test_dicts_and_lists_of_objects_are_restored_one_by_one(tmp_path):
    kept = {"models": {"a": Net(0), "b": Net(1)}, "curves": {"a": [1.0], "b": []}, "two": [Net(2)]}
    checkpoint.save(tmp_path / "c.npz", **kept)
    other = {"models": {"a": Net(3), "b": Net(4)}, "curves": {"a": [], "b": [3.0]}, "two": [Net(5)]}
    inner = other["curves"]["b"]
    checkpoint.load(tmp_path / "c.npz", **other)
    same(other["models"]["b"].state_dict(), kept["models"]["b"].state_dict())
    same(other["two"][0].state_dict(), kept["two"][0].state_dict())
    assert other["curves"] == kept["curves"] and other["curves"]["b"] is inner


# -- what does not fit ------------------------------------------------------------------------


def test_one_error_lists_every_difference_and_nothing_is_changed(tmp_path):
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 2, np.random.default_rng(0))
    checkpoint.save(
        tmp_path / "c.npz", model=model, optimizer=optimizer, losses=[1.0], table=np.zeros(3),
        batches=CursorBatches(np.arange(50), 2, 3), generator=np.random.default_rng(0),
        schedule=optim.Cosine(optimizer, 9), tensor=mg.tensor([1.0]),
    )  # fmt: skip
    other = Net(1, width=5).double()
    other.extra = nn.Linear(1, 1, generator=np.random.default_rng(0))
    good = Net(2)
    kept = {
        "model": other, "optimizer": optim.Adam(good.parameters(), lr=0.5), "losses": {"x": 1},
        "table": np.zeros(3, np.float32), "batches": CursorBatches(np.arange(60), 2, 3),
        "generator": np.random.Generator(np.random.MT19937(1)), "missing": [7],
        "schedule": optim.Cosine(optim.SGD(good.parameters(), lr=1.0), 9),
        "tensor": mg.tensor([1.0, 2.0]),
    }  # fmt: skip
    before = checkpoint.snapshot(kept)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "c.npz", **kept)
    said = str(caught.value)
    for part in (
        "c.npz", "missing: not in the file", "model/dense.weight: shape (3, 4) in the file, (3, 5)",
        "model/dense.weight: float32 in the file, float64 here", "model/norm.", "losses: ",
        "model/extra.weight: not in the file", "table: float64 in the file, float32 here",
        "batches: CursorBatches", "60", "generator: the file has a PCG64, here it is a MT19937",
        "tensor: shape (1,) in the file, (2,) here",
    ):  # fmt: skip
        assert part in said, part
    assert "optimizer" not in said and "schedule" not in said  # these fit
    same(checkpoint.snapshot(kept), before)  # and are as before nevertheless


def test_what_fits_is_not_changed_if_another_thing_does_not(tmp_path):
    batches = CursorBatches(np.arange(50), 2, 3)
    next(batches)
    checkpoint.save(tmp_path / "c.npz", batches=batches, table=np.zeros(3))
    fresh = CursorBatches(np.arange(50), 2, 3)
    with pytest.raises(CheckpointError, match="1 difference: table"):
        checkpoint.load(tmp_path / "c.npz", batches=fresh, table=np.zeros(4))
    assert fresh.position == 0


def test_an_optimizer_of_another_kind_or_shape_is_listed(tmp_path):
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 1, np.random.default_rng(0))
    checkpoint.save(tmp_path / "c.npz", optimizer=optimizer)
    for other, said in (
        (optim.SGD(Net().parameters(), lr=0.1), "Adam in the file, SGD here"),
        (optim.Adam(Net(width=7).parameters(), lr=0.1), "shape (3, 4) in the file, (3, 7) here"),
        (optim.Adam(Net().double().parameters(), lr=0.1), "float32 in the file, float64 here"),
        (optim.Adam(Net(norm=False).parameters(), lr=0.1), "groups"),
    ):
        before = checkpoint.snapshot(other)
        with pytest.raises(CheckpointError, match="optimizer") as caught:
            checkpoint.load(tmp_path / "c.npz", optimizer=other)
        assert said in str(caught.value)
        same(checkpoint.snapshot(other), before)


def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save(path, x=1)
    leaf = mg.tensor([1.0], requires_grad=True)
    circle: list = []
    circle.append(circle)
    for value, error, said in (
        ({"a": [object()]}, DTypeError, "x/a/0 is a object"), (leaf * 2, ArgumentError, "detach"),
        (np.array(["text"]), DTypeError, "<U4"), (np.array([None]), DTypeError, "object"),
        (circle, ArgumentError, "contains itself"), (lambda: 1, DTypeError, "function"),
    ):  # fmt: skip
        with pytest.raises(error, match="x") as caught:
            checkpoint.save(path, x=value)
        assert said in str(caught.value)
        assert checkpoint.read(path) == {"x": 1} and os.listdir(tmp_path) == ["c.npz"]


def test_what_cannot_be_changed_in_place_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save(path, step=3, array=np.zeros(2), losses=[1.0])
    fixed, losses = np.zeros(2), [2.0]
    fixed.flags.writeable = False
    for wrong in ({"step": 0}, {"array": fixed}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            checkpoint.load(path, losses=losses, **wrong)
        assert losses == [2.0]
    with pytest.raises(ArgumentError, match="named tuples"):
        checkpoint.load(path, losses)
    with pytest.raises(CheckpointError, match="2 fields in the file, 3 here"):
        checkpoint.save(path, look=Look(1, (), np.zeros(1))[:2])
        _edit(path, lambda s: s["content"].update(look={"$record": ["Look", [1, 2]]}))
        checkpoint.read(path, Look)


# -- damage and malice ------------------------------------------------------------------------


def _parts(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _edit(path, change):
    parts = _parts(path)
    structure = json.loads(parts["structure.json"])
    change(structure)
    parts["structure.json"] = json.dumps(structure).encode()
    _write(path, parts)


@pytest.fixture
def saved(tmp_path):
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 1, np.random.default_rng(0))
    kept = {
        "model": model, "optimizer": optimizer, "losses": [0.5] * 9, "seen": [(1, 2.0)] * 5,
        "generator": np.random.Generator(np.random.MT19937(0)), "look": Look(1, (2,), np.ones(3)),
    }  # fmt: skip
    checkpoint.save(tmp_path / "c.npz", **kept)
    return tmp_path / "c.npz"


def test_a_file_cut_off_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="c.npz"):
            checkpoint.read(saved, Look)


def test_a_flipped_byte_is_found_or_harmless(saved):
    whole, good = saved.read_bytes(), checkpoint.read(saved, Look)
    random = np.random.default_rng(0)
    found = 0
    for place in random.integers(len(whole), size=400):
        broken = bytearray(whole)
        broken[place] ^= 1 << random.integers(8)
        saved.write_bytes(broken)
        try:
            read = checkpoint.read(saved, Look)
        except CheckpointError:
            found += 1
        else:
            same(read, good)  # a flag or a date in the archive's own tables
    assert found > 300


def test_nonsense_is_refused(saved):
    random = np.random.default_rng(1)
    for data in (b"", b"PK", b"\x93NUMPY", random.bytes(1000), b"PK\x05\x06" + bytes(18)):
        saved.write_bytes(data)
        with pytest.raises(CheckpointError):
            checkpoint.read(saved)
    np.savez(saved, x=np.zeros(3))
    with pytest.raises(CheckpointError, match="another kind of file"):
        checkpoint.read(saved)
    with pytest.raises(FileNotFoundError):
        checkpoint.read(saved.parent / "none.npz")
    with pytest.raises(OSError):
        checkpoint.read(saved.parent)


def _header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_header("(1000000000000,)"), "bytes for shape"), (_header("(-1,)"), "shape"),
        (_header("(2**60, 2**60)"), ""), (_header("(1,)", "'|O'") + bytes(8), ""),
        (_header("(1,)", "[('a', '<f8')]") + bytes(8), ""),
        (_header("(1,)", "'<M8[s]'") + bytes(8), ""),
        (_header("(__import__('os').abort(),)"), ""), (_header("(((((" * 20), ""), (b"", ""),
        (_header("(1,)") + bytes(9), "9 bytes"), (b"\x93NUMPY\x03\x00" + bytes(20), ""),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 0xFFFF, ""),
    ],
)  # fmt: skip
def test_a_hostile_array_is_refused(saved, data, said):
    parts = _parts(saved)
    _write(saved, {**parts, "losses.npy": data})
    with pytest.raises(CheckpointError, match="losses") as caught:
        checkpoint.read(saved)
    assert said in str(caught.value)


def test_pickles_are_never_loaded(saved):
    out = io.BytesIO()
    np.save(out, np.array([_Bomb()], dtype=object), allow_pickle=True)
    _write(saved, {**_parts(saved), "losses.npy": out.getvalue()})
    with pytest.raises(CheckpointError, match="losses"):
        checkpoint.read(saved)
    assert not _Bomb.gone_off


class _Bomb:
    gone_off = False

    def __reduce__(self):
        return _go_off, ()


def _go_off():
    _Bomb.gone_off = True


@pytest.mark.parametrize(
    "content",
    [
        [], 3, None, {"x": {"$array": "nothing"}}, {"x": {"$array": 3}}, {"x": {"$array": []}},
        {"x": {"$unpack": 1}}, {"x": {"$array": "losses", "y": 1}}, {"x": {"$generator": {}}},
        {"x": [{"$array": "losses"}, {"$array": "losses"}]}, {"x": {"$float": "1"}},
        {"x": {"$generator": {"bit_generator": "os.system"}}}, {"x": {"$generator": 3}},
        {"x": {"$record": ["Look", [1]]}}, {"x": {"$record": 3}}, {"x": {"$tuple": 3}},
        {"x": {"$columns": ["Look", 2, [[1], [2]]]}}, {"x": {"$columns": [None, 9, []]}},
        {"x": {"$columns": 3}}, {"x": {"$dict": [[[1], 2]]}}, {"x": {"$dict": 3}},
        {"x": {"$dict": [[1, 2, 3]]}}, {"x": {"$numbers": "model/dense.weight"}},
        {"x": {"$number": "losses"}}, {"x": {"$float": []}}, {"x": {"$records": 1}},
        {"x": {"$generator": {"bit_generator": []}}},
    ],
    ids=lambda content: json.dumps(content)[:50],
)  # fmt: skip
def test_a_hostile_structure_is_refused(saved, content):
    _edit(saved, lambda structure: structure.update(content=content))
    with pytest.raises(CheckpointError, match="c.npz"):
        checkpoint.read(saved, Look)


@pytest.mark.parametrize("key", ["pos", "key", "state", "bit_generator"])
@pytest.mark.parametrize("value", [10**6, -1, "x", None, 1.5, {"$array": "losses"}, 10**60])
def test_a_hostile_generator_never_reaches_numpy(saved, key, value):
    def change(structure):
        state = structure["content"]["generator"]["$generator"]
        (state["state"] if key in ("pos", "key") else state)[key] = value

    _edit(saved, change)
    with pytest.raises(CheckpointError):
        checkpoint.read(saved, Look)


def test_bombs_are_refused(saved):
    parts = _parts(saved)
    _write(saved, {**parts, "zeros.npy": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        checkpoint.read(saved)
    _write(saved, {**parts, "structure.json": b"[" * 10**6})
    with pytest.raises(CheckpointError, match="structure"):
        checkpoint.read(saved)
    _write(saved, parts)
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("losses.npy", b"")
    with pytest.raises(CheckpointError, match="two parts"):
        checkpoint.read(saved)
    _write(saved, parts)
    _edit(saved, lambda structure: structure.update(version=2))
    with pytest.raises(CheckpointError, match="version 2"):
        checkpoint.read(saved)


# -- a folder of them -------------------------------------------------------------------------


def test_the_last_and_the_best_are_kept(tmp_path):
    folder = checkpoint.Folder(tmp_path / "new" / "c", keep=2)
    assert folder.newest is None and folder.best is None and folder.paths == []
    with pytest.raises(CheckpointError, match="no checkpoint"):
        folder.load()
    for step, score in enumerate([5.0, 2.0, 3.0, None, float("nan"), 4.0, 2.5]):
        folder.save(step, score, value=step)
    steps = [checkpoint.read(path)["value"] for path in folder.paths]
    assert steps == [1, 5, 6] and folder.newest == folder.paths[-1]
    again = checkpoint.Folder(tmp_path / "new" / "c", keep=2)
    assert again.best == folder.paths[0] and again.load() == {"step": 6, "score": 2.5, "value": 6}
    again.save(7, 2.0, value=7)  # as good, and later
    assert [checkpoint.read(path)["value"] for path in again.paths] == [6, 7]
    high = checkpoint.Folder(tmp_path / "new" / "c", keep=1, better="high")
    high.save(8, 0.1)
    assert [checkpoint.read(path)["step"] for path in high.paths] == [6, 8]
    high.clear()
    assert list((tmp_path / "new" / "c").iterdir()) == []
    for wrong in ({"keep": 0}, {"keep": 1.5}, {"better": "more"}):
        with pytest.raises(ArgumentError):
            checkpoint.Folder(tmp_path, **wrong)
    with pytest.raises(ArgumentError):
        folder.save(-1)


def test_steps_are_numbers_and_other_files_are_left_alone(tmp_path):
    folder = checkpoint.Folder(tmp_path, keep=1)
    for name in ("notes.txt", "step-1.npz", "step-000000001.npz.bak"):
        (tmp_path / name).write_text("")
    (tmp_path / ".step-000000003.npz.77.part").write_text("half")
    folder.save(10**9)
    folder.save(999_999_999)  # a resumed run that had been further: its newest is the other
    assert folder.newest == tmp_path / "step-1000000000.npz"
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt", "step-1.npz", "step-000000001.npz.bak", "step-1000000000.npz",
        "step-999999999.npz",
    }  # fmt: skip


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failure_in_the_middle_leaves_the_newest_whole(tmp_path, monkeypatch, where):
    folder = checkpoint.Folder(tmp_path, keep=1)
    folder.save(1, value="old")

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    if where == "write":
        monkeypatch.setattr(np.lib.format, "write_array", fail)
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(OSError, match="No space"):
        folder.save(2, value=np.zeros(100))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.npz"]
    assert folder.load()["value"] == "old"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_before_others_go(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace", "unlink"):
        original = getattr(os, name)

        def spy(*args, name=name, original=original, **options):
            done.append(name)
            return original(*args, **options)

        monkeypatch.setattr(os, name, spy)
    folder = checkpoint.Folder(tmp_path, keep=1)
    folder.save(1)
    folder.save(2)
    assert done[:3] == ["fsync", "replace", "fsync"]  # the file, its name, the folder
    assert done[3:6] == ["fsync", "replace", "fsync"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002.npz"]


# -- safetensors, and the import --------------------------------------------------------------


def test_safetensors_there_and_back(tmp_path):
    model, other, path = Net(), Net(3), tmp_path / "m.safetensors"
    checkpoint.save_safetensors(path, model, {"of": "a test"})
    checkpoint.load_safetensors(path, other)
    same(other.state_dict(), model.state_dict())
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        assert file.metadata() == {"of": "a test"}
        assert sorted(file.keys()) == sorted(model.state_dict())
    odd = {"scalar": np.float32(2.0), "strided": np.arange(6.0).reshape(2, 3).T}
    checkpoint.save_safetensors(path, odd)
    read = checkpoint.load_safetensors(path)
    np.testing.assert_array_equal(read["strided"], odd["strided"])
    assert read["scalar"].shape == () and read["scalar"].dtype == np.float32


def test_safetensors_refuses_what_does_not_fit(tmp_path):
    model, path = Net(width=5), tmp_path / "m.safetensors"
    checkpoint.save_safetensors(path, Net(norm=False))
    before = model.state_dict()
    with pytest.raises(CheckpointError, match="shape") as caught:
        checkpoint.load_safetensors(path, model)
    assert "dense.bias" in str(caught.value) and "norm." in str(caught.value)
    same(model.state_dict(), before)
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole[:9], b"\xff" * 50, bytes(100)):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="safetensors"):
            checkpoint.load_safetensors(path)
    for wrong in ({"a": np.array(["x"])}, {1: np.zeros(1)}, [1]):
        with pytest.raises(DTypeError, match="save_safetensors"):
            checkpoint.save_safetensors(path, wrong)


def test_without_safetensors_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (
        lambda: checkpoint.save_safetensors(tmp_path / "m", {}),
        lambda: checkpoint.load_safetensors(tmp_path / "m"),
    ):
        with pytest.raises(ArgumentError, match=r"pip install 'minigrad\[safetensors\]'") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_it_is_imported_when_it_is_asked_for():
    program = (
        "import sys, minigrad; assert 'minigrad.checkpoint' not in sys.modules; "
        "minigrad.checkpoint.save; assert 'safetensors' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


# -- batches without an end -------------------------------------------------------------------


def test_endless_refuses_what_is_none():
    generator = np.random.default_rng(0)
    for wrong in (iter([1]), 3, None):
        with pytest.raises(DTypeError, match="Endless"):
            Endless(wrong)
    with pytest.raises(DTypeError, match="generators"):
        Endless([1], 3)
    with pytest.raises(DataError, match="nothing"):
        next(Endless([]))
    endless = Endless([1, 2, 3], generator)
    before = generator.bit_generator.state
    good = {"epoch": 0, "taken": 2, "began": [np.random.default_rng(9)]}
    for wrong in (
        {}, None, {**good, "taken": 4}, {**good, "taken": -1}, {**good, "epoch": -2},
        {**good, "taken": True}, {**good, "began": []}, {**good, "began": [3]}, {**good, "more": 1},
        {**good, "began": [np.random.Generator(np.random.MT19937(0))]},
    ):  # fmt: skip
        with pytest.raises(DataError, match="Endless"):
            endless.load_state_dict(wrong)
        assert generator.bit_generator.state == before and endless.epoch == -1
    endless.load_state_dict(good)
    assert next(endless) == 3 and next(endless) == 1 and endless.epoch == 1
