"""The row LSTM: TensorFlow's numbers, what its picture shows, its gate, its command line."""

import gzip
import json
import pathlib
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.data import load_mnist, mnist
from models import mnist_lstm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "mnist_lstm.npz")
IMAGES = GOLDEN["in/x_256"] / 256  # (S, N, 28, 28), one entry a step
LABELS = GOLDEN["in/y_onehot"].argmax(axis=2)


@pytest.fixture(autouse=True)
def packaged_images(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


def _model(dtype=np.float64):
    """The model with the golden's initial weights."""
    model = mnist_lstm.RowLSTM(np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    kernel = GOLDEN["init/lstm_kernel"]
    dense_in, lstm = model.reader.projection, model.reader.inner
    dense_in.weight.data, dense_in.bias.data = GOLDEN["init/W_in"], GOLDEN["init/b_in"]
    lstm.w_x.data, lstm.w_h.data = kernel[:128], kernel[128:]
    lstm.bias.data = GOLDEN["init/lstm_bias"]
    model.dense_out.weight.data = GOLDEN["init/W_out"]
    model.dense_out.bias.data = GOLDEN["init/b_out"]
    return model


def _by_tensorflow_name(model, values):
    """values: parameter -> array; yields TensorFlow's variable names and our arrays."""
    dense_in, lstm = model.reader.projection, model.reader.inner
    yield "W_in", values(dense_in.weight)
    yield "b_in", values(dense_in.bias)
    yield "lstm_kernel", np.concatenate([values(lstm.w_x), values(lstm.w_h)])
    yield "lstm_bias", values(lstm.bias)
    yield "W_out", values(model.dense_out.weight)
    yield "b_out", values(model.dense_out.bias)


def _close(ours, key, rtol, atol=0.0):
    """Against the whole array, or its digest: every so many entries, and its 2-norm."""
    if f"{key}#slice" in GOLDEN:
        theirs = GOLDEN[f"{key}#slice"]
        assert ours.shape == tuple(GOLDEN[f"{key}#shape"])
        assert np.linalg.norm(ours) == pytest.approx(float(GOLDEN[f"{key}#l2"]), rel=rtol)
        ours = ours.ravel()[:: GOLDEN[f"{key}#stride"]]
    else:
        theirs = GOLDEN[key]
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=max(atol, rtol * scale), err_msg=key)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_three_steps_as_in_tensorflow(dtype, rtol, kernel):
    """Losses, gradients, accuracies, weights after Adam: goldens/mnist_lstm.npz."""
    model = _model(dtype)
    optimizer = optim.Adam(model.parameters(), lr=mnist_lstm.RATE)
    # Adam's first steps have the size of the rate, however small and uncertain the gradient is.
    atol = mnist_lstm.RATE / 10 if dtype == np.float32 else 0.0
    with mg.kernels.use(kernel):
        for step, (x, labels) in enumerate(zip(IMAGES, LABELS, strict=True)):
            logits = model(x.astype(dtype))
            loss = mg.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            assert logits.dtype == dtype
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            right = (logits.numpy().argmax(axis=1) == labels).mean()
            assert right == GOLDEN["steps/accuracy"][step]
            norm = np.sqrt(sum(np.square(p.grad.numpy()).sum() for p in model.parameters()))
            assert norm == pytest.approx(GOLDEN["grad_global_norm"][step], rel=rtol)
            if step == 0:
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    _close(ours, f"grad1/{name}", rtol)
            optimizer.step()
            for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                assert ours.dtype == dtype
                _close(ours, f"after{step + 1}/{name}", rtol, atol)


def test_initial_weights_have_the_documents_moments():
    model = mnist_lstm.RowLSTM(np.random.default_rng(3))
    for dense in (model.reader.projection, model.dense_out):
        assert abs(dense.weight.numpy().mean()) < 0.1
        assert abs(dense.weight.numpy().std() - 1) < 0.05
        assert (dense.bias.numpy() == np.float32(0.1)).all()
    limit = np.sqrt(6 / (256 + 512))
    for weights in (model.reader.inner.w_x, model.reader.inner.w_h):
        assert 0.99 * limit < np.abs(weights.numpy()).max() <= limit
    assert not model.reader.inner.bias.numpy().any() and model.reader.inner.forget_bias == 1
    assert all(parameter.dtype == np.float32 for parameter in model.parameters())


def test_a_row_is_a_time_step_and_the_last_one_decides():
    """Turning an image on its side changes the answer; later rows do not change earlier outputs."""
    model = _model()
    x = IMAGES[0]
    changed = x.copy()
    changed[:, 20:] = 0
    before, after = model.read(x)[0].numpy(), model.read(changed)[0].numpy()
    assert before.shape == (28, 16, 128)
    np.testing.assert_array_equal(before[:20], after[:20])
    assert (np.abs(before[20:] - after[20:]).max(axis=(1, 2)) > 0.01).all()
    np.testing.assert_array_equal(model(x).numpy(), model.dense_out(model.read(x)[0][-1]).numpy())
    assert np.abs(model(x).numpy() - model(x.swapaxes(1, 2)).numpy()).max() > 0.1


def test_ink_is_float32_from_0_to_1():
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    assert mnist_lstm.ink(pixels).dtype == np.float32
    np.testing.assert_array_equal(mnist_lstm.ink(pixels), np.float32([[[0, 0.2, 1]]]))


def test_accuracy_counts_every_image_once(monkeypatch):
    data = load_mnist()
    images, labels = data.test_images[:70], data.test_labels[:70]
    model = mnist_lstm.RowLSTM(np.random.default_rng(0))
    with mg.no_grad():
        answers = model(mnist_lstm.ink(images)).numpy().argmax(axis=1)
    for size in (1000, 70, 32):  # a short last part, and none
        monkeypatch.setattr(mnist_lstm, "LOOK", size)
        assert mnist_lstm.accuracy(model, images, answers) == 1
        assert mnist_lstm.accuracy(model, images, labels) == (answers == labels).mean()


def test_rows_that_matter_against_central_differences():
    pixels = load_mnist().test_images[:3]
    labels = np.array([3, 1, 4])
    model = _model()
    norms, known = mnist_lstm.rows_that_matter(model.float(), pixels, labels)
    assert norms.shape == known.shape == (28,)
    assert known[-1] == mnist_lstm.accuracy(model, pixels, labels)
    assert all(parameter.grad is None for parameter in model.parameters())
    model = model.double()
    x = pixels / 255

    def losses(x):
        return mg.cross_entropy(model(x), labels, reduction="none").numpy()

    for row in (0, 13, 27):
        gradient = np.zeros((3, 28))
        for column in range(28):
            step = np.zeros_like(x)
            step[:, row, column] = 1e-5
            gradient[:, column] = (losses(x + step) - losses(x - step)) / 2e-5
        expected = np.linalg.norm(gradient, axis=1).mean()
        assert norms[row] == pytest.approx(expected, rel=1e-3)


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "models.mnist_lstm", "--out", str(tmp_path / "out"), *arguments],
        capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def _metrics(tmp_path):
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_gate_smoke_run_learns_and_writes(tmp_path):
    done = _run(tmp_path, "--smoke", "--seed", "1")
    assert done.returncode == 0, done.stderr
    metrics = _metrics(tmp_path)
    assert metrics["model"] == "mnist_lstm" and metrics["seed"] == 1
    assert metrics["steps"] == mnist_lstm.SMOKE_STEPS and metrics["training_images"] == 5500
    assert metrics["metric"]["name"] == "test_accuracy"
    assert 0.6 < metrics["metric"]["value"] < 0.95  # 0.1 is guessing; about 0.75 is usual
    written = {path.name for path in (tmp_path / "out").glob("*.[pj]*")}
    assert written == {"loss.png", "accuracy.png", "rows.png", "metrics.json"}
    assert "5,500 images to train on, 500 for validation, 1,000 to test" in done.stdout


def test_same_seed_same_metric_on_one_thread_and_two(tmp_path, monkeypatch):
    values = []
    for threads in ("1", "2"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", threads)
        assert _run(tmp_path, "--steps", "5").returncode == 0
        metrics = _metrics(tmp_path)
        values.append((metrics["metric"]["value"], metrics["last_loss"]))
    assert values[0] == values[1]


def _write_mnist(folder, train, test):
    """A small MNIST in four files: a bright bar in the row that the label says."""
    generator = np.random.default_rng(0)
    for part, count in {"train": train, "t10k": test}.items():
        labels = generator.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        images[np.arange(count), 9 + labels] = 255
        for name, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape)
            file = folder / f"{part}-{name}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def test_a_folder_of_images(tmp_path, monkeypatch):
    _write_mnist(tmp_path, 300, 40)
    mnist_lstm.main(["--steps", "3", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert _metrics(tmp_path)["training_images"] == 275
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    mnist_lstm.main(["--steps", "3", "--out", str(tmp_path / "out")])
    assert _metrics(tmp_path)["training_images"] == 275


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, kernel):
    _write_mnist(tmp_path, 150, 10)
    done = _run(tmp_path, "--steps", "2", "--kernels", kernel, "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    few = tmp_path / "few"
    few.mkdir()
    _write_mnist(few, 100, 10)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        mirrors = [f"http://127.0.0.1:{taken.getsockname()[1]}/{name}/" for name in "ab"]
        monkeypatch.setattr(
            mnist.download_mnist, "__kwdefaults__", {"mirrors": mirrors, "timeout": 5.0}
        )
        for arguments, words in {
            ("--data", str(tmp_path / "nowhere")): ["nowhere is no folder"],
            ("--data", str(empty)): ["train-images-idx3-ubyte is missing", "download"],
            ("--data", str(few)): ["batch_size=128"],
            ("--download",): ["--data DIR", "MINIGRAD_DATA"],
            ("--download", "--data", str(empty)): [*mirrors, "refused", "--data DIR"],
            ("--steps", "none"): ["whole number"],
        }.items():
            with pytest.raises(SystemExit) as caught:
                mnist_lstm.main([*arguments, "--out", str(tmp_path / "out")])
            error = capsys.readouterr().err
            assert caught.value.code == 2
            assert len(error.strip().splitlines()) == 1, error
            assert error.startswith("mnist_lstm: error:")
            assert all(word in error for word in words), error
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_whole_run_on_the_packaged_images(tmp_path):
    assert _run(tmp_path).returncode == 0
    assert _metrics(tmp_path)["metric"]["value"] > 0.9  # 0.92 with seed 0
