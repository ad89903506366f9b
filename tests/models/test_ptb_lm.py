"""The word model: TensorFlow's numbers at two sizes, evaluation, its gate, its command line."""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import SequenceBatches
from models import ptb_lm

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
SMALL, FULL = np.load(GOLDENS / "ptb_small.npz"), np.load(GOLDENS / "ptb_full.npz")


def _new(words, nodes, seed=0):
    generator = np.random.default_rng(seed)
    return ptb_lm.PTBModel(words, nodes, generator=generator, dropout=generator)


def _set(model, initial):
    """Set all weights.  initial: TensorFlow's variable name -> array."""
    model.embedding.weight.data = initial("embedding")
    for i, layer in enumerate(model.layers):
        kernel = initial(f"cell{i}_kernel")
        layer.w_x.data, layer.w_h.data = np.split(kernel, 2)  # as many inputs as units
        layer.bias.data = initial(f"cell{i}_bias")
    model.dense.weight.data, model.dense.bias.data = initial("weight"), initial("bias")
    return model.eval()  # the goldens are without dropout


def _by_tensorflow_name(model, values):
    """values: parameter -> array; yields TensorFlow's variable names and our arrays."""
    yield "embedding", values(model.embedding.weight)
    for i, layer in enumerate(model.layers):
        yield f"cell{i}_kernel", np.concatenate([values(layer.w_x), values(layer.w_h)])
        yield f"cell{i}_bias", values(layer.bias)
    yield "weight", values(model.dense.weight)
    yield "bias", values(model.dense.bias)


def _close(golden, ours, key, rtol):
    """Against the whole array, or what is left of it: some entries, its sum, its 2-norm."""
    if f"{key}#l2" in golden:
        norm = float(golden[f"{key}#l2"])
        assert np.linalg.norm(ours) == pytest.approx(norm, rel=rtol, abs=1e-300), key
        total = ours.sum(dtype=np.float64)  # of entries of both signs
        room = rtol * norm * math.sqrt(ours.size)
        assert total == pytest.approx(float(golden[f"{key}#sum"]), abs=room + 1e-300), key
    if f"{key}#slice" in golden:
        theirs, ours = golden[f"{key}#slice"], ours.ravel()[:: golden[f"{key}#stride"]]
    elif key in golden:
        theirs = golden[key]
    else:
        return
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale, err_msg=key)


def _gradients(model, x, y, state):
    """One window as in the program: loss and state; gradients in the parameters."""
    logits, state = model(x, state)
    loss = mg.cross_entropy(logits, y.T, reduction="sum") / len(x)
    model.zero_grad()
    loss.backward()
    return loss, nn.detach(state)


def _norm(model):
    return np.sqrt(sum(np.square(p.grad.numpy()).sum() for p in model.parameters()))


def _clip_as_tensorflow(model, norm):
    """By TensorFlow's norm, which counts every occurrence of a word by itself."""
    for parameter in model.parameters():
        parameter.grad.array[...] *= ptb_lm.CLIP / max(norm, ptb_lm.CLIP)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_five_windows_as_in_tensorflow(dtype, rtol, kernel):
    """Losses, gradients, norms, states, weights: goldens/ptb_small.npz.  Four steps are clipped.

    Float64 takes TensorFlow's norm for the clip, float32 the program's own.
    """
    model = _new(500, 20)
    if dtype == np.float64:
        model.double()
    _set(model, lambda name: SMALL[f"init/{name}"])
    optimizer = optim.SGD(model.parameters(), lr=ptb_lm.RATE)
    state = None
    with mg.kernels.use(kernel):
        for step, (x, y) in enumerate(zip(SMALL["in/x"], SMALL["in/y"], strict=True)):
            loss, state = _gradients(model, x, y, state)
            assert loss.item() == pytest.approx(SMALL["loss"][step], rel=rtol)
            dense = SMALL["steps/dense_grad_global_norm"][step]
            assert _norm(model) == pytest.approx(dense, rel=rtol)
            if step == 0:
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    _close(SMALL, ours, f"grad1/{name}", rtol)
            if dtype == np.float64:
                _clip_as_tensorflow(model, SMALL["grad_global_norm"][step])
            else:
                report = optim.clip_grad_norm_(model.parameters(), ptb_lm.CLIP)
                assert report.clipped == (SMALL["grad_global_norm"][step] > ptb_lm.CLIP)
            optimizer.step()
            if step in (0, 4):
                for layer, (h, c) in enumerate(state):
                    for part, ours in (("h", h), ("c", c)):
                        theirs = SMALL[f"steps/{part}{layer}"][step // 4]  # first and last kept
                        np.testing.assert_allclose(ours.numpy(), theirs, rtol=rtol, atol=rtol)
            if step in (0, 2):
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    assert ours.dtype == dtype
                    _close(SMALL, ours, f"after{step + 1}/{name}", rtol)


def _uniform(stream, count):
    """The goldens' numbers by formula, uniform in [0, 1): splitmix64."""
    x = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 40)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def test_three_windows_at_full_size_as_in_tensorflow():
    """10,000 words and 200 nodes, in float64; sums and norms: goldens/ptb_full.npz."""
    shapes = {"embedding": (10_000, 200)}
    for i in range(2):
        shapes |= {f"cell{i}_kernel": (400, 800), f"cell{i}_bias": (800,)}
    shapes |= {"weight": (200, 10_000), "bias": (10_000,)}
    initial = {
        name: np.zeros(shape) if name.startswith("cell") and name.endswith("bias")
        else ((2 * _uniform(stream, math.prod(shape)) - 1) * ptb_lm.SCALE).reshape(shape)
        for stream, (name, shape) in enumerate(shapes.items(), start=1)
    }  # fmt: skip
    model = _set(_new(10_000, 200).double(), initial.__getitem__)
    for name, ours in _by_tensorflow_name(model, lambda p: p.array):
        np.testing.assert_array_equal(ours.ravel()[:16], FULL[f"init/{name}#first16"])
    ids = (10_000 * _uniform(50, 20 * 106) ** 3).astype(np.int64)
    assert ids[:32].tolist() == FULL["in/first_ids"].tolist()
    batches = SequenceBatches(ids, ptb_lm.BATCH, ptb_lm.UNROLL)
    assert len(batches) == 3

    optimizer = optim.SGD(model.parameters(), lr=ptb_lm.RATE)
    state, total = None, 0.0
    for step, (x, y) in enumerate(batches):
        loss, state = _gradients(model, x, y, state)
        assert loss.item() == pytest.approx(FULL["loss"][step], rel=1e-9)
        total += loss.item()
        running = math.exp(total / (ptb_lm.UNROLL * (step + 1)))
        assert running == pytest.approx(FULL["perplexity_running"][step], rel=1e-8)
        dense = FULL["steps/dense_grad_global_norm"][step]
        assert _norm(model) == pytest.approx(dense, rel=1e-9)
        if step == 0:
            for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                _close(FULL, ours, f"grad1/{name}", 1e-9)
        _clip_as_tensorflow(model, FULL["grad_global_norm"][step])
        optimizer.step()
        for name, ours in _by_tensorflow_name(model, lambda p: p.array):
            _close(FULL, ours, f"after{step + 1}/{name}", 1e-9)


def test_initial_weights_are_the_documents():
    model = _new(300, 24)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == 9  # two layers of their own, not one twice
    assert not np.array_equal(model.layers[0].w_h.numpy(), model.layers[1].w_h.numpy())
    for layer in model.layers:
        assert layer.forget_bias == 1 and not layer.bias.numpy().any()
    uniform = [model.embedding.weight, model.dense.weight, model.dense.bias]
    uniform += [weights for layer in model.layers for weights in (layer.w_x, layer.w_h)]
    for weights in uniform:
        assert weights.dtype == np.float32
        assert 0.045 < np.abs(weights.numpy()).max() <= 0.05
        assert abs(weights.numpy().mean()) < 0.01


# -- dropout -----------------------------------------------------------------------------------


class Spy(nn.Module):
    """Stands in for the dropout: keeps what it is given, and returns it times a factor."""

    def __init__(self, factor):
        self.factor, self.given = factor, []

    def forward(self, x):
        self.given.append(x.numpy())
        return x * self.factor


def test_dropout_of_the_vectors_and_both_outputs_but_not_of_the_state():
    model = _new(50, 8).double()
    assert isinstance(model.dropout, nn.Dropout) and model.dropout.p == 0.5
    spy = model.dropout = Spy(0.25)
    ids = np.arange(12).reshape(2, 6)
    logits, state = model(ids)
    vectors, lower, upper = spy.given
    assert vectors.shape == lower.shape == upper.shape == (6, 2, 8)  # (T, N, H)
    np.testing.assert_array_equal(vectors, model.embedding.weight.numpy()[ids.T])
    for (h, _), outputs in zip(state, (lower, upper), strict=True):
        np.testing.assert_array_equal(h.numpy(), outputs[-1])  # carried on whole
    expected, _ = model.layers[1](mg.tensor(lower * 0.25))
    np.testing.assert_allclose(upper, expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(logits.numpy(), model.dense(mg.tensor(upper * 0.25)).numpy())


def test_dropout_is_fresh_in_training_and_off_in_evaluation():
    model, ids = _new(50, 8), np.arange(12).reshape(2, 6)
    one, two = (model(ids)[0].numpy() for _ in range(2))
    assert not np.array_equal(one, two)
    model.eval()
    one, two = (model(ids)[0].numpy() for _ in range(2))
    np.testing.assert_array_equal(one, two)


# -- evaluation --------------------------------------------------------------------------------


def test_perplexity_equals_one_word_at_a_time(monkeypatch):
    model = _new(40, 8).double()
    for parameter in model.parameters():
        parameter.array *= 20  # far from uniform
    ids = np.random.default_rng(1).integers(0, 40, 57)
    model.eval()
    total, state = 0.0, None
    for this, following in zip(ids[:-1], ids[1:], strict=True):
        logits, state = model(np.array([[this]]), state)
        total -= mg.log_softmax(logits[0, 0]).numpy()[following]
    expected = math.exp(total / 56)
    assert expected > 50
    for unroll in (1, 7, 8, 55, 56, 500):
        monkeypatch.setattr(ptb_lm, "EVALUATION_UNROLL", unroll)
        model.train()
        assert ptb_lm.perplexity(model, ids) == pytest.approx(expected, rel=1e-12)
        assert all(module.training for module in model.modules())


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "models.ptb_lm", "--out", str(tmp_path / "out"), *arguments],
        capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def _metrics(tmp_path):
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


@pytest.fixture
def ptb(tmp_path):
    """A folder of three small files in PTB's form; an epoch has 20 steps."""
    folder = tmp_path / "data"
    folder.mkdir()
    numbers = [f"n{i}" for i in range(40)]
    sentence = " " + " ".join(numbers[:35]) + " \n " + " ".join(numbers[5:]) + " \n"
    for part, times in {"train": 200, "valid": 4, "test": 5}.items():
        (folder / f"ptb.{part}.txt").write_text(sentence * times)
    return folder


def test_gate_smoke_run_on_the_packaged_words_learns_and_writes(tmp_path):
    done = _run(tmp_path, "--smoke", "--seed", "1")
    assert done.returncode == 0, done.stderr
    metrics = _metrics(tmp_path)
    assert metrics["model"] == "ptb_lm" and metrics["seed"] == 1
    assert metrics["steps"] == ptb_lm.SMOKE_STEPS
    assert metrics["metric"]["name"] == "test_perplexity"
    assert 300 < metrics["metric"]["value"] < 1500  # 10,000 is guessing
    assert metrics["fraction_clipped"] > 0.1  # unlike in char_lm
    written = {path.name for path in (tmp_path / "out").glob("*.[pj]*")}
    pictures = {"perplexity.png", "clip_timeline.png", "gradient_flow.png"}
    assert written == pictures | {"metrics.json"}
    assert "10,000 different words; 918,487 to train on" in done.stdout


def test_epochs_begin_with_a_state_of_zeros_and_end_with_validation(ptb, tmp_path, monkeypatch):
    began, forward = [], ptb_lm.PTBModel.forward

    def watched(self, ids, state=None):
        if self.training:
            began.append(state is None)
        return forward(self, ids, state)

    monkeypatch.setattr(ptb_lm.PTBModel, "forward", watched)
    ptb_lm.main(["--steps", "45", "--data", str(ptb), "--out", str(tmp_path / "out")])
    assert [step for step, new in enumerate(began) if new] == [0, 20, 40]
    metrics = _metrics(tmp_path)
    assert metrics["steps_of_validation"] == [20, 40, 45]
    assert metrics["validation_perplexities"][-1] == metrics["validation_perplexity"]
    assert metrics["metric"]["value"] < 45  # 41 words, hardly learned yet
    assert metrics["data"] == str(ptb)


def test_same_seed_same_metric_on_one_thread_and_two(ptb, tmp_path, monkeypatch):
    values = []
    for threads in ("1", "2"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", threads)
        assert _run(tmp_path, "--steps", "5", "--data", str(ptb)).returncode == 0
        values.append((_metrics(tmp_path)["metric"], _metrics(tmp_path)["validation_perplexity"]))
    assert values[0] == values[1]


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(ptb, tmp_path, kernel):
    done = _run(tmp_path, "--steps", "2", "--kernels", kernel, "--data", str(ptb))
    assert done.returncode == 0, done.stderr


def test_bad_arguments_are_one_line_and_exit_code_2(ptb, tmp_path, capsys):
    def complaint(*arguments):
        with pytest.raises(SystemExit) as caught:
            ptb_lm.main([*arguments, "--out", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert caught.value.code == 2 and len(error.strip().splitlines()) == 1, error
        return error

    assert "nowhere is no folder" in complaint("--data", str(tmp_path / "nowhere"))
    assert "whole number" in complaint("--steps", "0")
    (ptb / "ptb.valid.txt").write_text(" n1 n2 n77 \n")
    assert "line 1 of" in complaint("--data", str(ptb))
    (ptb / "ptb.valid.txt").unlink()
    assert "no ptb.valid.txt in" in complaint("--data", str(ptb))
    for part in ("train", "valid", "test"):
        (ptb / f"ptb.{part}.txt").write_text(" n1 n2 \n")
    assert "a window with its targets needs 36" in complaint("--data", str(ptb))
