"""The sine prediction: TensorFlow's numbers, the document's data, both ways to feed it."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, plot
from models import sine_lstm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "sin_lstm.npz")
TRAIN, TEST = (
    sine_lstm.examples(sine_lstm.sine(*which)) for which in (sine_lstm.TRAIN, sine_lstm.TEST)
)


def _model(dtype=np.float32):
    """The model with the golden's initial weights."""
    model = sine_lstm.SineLSTM(10, np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    for n, (layer, inputs) in enumerate(((model.lower, 10), (model.upper, 30))):
        kernel = GOLDEN[f"init/cell{n}_kernel"]  # input above state
        layer.w_x.data, layer.w_h.data = kernel[:inputs], kernel[inputs:]
        layer.bias.data = GOLDEN[f"init/cell{n}_bias"]
    model.head.weight.data, model.head.bias.data = GOLDEN["init/fc_W"], GOLDEN["init/fc_b"]
    return model


def _by_tensorflow_name(model, value):
    for n, layer in enumerate((model.lower, model.upper)):
        yield f"cell{n}_kernel", np.concatenate([value(layer.w_x), value(layer.w_h)])
        yield f"cell{n}_bias", value(layer.bias)
    yield "fc_W", value(model.head.weight)
    yield "fc_b", value(model.head.bias)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_ten_batches_as_in_tensorflow(dtype, rtol, kernel):
    """Losses, predictions, gradients, weights: goldens/sin_lstm.npz."""
    model = _model(dtype)
    optimizer = optim.Adagrad(model.parameters(), lr=sine_lstm.RATE)

    def close(ours, theirs):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())

    with mg.kernels.use(kernel):
        for step, (x, y) in enumerate(zip(GOLDEN["in/x"], GOLDEN["in/y"], strict=True)):
            predicted = model(x.astype(dtype))  # (32, 1, 10)
            loss = mg.mse_loss(predicted, y[:, 0].astype(dtype))
            optimizer.zero_grad()
            loss.backward()
            assert loss.item() == pytest.approx(GOLDEN["loss"][step], rel=rtol)
            if step == 0:
                close(predicted.numpy(), GOLDEN["step1/predictions"])
                for name, ours in _by_tensorflow_name(model, lambda p: p.grad.numpy()):
                    close(ours, GOLDEN[f"grad1/{name}"])
            optimizer.step()
            if step == 2:
                for name, ours in _by_tensorflow_name(model, lambda p: p.array):
                    close(ours, GOLDEN[f"after3/{name}"])
    assert step == 9


# -- the data ---------------------------------------------------------------------------------


def test_data_are_the_documents():
    x, y = TRAIN
    assert x.shape == (9989, 10) and y.shape == (9989,) and x.dtype == y.dtype == np.float32
    which = GOLDEN["in/indices"]
    np.testing.assert_array_equal(x[which], GOLDEN["in/x"][:, :, 0])
    np.testing.assert_array_equal(y[which], GOLDEN["in/y"][:, :, 0])
    assert TEST[0].shape == (989, 10) and TEST[1].shape == (989,)


def test_test_data_begin_where_training_ends_with_a_gap_of_their_own():
    assert TEST[0][0, 0] == pytest.approx(np.sin(100), abs=1e-6)
    places = 100 + np.arange(1000) * 10 / 999  # as float32 they are rounded by up to 4e-6
    np.testing.assert_allclose(TEST[1], np.sin(places[10:-1]), atol=5e-6)
    np.testing.assert_allclose(TEST[0][:, -1], np.sin(places[9:-2]), atol=5e-6)
    assert sine_lstm.sine(*sine_lstm.TRAIN)[-1] == TEST[0][0, 0]  # both ends included


def test_a_pass_takes_each_example_once_and_ends_with_a_short_batch():
    marks = np.arange(9989, dtype=np.float32)
    batches = sine_lstm.batches(marks[:, None, None], marks, np.random.default_rng(0))
    passes = [[next(batches) for _ in range(313)] for _ in range(2)]
    orders = []
    for one in passes:
        assert [len(y) for _, y in one] == [32] * 312 + [5]
        for x, y in one:
            np.testing.assert_array_equal(x[:, 0, 0], y)
        orders.append(np.concatenate([y for _, y in one]))
        np.testing.assert_array_equal(np.sort(orders[-1]), marks)
    assert (orders[0] != orders[1]).mean() > 0.9 < (orders[0] != marks).mean()


def test_feeds_keep_the_order_of_the_points():
    x = np.arange(20.0).reshape(2, 10)
    assert sine_lstm.fed(x, "depth").shape == (2, 1, 10)
    assert sine_lstm.fed(x, "time").shape == (2, 10, 1)
    np.testing.assert_array_equal(sine_lstm.fed(x, "time")[1, :, 0], x[1])


def test_rmse():
    assert sine_lstm.rmse(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.0])) == 3**0.5


# -- the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", ["depth", "time"])
def test_it_is_two_cells_on_top_of_each_other_and_the_last_output(feed):
    generator = np.random.default_rng(1)
    depth = sine_lstm.FEEDS[feed][1]
    model = sine_lstm.SineLSTM(depth, generator)
    model.double()
    x = sine_lstm.fed(generator.standard_normal((4, 10)), feed)
    outputs = mg.tensor(x)
    for layer in (model.lower, model.upper):
        cell = nn.LSTMCell(layer.input_size, 30, generator=generator)
        cell.double()
        cell.load_state_dict(layer.state_dict())
        outputs, _ = nn.unroll(cell, outputs)
    np.testing.assert_allclose(
        model(x).numpy(), model.head(outputs[:, -1]).numpy()[:, 0], rtol=1e-12
    )


def test_as_written_nothing_recurs():
    """One time step from a state of zeros: no gradient at all for the recurrent weights."""
    for feed, recurs in (("depth", False), ("time", True)):
        model = sine_lstm.SineLSTM(sine_lstm.FEEDS[feed][1], np.random.default_rng(0))
        x, y = TEST
        mg.mse_loss(model(sine_lstm.fed(x[:32], feed)), y[:32]).backward()
        for layer in (model.lower, model.upper):
            assert layer.w_h.grad.numpy().any() == recurs
            forget = layer.bias.grad.numpy()[60:90]  # gates i, j, f, o
            assert forget.any() == recurs
            assert layer.w_x.grad.numpy().any()


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def unseen(monkeypatch):
    """Pictures are made but not painted, which takes longer than all the rest."""
    monkeypatch.setattr(plot, "save", lambda figure, path: None)


def _run(tmp_path, *arguments):
    sine_lstm.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_smoke_run_learns_both_ways(tmp_path, capsys):
    metrics = _run(tmp_path, "--smoke", "--seed", "1")
    assert metrics["steps"] == 2 * sine_lstm.SMOKE_STEPS
    reached = metrics["rmse_of_feeds"]
    assert metrics["metric"] == {"name": "rmse", "value": reached["depth"]}
    assert 0.03 < reached["depth"] < 0.08  # 0.7 is saying zero; about 0.06 is usual
    assert 0.02 < reached["time"] < 0.065  # about 0.045
    assert metrics["rmse_of_last_point_once_more"] == pytest.approx(0.00723, abs=1e-5)
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"prediction.png", "loss.png", "gradient_flow.png", "metrics.json"}
    assert "as written" in capsys.readouterr().out


@pytest.mark.parametrize("feed", ["depth", "time"])
def test_one_way_alone_is_the_same_as_in_both(tmp_path, unseen, feed):
    both = _run(tmp_path, "--steps", "20")["rmse_of_feeds"]
    metrics = _run(tmp_path, "--steps", "20", "--feed", feed)
    assert metrics["steps"] == 20 and metrics["feed"] == feed
    assert metrics["rmse_of_feeds"] == {feed: both[feed]}
    assert metrics["metric"]["value"] == both[feed]


def test_same_seed_same_numbers_on_one_thread_and_two(tmp_path, unseen):
    before = mg.get_num_threads()
    try:
        found = []
        for threads, seed in ((1, "3"), (2, "3"), (2, "4")):
            mg.set_num_threads(threads)
            found.append(_run(tmp_path, "--steps", "15", "--seed", seed)["rmse_of_feeds"])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kernel", ["numpy", "check"])
def test_every_way_of_running_the_kernels(tmp_path, unseen, kernel):
    assert _run(tmp_path, "--steps", "2", "--kernels", kernel)["kernels"] == kernel


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--feed", "width"], ["--time"]])
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, *arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == "" and said.err.count("\n") == 1


@pytest.mark.slow
def test_whole_run_is_at_least_as_good_as_tensorflows(tmp_path):
    reached = _run(tmp_path)["rmse_of_feeds"]
    assert reached["depth"] <= 0.0071 and reached["time"] <= 0.0213
