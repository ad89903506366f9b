"""The character model: its two cells, TensorFlow's numbers, its gate, its command line."""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.data import encode, load_text
from models import char_lm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "char_lm.npz")
COLUMNS = "icfo"  # TensorFlow's names of our blocks i, j, f, o


def _model(dtype):
    """The model with the golden's initial weights."""
    model = char_lm.CharLM(np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    model.lstm.w_x.data = np.concatenate([GOLDEN[f"init/{g}x"] for g in COLUMNS], axis=1)
    model.lstm.w_h.data = np.concatenate([GOLDEN[f"init/{g}m"] for g in COLUMNS], axis=1)
    model.w.data, model.b.data = GOLDEN["init/w"], GOLDEN["init/b"]
    return model


def _by_tensorflow_name(model, values):
    """values: parameter -> array; yields TensorFlow's variable name and our block of it."""
    for part, parameter in (("x", model.lstm.w_x), ("m", model.lstm.w_h), ("b", model.lstm.bias)):
        for gate, block in zip(COLUMNS, np.split(values(parameter), 4, axis=-1), strict=True):
            yield gate + part, block.reshape(-1, 64) if part == "b" else block
    yield "w", values(model.w)
    yield "b", values(model.b)


@pytest.mark.parametrize("way", ["fused", "unrolled"])
@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_five_windows_as_in_tensorflow(dtype, rtol, kernel, way):
    """Losses, gradients, global norms, weights: goldens/char_lm.npz."""
    model = _model(dtype)
    forward = model if way == "fused" else model.unrolled
    parameters = model.parameters()
    optimizer = optim.SGD(parameters, lr=char_lm.RATE)
    state = None

    def close(ours, theirs):
        assert ours.dtype == dtype
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)

    with mg.kernels.use(kernel):
        for step, window in enumerate(GOLDEN["in/ids"]):
            logits, state = forward(window[:-1], state)
            loss = mg.cross_entropy(logits, window[1:])
            optimizer.zero_grad()
            loss.backward()
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            if step == 0:
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    close(ours, GOLDEN[f"grad1/{name}"])
            norm = optim.clip_grad_norm_(parameters, char_lm.CLIP)
            assert float(norm) == pytest.approx(GOLDEN["grad_global_norm"][step], rel=rtol)
            optimizer.step()
            state = tuple(part.detach() for part in state)
            if f"after{step + 1}/w" in GOLDEN:
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    close(ours, GOLDEN[f"after{step + 1}/{name}"])


def test_initial_weights_have_the_documents_moments():
    model = char_lm.CharLM(np.random.default_rng(3))
    for weights in (model.lstm.w_x, model.lstm.w_h, model.w):
        assert abs(weights.numpy().mean() + 0.1) < 0.005
        assert -0.3 <= weights.numpy().min() and weights.numpy().max() <= 0.1
    assert not model.lstm.bias.numpy().any() and not model.b.numpy().any()
    assert model.lstm.forget_bias == 0


def test_validation_perplexity_as_in_tensorflow():
    """The golden steps through 200 symbols and looks up each successor."""
    model = _model(np.float64)
    ids = GOLDEN["valid/text_ids"]
    logits, _ = model(ids[:-1, None])
    p = mg.softmax(logits[:, 0]).numpy()
    np.testing.assert_allclose(p, GOLDEN["valid/predictions_init"], rtol=1e-9)
    theirs = math.exp(-np.log(p[np.arange(200), ids[1:]]).mean())
    assert theirs == pytest.approx(float(GOLDEN["valid/perplexity_init"]), rel=1e-9)


def test_perplexity_wraps_at_the_end_as_the_documents_generator_does():
    model = _model(np.float64)
    ids = np.array([1, 5, 2, 9])
    h, c = model.lstm.zero_state(1)
    total = 0.0
    for this, following in [(1, 5), (5, 2), (2, 9), (9, 1)]:
        x = mg.one_hot(np.array([this]), 27, np.float64)
        h, c = char_lm.lstm_cell(x, h, c, model.lstm)
        total -= mg.log_softmax(h @ model.w + model.b).numpy()[0, following]
    assert char_lm.perplexity(model, ids) == pytest.approx(math.exp(total / 4), rel=1e-12)


def test_samples_are_text_and_repeat_with_the_seed():
    model = char_lm.CharLM(np.random.default_rng(0))
    one, two = (char_lm.samples(model, np.random.default_rng(5)) for _ in range(2))
    assert one == two and len(one) == 5 and {len(line) for line in one} == {80}
    assert len(set("".join(one))) > 15


def _run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "models.char_lm", "--out", str(tmp_path / "out"), *arguments],
        capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def test_gate_smoke_run_learns_and_writes(tmp_path):
    done = _run(tmp_path, "--smoke", "--seed", "1")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["model"] == "char_lm" and metrics["seed"] == 1
    assert metrics["steps"] == char_lm.SMOKE_STEPS
    assert metrics["metric"]["name"] == "validation_perplexity"
    assert metrics["metric"]["value"] < 9.5  # 27 is guessing; about 8 is usual after 300 steps
    assert metrics["metric"]["value"] > 5
    written = {path.name for path in (tmp_path / "out").glob("*.[pj]*")}
    pictures = {"loss_and_perplexity.png", "clip_timeline.png", "gradient_flow.png"}
    assert written == pictures | {"metrics.json"}
    assert "validation perplexity" in done.stdout and str(tmp_path / "out") in done.stdout


def test_same_seed_same_metric_on_one_thread_and_two(tmp_path, monkeypatch):
    values = []
    for threads in ("1", "2"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", threads)
        assert _run(tmp_path, "--steps", "40").returncode == 0
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        values.append((metrics["metric"]["value"], metrics["last_loss"]))
    assert values[0] == values[1]


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, kernel):
    done = _run(tmp_path, "--steps", "3", "--kernels", kernel)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--text", "no-such-file"], ["--text", "."], ["--steps", "0"], ["--cell", "square"]],
)
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, arguments):
    done = _run(tmp_path, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_text_of_ones_own(tmp_path):
    text = tmp_path / "my.txt"
    text.write_text("The quick brown fox, 27 times. " * 200)
    done = _run(tmp_path, "--steps", "2", "--text", str(text))
    assert done.returncode == 0, done.stderr
    text.write_text("too short")
    done = _run(tmp_path, "--text", str(text))
    assert done.returncode == 2 and "short" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_run_reaches_tensorflow(tmp_path, seed):
    """Each seed within the spread; the mean of the three is checked by hand (README)."""
    done = _run(tmp_path, "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 4.1 < metrics["metric"]["value"] < 4.9


def test_packaged_text_is_long_enough():
    assert len(encode(load_text())) == 4_552_587
