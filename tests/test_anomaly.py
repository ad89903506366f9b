"""Anomaly mode: the op, its line, forward or backward, the step; nothing when it is off."""

import inspect
import re
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import anomaly, nn, ops, optim
from minigrad.errors import ArgumentError, CaptureError, DTypeError, NonFiniteError
from minigrad.tensor import Tensor

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy notices as well


def line_after(mark):
    """Number of the line of the calling test that ends with ``# mark``."""
    lines, start = inspect.getsourcelines(inspect.currentframe().f_back.f_code)
    (place,) = [i for i, line in enumerate(lines) if line.rstrip().endswith(f"# {mark}")]
    return f"test_anomaly.py:{start + place}"


def leaf(*values, dtype=np.float32):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def message(error):
    return str(error.value)


def test_forward_names_op_line_index_and_what_it_was_given():
    x = leaf([4.0, 1.0], [0.0, -9.0])
    with mg.detect_anomaly():
        y = x * 1.0
        with pytest.raises(NonFiniteError) as error:
            mg.sqrt(y + 1.0)  # here
    assert f"sqrt (called at {line_after('here')})" in message(error)
    assert "gave NaN at index (1, 1) of its result, shape (2, 2), forward, in step 0" in message(
        error
    )
    assert "It was given argument 0 (2, 2) in [-8, 5]." in message(error)


def test_the_first_op_is_named_and_not_those_that_hand_it_on():
    x = leaf(1.0, 1e30)
    with mg.detect_anomaly(), pytest.raises(NonFiniteError, match="square .*inf at index .1,"):
        y = mg.square(x)
        mg.log(y)
    with mg.detect_anomaly(infinity=False), pytest.raises(NonFiniteError, match=": sin .*gave NaN"):
        mg.sin(mg.square(x))


def test_data_that_were_not_finite_before_are_told():
    with mg.detect_anomaly(), pytest.raises(NonFiniteError, match="argument 1 .3,. has NaN at index"
                                            r" .2,. already"):  # fmt: skip
        leaf(1.0, 2.0, 3.0) * np.array([1, 1, np.nan], np.float32)


def test_backward_names_op_argument_and_the_line_where_it_was_called():
    x = leaf(4.0, 0.0)
    x.grad = before = mg.tensor([7.0, 7.0])
    with mg.detect_anomaly():
        root = mg.sqrt(x)  # here
        loss = (root * 3.0).sum()
        with pytest.raises(NonFiniteError) as error:
            loss.backward()
    assert f"the gradient of argument 0 of sqrt (called at {line_after('here')})" in message(error)
    assert "shape (2,), has inf at index (1,), backward, in step 0" in message(error)
    assert "The gradient of its result is finite." in message(error)
    assert x.grad is before and before.tolist() == [7.0, 7.0]


def test_only_gradients_that_somebody_wants_count():

    def scale(x, y):  # its gradients come out together
        return x * y, lambda g: (g * y, g * np.nan)

    x = leaf(-2.0)
    with mg.detect_anomaly():
        mg.apply(scale, x, mg.tensor([3.0])).sum().backward()
        with pytest.raises(NonFiniteError, match="argument 1 of scale"):
            mg.apply(scale, x, leaf(2.0)).sum().backward()
    assert x.grad.tolist() == [3.0]


def test_a_seed_a_hook_and_a_sum_of_gradients():
    x = leaf(1.0, 2.0)
    with mg.detect_anomaly():
        with pytest.raises(NonFiniteError, match="that the backward pass begins with"):
            (x * 2.0).backward(np.array([1.0, np.nan]))
        y = x * 2.0
        y.register_hook(lambda g: np.full(2, np.inf))
        with pytest.raises(NonFiniteError, match=r"argument 0 of multiply.*hook\?\): inf"):
            y.sum().backward()
        x.data = np.ones(2) / 2
        big = np.full(2, 3e38, np.float32)
        with pytest.raises(NonFiniteError, match="a sum of gradients"):
            (x * big + x * big * 0.5).backward(np.array([0.9, 0.9]))
    assert x.grad is None


def test_steps_are_those_of_the_user_or_backward_passes():
    w = leaf(0.0)

    def train(anomaly_mode, count_self):
        for step in range(10):
            if count_self:
                anomaly_mode.step = 100 + step
            w.grad = None
            (w * 2.0).sum().backward()
            mg.log(w + float(7 - step) * 0.1)

    with mg.detect_anomaly() as mode, pytest.raises(NonFiniteError, match="in step 8 .backward"):
        train(mode, False)  # counted from 0, and step 7 was walked before the logarithm of 0
    with mg.detect_anomaly(5) as mode, pytest.raises(NonFiniteError, match="ward, in step 107[.]"):
        train(mode, True)
    assert mode.backward_passes == 8
    for step in range(3, 5):
        with mg.detect_anomaly(step=step):
            loss = mg.sqrt(w).sum()
            with pytest.raises(NonFiniteError, match=f"backward, in step {step}[.]"):
                loss.backward()


def test_no_grad_and_gradients_of_gradients():
    x = leaf(0.0, 1.0)
    with mg.detect_anomaly():
        with mg.no_grad(), pytest.raises(NonFiniteError, match="divide .*gave inf"):
            1.0 / x
        y = mg.power(x, 1.5).sum()
        (g,) = mg.grad(y, [x], create_graph=True)
        with pytest.raises(NonFiniteError, match="(power|multiply)"):
            mg.grad(g.sum(), [x])


LAYERS = [
    ("lstm", lambda rng: nn.LSTM(3, 4, generator=rng)),
    ("gru", lambda rng: nn.GRU(3, 4, generator=rng)),
    ("rnn", lambda rng: nn.RNN(3, 4, generator=rng)),
    ("layer_norm_lstm", lambda rng: nn.LayerNormLSTM(3, 4, generator=rng)),
    ("lstmp", lambda rng: nn.LSTM(3, 4, projection=2, generator=rng)),
]


@pytest.mark.parametrize("name, make", LAYERS, ids=[name for name, _ in LAYERS])
def test_inside_fused_recurrent_layers(name, make):
    """A state that is NaN at one step: the layer is named, its line, and the time step."""
    layer = make(mg.manual_seed(0))
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    with mg.detect_anomaly():
        layer(x)
    for parameter in layer.parameters():
        if parameter.ndim == 2 and parameter.shape[0] != 3:  # the recurrent weights
            with mg.no_grad():
                parameter[0, 0] = np.nan
            break
    with mg.detect_anomaly(), pytest.raises(NonFiniteError) as error:
        layer(x)  # here
    assert re.search(rf"{name}\w* \(called at {line_after('here')}\)", message(error))
    assert re.search(r"argument \d \(\d, \d+\) has NaN at index \(0, 0\) already", message(error))


def test_the_time_step_inside_a_fused_layer():
    x_gates = np.zeros((6, 2, 4), np.float32)
    x_gates[3:, 1] = np.nan
    with mg.detect_anomaly(), pytest.raises(NonFiniteError) as error:
        mg.apply(ops.rnn, x_gates, np.zeros((2, 4), "f"), np.eye(4, dtype="f"), np.zeros(4, "f"))
    where = "gave NaN at index (3, 1, 0) of its result 0, shape (6, 2, 4), time steps first"
    assert where in message(error)


@pytest.mark.parametrize(
    "op, call",
    [
        ("conv2d", lambda x: mg.conv2d(x, np.full((2, 2, 1, 1), 3e38, np.float32))),
        ("layer_norm", lambda x: mg.layer_norm(x * np.nan, np.ones(1, "f"), np.ones(1, "f"))),
        ("softmax_cross_entropy", lambda x: mg.cross_entropy(x.reshape(4, 4) * 3e38, [0, 1, 2, 3])),
        ("matmul", lambda x: x.reshape(4, 4) @ np.full((4, 2), 3e38, np.float32)),
        ("softplus", lambda x: mg.softplus(x * 3e38)),
    ],
)  # fmt: skip
def test_inside_other_fused_kernels(op, call):
    """The first op: here the product that overflows before, or the kernel itself."""
    x = leaf(*np.linspace(1, 9, 16)).reshape(1, 4, 4, 1).detach()
    with mg.detect_anomaly(), pytest.raises(NonFiniteError) as error:
        call(x)
    first = re.match(r"detect_anomaly: (\w+) ", message(error))[1]
    assert first == (op if op in ("conv2d", "matmul") else "multiply")


def test_a_kernel_whose_gradient_overflows():
    rng = mg.manual_seed(0)
    lstm = nn.LSTM(3, 4, generator=rng)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    with mg.detect_anomaly():
        outputs, _ = lstm(x)  # here
        with pytest.raises(NonFiniteError) as error:
            outputs.backward(np.full(outputs.shape, 3e38, np.float32))
    assert re.search(r"of argument \d of lstm\w* .called at " + line_after("here"), message(error))


def test_captured_functions_run_as_written_and_are_replayed_again_afterwards():
    w = leaf(1.0, 2.0)

    @mg.capture
    def loss_of(x):
        return mg.log(x * w).sum()  # here

    fine = np.array([1.0, 1.0], np.float32)
    for _ in range(4):
        before = loss_of(fine)
    assert loss_of.programs == 1
    with mg.detect_anomaly():
        assert loss_of(fine).item() == before.item()
        with pytest.raises(NonFiniteError) as error:
            loss_of(np.array([1.0, -1.0], np.float32))
    where = inspect.getsourcelines(loss_of.function)
    number = where[1] + [i for i, line in enumerate(where[0]) if "# here" in line][0]
    assert f"log (called at test_anomaly.py:{number})" in message(error)
    assert loss_of.programs == 1 and loss_of(fine).item() == before.item()

    both = mg.capture(lambda x: mg.sqrt(x * w).sum(), backward=True)
    for _ in range(4):
        both(fine)
    with mg.detect_anomaly(), pytest.raises(NonFiniteError, match="argument 0 of sqrt"):
        both(np.zeros(2, np.float32))
    with pytest.raises(CaptureError, match="detect_anomaly"):
        mg.capture(lambda x: mg.detect_anomaly().__enter__())(fine)


def test_a_training_that_blows_up_is_stopped_at_the_right_step():
    rng = mg.manual_seed(0)
    model = nn.Linear(4, 1, generator=rng)
    optimizer = optim.SGD(model.parameters(), lr=1e12)
    x, y = rng.standard_normal((8, 4)).astype(np.float32), np.ones((8, 1), np.float32)

    def step():
        loss = mg.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    state = {name: value.copy() for name, value in model.state_dict().items()}
    good = 0
    with np.errstate(all="ignore"):
        while np.isfinite(step().item()):
            good += 1
    model.load_state_dict(state)
    with np.errstate(all="ignore"), mg.detect_anomaly() as mode, pytest.raises(NonFiniteError) as e:
        for _ in range(100):
            step()
    assert mode.backward_passes in (good, good - 1)
    assert f"in step {mode.backward_passes}" in message(e)


def test_leaving_nesting_and_decorating():
    x = leaf(-1.0)
    with mg.detect_anomaly(1) as outer:
        with mg.detect_anomaly(2), pytest.raises(NonFiniteError, match="in step 2"):
            mg.log(x)
        with pytest.raises(NonFiniteError, match="in step 1"):
            mg.log(x)
        with outer, pytest.raises(NonFiniteError):
            mg.log(x)
    assert np.isnan(mg.log(x).item()) and not anomaly.entered

    @mg.detect_anomaly(4)
    def compute():
        return mg.log(x)

    with pytest.raises(NonFiniteError, match="in step 4"):
        compute()
    assert np.isnan(mg.log(x).item()) and not anomaly.entered


def test_it_is_about_this_thread():
    x, results = leaf(-1.0), []
    with mg.detect_anomaly():
        thread = threading.Thread(target=lambda: results.append(mg.log(x).item()))
        thread.start()
        thread.join()
    assert len(results) == 1 and np.isnan(results[0])


def test_off_it_looks_at_nothing(monkeypatch):
    def refused(*args):
        raise AssertionError("looked at an op while off")

    for name in ("look_at_result", "look_at_gradient", "look_at_gradients"):
        monkeypatch.setattr(mg.detect_anomaly, name, refused)
    monkeypatch.setattr(anomaly, "watcher", refused)
    x = leaf(1.0, 2.0)
    captured = mg.capture(lambda x: mg.exp(x).sum())
    for _ in range(3):
        captured(x).backward()
        mg.exp(x).sum().backward()


def test_values_are_the_same_in_the_mode():
    rng = mg.manual_seed(0)
    model = nn.LSTM(3, 4, generator=rng)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)

    def gradients():
        for p in model.parameters():
            p.grad = None
        outputs, _ = model(x)
        mg.tanh(outputs).sum().backward()
        return [p.grad.array.copy() for p in model.parameters()]

    plain = gradients()
    with mg.detect_anomaly():
        for a, b in zip(plain, gradients(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: mg.detect_anomaly(1.5), DTypeError),
        (lambda: mg.detect_anomaly(True), DTypeError),
        (lambda: mg.detect_anomaly(-1), ArgumentError),
        (lambda: mg.detect_anomaly(infinity="no"), DTypeError),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error, match="^detect_anomaly: (step|infinity) must"):
        call()
    assert isinstance(mg.ones(1), Tensor) and not anomaly.entered
