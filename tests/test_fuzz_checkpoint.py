"""Checkpoints cut, changed, or never one at all: CheckpointErrors, and nothing is changed."""

import io
import json
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad import checkpoint, nn, optim
from minigrad.errors import CheckpointError

EIGHTY = hypothesis.settings(max_examples=80)


def training():
    """A model, its optimiser after a step, and a generator."""
    model = nn.Linear(2, 3, generator=mg.manual_seed(0))
    optimizer = optim.Adam(model.named_parameters())
    for p in model.parameters():
        p.grad = mg.Tensor(np.full(p.shape, 0.5, "f"))
    optimizer.step()
    return {"model": model, "optimizer": optimizer, "generator": mg.manual_seed(3)}


def picture(objects):
    model, optimizer, generator = objects.values()
    arrays = {**model.state_dict(), **optimizer.state_dict()["state"][0]}
    return (
        [np.asarray(x).tobytes() for x in arrays.values()],
        repr(optimizer.param_groups[0]["lr"]), repr(generator.bit_generator.state),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder, and the bytes of a sound checkpoint."""
    folder = tmp_path_factory.mktemp("fuzz")
    checkpoint.save(folder / "sound.npz", step=7, state=(mg.zeros(1, 2), None), **training())
    return folder, (folder / "sound.npz").read_bytes()


def try_it(folder, content):
    """Read and load; what is refused changes nothing."""
    file = folder / "damaged.npz"
    file.write_bytes(content)
    objects = training()
    before = picture(objects)
    for what in (lambda: checkpoint.read(file), lambda: checkpoint.load(file, **objects)):
        try:
            what()
        except CheckpointError as error:
            assert "damaged.npz" in str(error)
            assert picture(objects) == before


def test_the_sound_one_is_read(sound):
    folder, content = sound
    (folder / "whole.npz").write_bytes(content)
    assert checkpoint.load(folder / "whole.npz", **training())["step"] == 7


@EIGHTY
@given(st.data())
def test_cut_or_changed(sound, data):
    folder, content = sound
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(content) - 1, 0)))
        what = data.draw(st.sampled_from(["cut", "change", "change", "put in", "take out"]))
        if what == "cut":
            del content[place:]
        elif what == "change" and content:
            content[place] = data.draw(st.integers(0, 255))
        elif what == "put in":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del content[place : place + data.draw(st.integers(1, 200))]
    try_it(folder, bytes(content))


@EIGHTY
@given(st.binary(max_size=120), st.booleans())
def test_random_bytes(sound, content, zip_head):
    try_it(sound[0], b"PK\x03\x04" * zip_head + content)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.text(max_size=5),
              st.sampled_from(["array", "tensor", "tuple", "generator", "model", "PCG64"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def mutated(draw, value):
    """JSON with one part exchanged for something else."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(mutated(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(mutated(value[place])), *value[place + 1 :]]
    return draw(JSON)


@EIGHTY
@given(st.data())
def test_a_sound_archive_with_another_structure_or_other_arrays(sound, data):
    """The zip file is in order, so damage gets past its checksums."""
    folder, content = sound
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(st.sampled_from(sorted(members)))
    what = data.draw(st.sampled_from(["structure", "structure", "bytes", "array", "drop"]))
    if what == "structure":
        name, parsed = next((n, p) for n, p in _parsed(members))
        members[name] = json.dumps(data.draw(mutated(parsed))).encode()
    elif what == "bytes":
        raw = bytearray(members[name])
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        members[name] = bytes(raw)
    elif what == "array":
        stream = io.BytesIO()
        shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
        kind = data.draw(st.sampled_from(["f4", "f8", "i8", "U3", "c8", "?", "M8[s]"]))
        np.save(stream, np.zeros(shape, kind))
        members[name] = stream.getvalue()
    else:
        del members[name]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, raw in members.items():
            archive.writestr(member, raw)
    try_it(folder, buffer.getvalue())


def _parsed(members):
    """Members that are JSON, or arrays of its bytes."""
    for name, raw in members.items():
        try:
            yield name, json.loads(raw)
        except ValueError:
            continue
