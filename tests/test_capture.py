"""Captured functions: the same bits as without capture, and what cannot be captured is refused."""

import threading
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, watch
from minigrad.errors import (
    CaptureError,
    DTypeError,
    GraphError,
    IndexRangeError,
    InplaceError,
)
from minigrad.program import Program
from tests.ops.test_gradients import CASES

T, N, V, H = 6, 5, 11, 8


def generator(seed=0):
    return np.random.default_rng(seed)


def ids(rng):
    return rng.integers(0, V, (T + 1, N))


def floats(rng):
    return rng.standard_normal((N, T, 3)).astype(np.float32)


class CharModel(nn.Module):
    def __init__(self, layer=nn.LSTM):
        self.layer = layer(V, H, time_major=True, generator=generator())
        self.head = nn.Linear(H, V, generator=generator(1))
        self.batch = ids

    def forward(self, window, state):
        outputs, state = self.layer(window[:-1], state)
        return mg.cross_entropy(self.head(outputs), window[1:]), state

    def start(self):
        return self.layer.zero_state(N)


class SineModel(nn.Module):
    def __init__(self):
        self.first = nn.RNN(3, H, generator=generator())
        self.second = nn.LSTM(H, H, generator=generator(2))
        self.head = nn.Linear(H, 3, generator=generator(1))
        self.batch = floats

    def forward(self, x, state):
        outputs, state = self.first(x, state)
        outputs, _ = self.second(outputs)
        return mg.mse_loss(self.head(outputs[:, -1]), x[:, 0]), state

    def start(self):
        return self.first.zero_state(N)


class DenseModel(nn.Module):
    def __init__(self):
        self.a = nn.Linear(3, H, generator=generator())
        self.b = nn.Linear(H, 3, generator=generator(1))
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.batch = floats

    def forward(self, x, state):
        y = mg.tanh(self.b(mg.relu(self.a(x)))) * self.scale + self.scale
        return mg.mse_loss(y, x), state

    def start(self):
        return None


class DropModel(DenseModel):
    def __init__(self):
        super().__init__()
        del self.scale
        self.drop = nn.Dropout(0.5, generator=generator(5))

    def forward(self, x, state):
        y = self.b(self.drop(mg.relu(self.a(x))))
        return mg.mse_loss(y, x), state


def train(make, captured, steps=7, dtype=np.float32):
    """Losses, gradients and parameters of a short training."""
    model = make()
    if dtype == np.float64:
        model.double()
    step = mg.capture(model, backward=captured == "backward") if captured else model
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    rng = generator(9)
    state, seen = model.start(), []
    for _ in range(steps):
        batch = model.batch(rng)
        if batch.dtype.kind == "f":
            batch = batch.astype(dtype)
        if state is not None and dtype == np.float64:
            state = convert(state)
        optimizer.zero_grad()
        loss, state = step(batch, state)
        if captured != "backward":
            loss.backward()
        seen += [loss.numpy().copy(), *(p.grad.numpy().copy() for p in model.parameters())]
        optim.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        state = nn.detach(state) if state is not None else None
    return seen + [p.numpy().copy() for p in model.parameters()], step


def convert(state):
    if isinstance(state, tuple):
        return tuple(convert(part) for part in state)
    return mg.Tensor(state.numpy().astype(np.float64))


MODELS = [CharModel, lambda: CharModel(nn.RNN), lambda: CharModel(nn.GRU), SineModel, DenseModel]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["numba", "numpy"])
@pytest.mark.parametrize("captured", ["forward", "backward"])
@pytest.mark.parametrize("make", [*MODELS, DropModel])
def test_a_captured_training_gives_the_same_bits(make, captured, mode, dtype):
    with mg.kernels.use(mode):
        plain, _ = train(make, "", dtype=dtype)
        replayed, step = train(make, captured, dtype=dtype)
    assert step.programs == 1
    for a, b in zip(plain, replayed, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [CharModel, SineModel, DenseModel, DropModel])
def test_a_replay_calls_no_op(make, monkeypatch):
    runs = []
    plain = Program.forward
    monkeypatch.setattr(Program, "forward", lambda *args: runs.append(1) or plain(*args))
    train(make, "forward", steps=8)
    assert len(runs) == 1  # the third call, which is written down


def test_a_function_with_an_op_that_cannot_be_repeated_is_replayed_op_by_op(monkeypatch):
    runs = []
    plain = Program.forward
    monkeypatch.setattr(Program, "forward", lambda *args: runs.append(1) or plain(*args))
    step = mg.capture(lambda x: mg.max(x))
    for i in range(8):
        assert step(mg.Tensor(np.full(3, i, np.float32))).item() == i
    assert len(runs) == 6


def changed(array, factor):
    return array if array.dtype.kind != "f" else array * array.dtype.type(factor)


REPEATABLE = [
    pytest.param(function, arrays, id=f"{op} {label}")
    for op, cases in CASES.items()
    for label, function, arrays in cases
    if getattr(getattr(mg.ops, op, None), "repeatable", False) and op != "dropout"
]


@pytest.mark.parametrize(("function", "arrays"), REPEATABLE)
def test_every_op_that_says_so_can_be_repeated(function, arrays):
    def parts_of(result):
        return result if isinstance(result, tuple) else (result,)

    captured = mg.capture(lambda *xs: parts_of(function(*xs)))
    for factor in (1.0, 0.875, 0.75, 0.5, 0.25):
        found = []
        for run in (lambda *xs: parts_of(function(*xs)), captured):
            leaves = [
                mg.Tensor(changed(x, factor), requires_grad=x.dtype.kind == "f") for x in arrays
            ]
            outputs = run(*leaves)
            loss = sum((y * (i + 1)).sum() for i, y in enumerate(outputs) if y.dtype.kind == "f")
            loss.backward()
            found.append([y.numpy() for y in outputs] + [x.grad for x in leaves])
        for a, b in zip(*found, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# -- graphs ---------------------------------------------------------------------------------


def simple():
    w = nn.Parameter(np.array([1.0, 2.0, 3.0], np.float32))
    step = mg.capture(lambda x: (mg.tanh(x * w) * w).sum())
    x = np.array([0.1, 0.2, 0.3], np.float32)
    for _ in range(3):
        step(x).backward()
        w.grad = None
    return w, step, x


def test_two_runs_before_one_backward_pass():
    w, step, x = simple()
    (step(x) + step(2 * x) * 3).backward()
    got = w.grad.numpy().copy()
    w.grad = None
    plain = step.function
    (plain(x) + plain(2 * x) * 3).backward()
    np.testing.assert_allclose(got, w.grad.numpy(), rtol=1e-6)


def test_gradients_add_up_and_are_kept_apart():
    w, step, x = simple()
    step(x).backward()
    first = w.grad.numpy().copy()
    kept = w.grad
    step(x).backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * first)
    w.grad = None
    step(3 * x).backward()
    np.testing.assert_array_equal(kept.numpy(), 2 * first)


def test_results_are_kept_apart():
    w, step, x = simple()
    a = step(x)
    value = a.item()
    with mg.no_grad():
        for _ in range(4):
            step(5 * x)
    del w
    assert a.item() == value


def test_retained_graphs_and_second_walks():
    w, step, x = simple()
    loss = step(x)
    loss.backward(retain_graph=True)
    first = w.grad.numpy().copy()
    step(7 * x)  # must leave the buffers alone
    w.grad = None
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), first)
    with pytest.raises(GraphError, match="a second time"):
        loss.backward()


def test_gradients_flow_into_arguments():
    w, step, x = simple()
    for _ in range(4):
        leaf = mg.Tensor(x, requires_grad=True)
        step(leaf * 2).backward()
        got = leaf.grad.numpy()
    leaf = mg.Tensor(x, requires_grad=True)
    step.function(leaf * 2).backward()
    np.testing.assert_array_equal(got, leaf.grad.numpy())


def test_a_parameter_changed_before_backward_is_noticed():
    w, step, x = simple()
    loss = step(x)
    w.data += 1
    with pytest.raises(InplaceError, match="changed it in place"):
        loss.backward()


def test_no_second_derivative():
    w, step, x = simple()
    with pytest.raises(GraphError, match="no second derivative.*capture"):
        step(x).backward(create_graph=True)


def test_under_no_grad():
    w, step, x = simple()
    with mg.no_grad():
        values = [step(i * x).item() for i in range(5)]
        plain = [step.function(i * x).item() for i in range(5)]
    assert values == plain and step(x).node is not None


def test_hooks_and_retain_grad_outside():
    w, step, x = simple()
    seen = []
    loss = step(x)
    loss.register_hook(lambda g: seen.append(g.item()))
    (loss * 2).backward()
    assert seen == [2.0]


def test_backward_at_once():
    w = nn.Parameter(np.array([1.0, 2.0, 3.0], np.float32))
    leaf = mg.Tensor(np.ones(3, np.float32), requires_grad=True)

    @mg.capture(backward=True)
    def step(x, leaf):
        return (mg.tanh(x * w) * leaf).sum(), x * w

    for i in range(6):
        w.grad = leaf.grad = None
        x = np.full(3, i / 5, np.float32)
        for _ in range(2):
            loss, other = step(x, leaf)
            assert loss.node is None and other.node is None and not loss.requires_grad
        plain = step.function(x, leaf)[0]
        got = w.grad.numpy().copy(), leaf.grad.numpy().copy()
        w.grad = leaf.grad = None
        plain.backward()
        assert loss.item() == plain.item()
        np.testing.assert_array_equal(got[0], 2 * w.grad.numpy())
        np.testing.assert_array_equal(got[1], 2 * leaf.grad.numpy())
    assert step.programs == 1


def test_backward_at_once_with_hooks_and_inner_tensors():
    w = nn.Parameter(np.ones(3, np.float32))
    step = mg.capture(lambda x: (x * w).sum(), backward=True)
    seen = []
    for _ in range(5):
        v = mg.Tensor(np.ones(3, np.float32), requires_grad=True)
        w.grad = None
        step(v * 2)
        assert v.grad.tolist() == [2, 2, 2] and w.grad.tolist() == [2, 2, 2]
    remove = w.register_hook(lambda g: seen.append(g.tolist()))
    for i in range(4):
        step(mg.Tensor(np.full(3, i, np.float32)))
    assert seen == [[i] * 3 for i in range(4)]
    remove()


def test_backward_at_once_calls_the_hook_of_an_argument():
    w = nn.Parameter(np.ones(3, np.float32))
    step = mg.capture(lambda x: mg.mse_loss(w * x, np.zeros(3, np.float32)), backward=True)
    for k in range(6):  # the last two in a replay
        x = mg.tensor(np.full(3, 3.0, np.float32), requires_grad=True)
        if k > 3:
            x.register_hook(lambda g: g * 10)
        step(x)
        assert x.grad.tolist() == [20.0 if k > 3 else 2.0] * 3


@pytest.mark.parametrize("backward", [False, True])
def test_a_parameter_that_is_frozen_gets_no_gradient_any_more(backward):
    w, v = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones(3, np.float32))
    step = mg.capture(lambda x: mg.mse_loss(w * v, x), backward=backward)
    for k in range(10):
        if k in (4, 7):
            v.requires_grad_(k == 7)
        w.grad = v.grad = None
        loss = step(np.full(3, 4.0, np.float32))
        if not backward:
            loss.backward()
        assert w.grad.tolist() == [-2.0] * 3
        assert (v.grad is None) == (4 <= k < 7)


def test_backward_at_once_needs_a_loss():
    with pytest.raises(CaptureError, match="must return the loss first"):
        mg.capture(lambda x: x * 2, backward=True)(mg.ones(3))
    w = nn.Parameter(np.ones(3, np.float32))
    with pytest.raises(GraphError, match="no single gradient"):
        mg.capture(lambda x: x * w, backward=True)(mg.ones(3))
    inner = mg.capture(lambda x: (x * w).sum(), backward=True)
    with pytest.raises(CaptureError, match="walks back"):
        mg.capture(lambda x: inner(x) * 2)(mg.ones(3))


# -- kinds of arguments -----------------------------------------------------------------------


class Pair(NamedTuple):
    a: object
    b: object


def test_forms_of_arguments_and_results():
    w = nn.Parameter(np.ones(3, np.float32))

    @mg.capture
    def step(pair, *, more, scale=2.0, flag=None):
        total = pair.a * w + more["x"][0] * scale
        return {"total": total, "pair": Pair(total.sum(), [pair.b])}

    assert step.__name__ == "step"
    for i in range(5):
        a, b = mg.Tensor(np.full(3, i, np.float32)), mg.Tensor(np.full(3, -i, np.float32))
        result = step(Pair(a, b), more={"x": [np.full(3, 1, np.float32)]}, scale=3.0)
        assert isinstance(result["pair"], Pair) and isinstance(result["pair"].b, list)
        assert result["total"].tolist() == [i + 3.0] * 3
        assert result["pair"].a.item() == 3 * (i + 3)
        assert result["pair"].b[0].tolist() == [-i] * 3
        assert not result["pair"].b[0].requires_grad
    assert step.programs == 1
    step(Pair(a, b), more={"x": [np.full(3, 1, np.float32)]}, scale=4.0)
    assert step.programs == 1  # another number, another kind: recorded anew
    with pytest.raises(DTypeError, match="capture: cannot tell .* bytearray"):
        step(Pair(a, bytearray(3)), more={})


def test_other_shapes_and_dtypes_are_recorded_anew():
    w = nn.Parameter(np.ones((), np.float32))
    step = mg.capture(lambda x: (x * w).sum())
    for size in (2, 3, 2, 3, 2, 3, 2, 3):
        assert step(np.ones(size, np.float32)).item() == size
    assert step.programs == 2
    for _ in range(4):
        assert step(np.ones(2, np.float64)).dtype == np.float64
    assert step.programs == 3


def test_arguments_that_are_not_contiguous_and_views_made_inside():
    w = nn.Parameter(np.ones((4, 3), np.float32))

    @mg.capture
    def step(x):
        return ((x.T[1:] * w[:, 0]) @ w).sum()

    rng = generator()
    for _ in range(5):
        x = rng.standard_normal((3, 8)).astype(np.float32).T[::2]
        assert step(x).item() == step.function(x).item()


def test_a_copy_made_inside_is_refused():
    w = nn.Parameter(np.ones(3, np.float32))
    step = mg.capture(lambda x: (w * (x + 1)).sum())  # x + 1 of NumPy, not of an op
    step(np.zeros(3, np.float32))
    with pytest.raises(CaptureError, match=r"argument 1 of multiply \(at test_capture.py:\d+\)"):
        step(np.ones(3, np.float32))


def test_a_mask_drawn_inside_is_refused():
    rng = generator()
    w = nn.Parameter(np.ones(50, np.float32))
    step = mg.capture(lambda x: (w * (rng.random(50) < 0.5).astype(np.float32) * x).sum())
    step(np.ones(50, np.float32))
    with pytest.raises(CaptureError, match="did not do the same twice.*array"):
        step(np.ones(50, np.float32))


def test_another_path_is_refused():
    calls = []

    @mg.capture
    def step(x):
        calls.append(1)
        return x * 2 if len(calls) % 2 else mg.tanh(x)

    step(mg.ones(3))
    with pytest.raises(CaptureError, match="it called tanh where it called multiply before"):
        step(mg.ones(3))


def test_what_a_replay_would_leave_out_is_refused():
    w = nn.Parameter(np.ones(3, np.float32))
    x = mg.ones(3)

    def backward(x):
        (x * w).sum().backward()

    def change(x):
        with mg.no_grad():
            x *= 2

    def hook(x):
        (x * w).register_hook(print)

    for inside in (backward, change, hook):
        with pytest.raises(CaptureError, match="replaying"):
            mg.capture(inside)(x)
        assert mg.ones(2).tolist() == [1, 1]  # and nobody records any more
    with pytest.raises(CaptureError, match="returned an array"):
        mg.capture(lambda x: (x * w).numpy())(x)
    with pytest.raises(CaptureError, match="neither an argument"):
        mg.capture(lambda x: mg.Tensor(np.ones(3)))(x)


def test_training_and_evaluation():
    model = nn.Sequential(nn.Linear(3, 4, generator=generator()), nn.Dropout(generator=generator()))
    step = mg.capture(model)
    x = mg.ones(2, 3)
    for _ in range(4):
        assert (step(x).numpy() == 0).any()
    model.eval()
    for _ in range(4):
        np.testing.assert_array_equal(step(x).numpy(), model(x).numpy())
    model.train()
    assert (step(x).numpy() == 0).any()


def test_recorders_see_every_step():
    model = CharModel()
    step, state = mg.capture(model), model.start()
    rng = generator()
    for _ in range(4):
        step(ids(rng), state)[0].backward()
    with watch.GradientFlow.attach(model) as flows:
        for _ in range(4):
            step(ids(rng), state)[0].backward()
    assert len(flows["layer"]) == 4
    for _ in range(3):
        step(ids(rng), state)[0].backward()
    assert len(flows["layer"]) == 4


def test_parameters_of_another_dtype_or_in_other_memory():
    model = DenseModel()
    step = mg.capture(model)
    rng = generator()
    x = floats(rng)
    for _ in range(4):
        step(x, None)
    model.a.weight.array = model.a.weight.array * 2  # other memory
    assert step(x, None)[0].item() == model(x, None)[0].item()
    model.double()
    x = x.astype(np.float64)
    for _ in range(4):
        loss = step(x, None)[0]
        assert loss.dtype == np.float64 and loss.item() == model(x, None)[0].item()
    model.a.weight.requires_grad = False
    for _ in range(4):
        model.zero_grad()
        step(x, None)[0].backward()
        assert model.a.weight.grad is None and model.b.weight.grad is not None


def test_a_wrong_id_is_refused_in_a_replay():
    model = CharModel()
    step, state = mg.capture(model), model.start()
    rng = generator()
    for _ in range(4):
        step(ids(rng), state)[0].backward()
    wrong = ids(rng)
    wrong[2, 3] = V
    with pytest.raises(IndexRangeError, match=r"id 11 at \(2, 3\)"):
        step(wrong, state)
    good = ids(rng)
    assert step(good, state)[0].item() == model(good, state)[0].item()


def test_a_captured_function_inside_another():
    w = nn.Parameter(np.ones(3, np.float32))
    inner = mg.capture(lambda x: mg.tanh(x * w))
    outer = mg.capture(lambda x: (inner(x) * w).sum())
    for i in range(6):
        x = np.full(3, i / 7, np.float32)
        assert outer(x).item() == (np.tanh(x) * 1).sum()
    assert outer.programs == 1


def test_several_threads():
    model = CharModel()
    step, state = mg.capture(model), model.start()
    batches = [ids(generator(i)) for i in range(8)]
    expected = [model(batch, state)[0].item() for batch in batches]
    for batch in batches:
        step(batch, state)
    wrong = []

    def work():
        for _ in range(30):
            for batch, value in zip(batches, expected):
                if step(batch, state)[0].item() != value:
                    wrong.append(value)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("function", [
    mg.negative, mg.absolute, mg.square, mg.sqrt, mg.exp, mg.expm1, mg.log, mg.log1p, mg.sin,
    mg.cos, mg.tanh, lambda x: x / (x + 3.0), lambda x: 2.0 / x, lambda x: x / 7, lambda x: 1 - x,
])  # fmt: skip
def test_elementwise_ops_are_repeated_with_the_same_bits(function):
    w = nn.Parameter(generator(0).uniform(0.5, 2.0, (5, 33)).astype(np.float32))
    batches = generator(1).uniform(0.1, 3.0, (6, 5, 33)).astype(np.float32)

    def loss_of(x):
        return (function(w * x) * x).sum()

    step = mg.capture(loss_of, backward=True)
    for batch in batches:
        w.grad = None
        expected = loss_of(batch)
        expected.backward()
        gradient, w.grad = w.grad.numpy(), None
        assert step(batch).item() == expected.item()
        np.testing.assert_array_equal(w.grad.numpy(), gradient)
    (kind,) = step._kinds.values()
    assert kind.rerun.works and kind.rerun._of_loss.calls
