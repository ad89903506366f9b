"""Whole training steps replayed, ``capture(optimizer=)``: the same bits, reports and errors."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import (
    ArgumentError,
    CaptureError,
    DTypeError,
    GraphError,
    IndexRangeError,
    InplaceError,
    NonFiniteError,
)
from minigrad.optim import replay
from minigrad.optim.replay import Replay
from minigrad.rerun import Rerun
from tests.test_capture import (
    CharModel,
    DenseModel,
    DropModel,
    SineModel,
    T,
    V,
    convert,
    floats,
    generator,
    ids,
)


class WordModel(CharModel):
    """Ids become vectors of a table, and the loss is a sum, divided."""

    lookups = 1

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(V, V, generator=generator(3))

    def forward(self, window, state):
        x = self.table(window[:-1])
        for _ in range(self.lookups - 1):
            x = x * self.table(window[:-1])
        outputs, state = self.layer(x, state)
        loss = mg.cross_entropy(self.head(outputs), window[1:], reduction="sum")
        return loss / window.shape[1], state


class TwiceModel(WordModel):
    lookups = 2


MODELS = [CharModel, lambda: CharModel(nn.RNN), lambda: CharModel(nn.GRU), SineModel, DenseModel,
          DropModel, WordModel, TwiceModel]  # fmt: skip
RULES = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "nesterov": lambda p: optim.Momentum(p, lr=0.1, nesterov=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSProp(p, lr=0.01, momentum=0.5),
    "centered": lambda p: optim.RMSProp(p, lr=0.01, centered=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adadelta": lambda p: optim.Adadelta(p, lr=1.0),
    "ftrl": lambda p: optim.Ftrl(p, lr=0.1, l1=1e-3),
}


@pytest.fixture
def replays(monkeypatch):
    """Grows by one with every training step that is made at once."""
    seen = []
    plain = Replay.finish
    monkeypatch.setattr(Replay, "finish", lambda *args: seen.append(1) or plain(*args))
    return seen


def train(make, captured, clip=None, rule="adam", dtype=np.float32, steps=8, change=None):
    """Everything that a short training leaves behind, and the captured function."""
    model = make()
    if dtype == np.float64:
        model.double()
    parameters = list(model.parameters())
    optimizer = RULES[rule](parameters)
    step = mg.capture(model, optimizer=optimizer, clip_norm=clip) if captured else None
    rng, state, seen = generator(9), model.start(), []
    for i in range(steps):
        batch = model.batch(rng)
        batch = batch.astype(dtype) if batch.dtype.kind == "f" else batch
        state = convert(state) if state is not None and dtype == np.float64 else state
        if change is not None:
            change(i, model, optimizer)
        if captured:
            loss, state = step(batch, state)
            report = step.clip_report
        else:
            optimizer.zero_grad()
            loss, state = model(batch, state)
            loss.backward()
            report = clip and optim.clip_grad_norm_(parameters, clip)
            optimizer.step()
        assert (report is None) == (clip is None)
        if report is not None:
            seen.append(np.array([report.before, report.after, report.scale, report.clipped]))
            seen.append(np.array(list(report.shares.values())))
        seen += [loss.numpy(), *(p.grad.numpy().copy() for p in parameters)]
        seen += [p.numpy().copy() for p in parameters]
        state = nn.detach(state) if state is not None else None
    entries = optimizer.state_dict()["state"].values()
    seen += [np.asarray(x) for entry in entries for x in entry.values()]
    return seen, step


def compare(make, **options):
    plain, _ = train(make, False, **options)
    replayed, step = train(make, True, **options)
    assert step.programs == 1
    for a, b in zip(plain, replayed, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("make", MODELS)
def test_the_same_bits(make, clip, dtype, replays):
    compare(make, clip=clip, dtype=dtype)
    repeatable = make is not MODELS[2]  # the GRU does not say that it can be repeated
    assert len(replays) == (4 if repeatable else 0)  # of 8: two recorded, two on buffers


def test_clipping_that_is_not_needed(replays):
    compare(DenseModel, clip=100.0)
    assert len(replays) == 4


@pytest.mark.parametrize("make", [CharModel, DenseModel])
@pytest.mark.parametrize("mode", ["numpy", "check"])
def test_on_the_readable_kernels(make, mode, replays):
    with mg.kernels.use(mode):
        compare(make, clip=0.1)
    assert not replays


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_and_settings_that_change(rule, replays):
    def change(i, model, optimizer):
        group = optimizer.param_groups[0]
        group["lr"] *= 0.9
        if i == 6 and "weight_decay" in group:
            group["weight_decay"] = 0.02

    compare(DenseModel, rule=rule, clip=0.1, change=change, steps=10)
    assert len(replays) == 6


def test_another_kind_of_update_in_the_middle(replays):
    def change(i, model, optimizer):
        if i == 6:
            optimizer.param_groups[0]["momentum"] = 0.9
        if i == 8:
            optimizer.param_groups[0]["nesterov"] = True

    compare(DenseModel, rule="sgd", change=change, steps=10)
    assert len(replays) == 6


def test_states_saved_and_loaded_in_the_middle(replays):
    kept = {}

    def change(i, model, optimizer):
        state = optimizer.state_dict()  # to look at it costs nothing
        if i == 5:
            kept.update(model=model.state_dict(), optimizer=state)
        if i == 8:
            model.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])

    compare(DenseModel, clip=0.1, change=change, steps=11)
    assert len(replays) == 7


def test_looking_at_the_state_makes_no_new_code():
    model = DenseModel()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    step, rng = mg.capture(model, optimizer=optimizer), generator()
    for _ in range(5):
        step(floats(rng), None)
    (kind,) = step._kinds.values()
    before = kind.rerun._training
    optimizer.state_dict()
    optimizer.param_groups[0]["lr"] = 0.1
    step(floats(rng), None)
    assert before is not None and kind.rerun._training is before


def test_parameters_in_other_memory(replays):
    def change(i, model, optimizer):
        if i == 6:
            model.a.weight.array = model.a.weight.array * 2

    compare(DenseModel, change=change, steps=12)
    assert len(replays) == 2 + 4  # written down anew in between


def test_a_frozen_parameter_and_one_that_is_added():
    def change(i, model, optimizer):
        if i == 6:
            model.a.weight.requires_grad = False
            model.a.weight.grad = None

    def run(captured):
        model = DenseModel()
        optimizer = optim.Adam([model.a.weight, model.b.weight], lr=0.01, allow_missing=True)
        step = mg.capture(model, optimizer=optimizer)
        rng = generator(1)
        for i in range(18):
            if i == 6:
                model.a.weight.requires_grad = False
            if i == 12:
                optimizer.add_param_group({"params": [model.b.bias], "lr": 0.5})
            x = floats(rng)
            for p in model.parameters():
                p.grad = None
            if captured:
                step(x, None)
            else:
                model(x, None)[0].backward()
                optimizer.step()
        return [p.numpy().copy() for p in model.parameters()]

    for a, b in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_kinds_of_batches_in_turn(replays):
    def run(captured):
        model = DenseModel()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = mg.capture(model, optimizer=optimizer)
        rng = generator(1)
        for _ in range(10):
            for rows in (3, 5):
                x = rng.standard_normal((rows, T, 3)).astype(np.float32)
                if captured:
                    step(x, None)
                else:
                    optimizer.zero_grad()
                    model(x, None)[0].backward()
                    optimizer.step()
        return [p.numpy().copy() for p in model.parameters()]

    for a, b in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(replays) == 12  # of twice ten


def test_what_is_not_the_optimisers_adds_up():
    w, v = (nn.Parameter(np.ones((3, 1), np.float32)) for _ in range(2))
    step = mg.capture(lambda x: x @ (w * v), optimizer=optim.SGD([w], lr=0.0))
    inner = mg.capture(lambda x: x @ w, optimizer=optim.SGD([w], lr=0.0))
    leaf = mg.Tensor(np.full((1, 3), 2, np.float32), requires_grad=True)
    for i in range(1, 8):
        step(leaf)
        assert w.grad.tolist() == [[2]] * 3
        assert v.grad.tolist() == [[2 * i]] * 3 and leaf.grad.tolist() == [[2 * i - 1] * 3]
        inner(leaf)
        assert w.grad.tolist() == [[2]] * 3 and leaf.grad.tolist() == [[2 * i] * 3]


@pytest.mark.parametrize("turned", [False, True])
def test_large_arguments_are_read_where_they_are(turned, replays):
    w = nn.Parameter(np.full((200, 2), 0.01, np.float32))
    target = np.zeros((300, 2), np.float32)
    step = mg.capture(lambda x: mg.mse_loss(x @ w, target), optimizer=optim.SGD([w], lr=0.0))
    rng = generator()
    for _ in range(8):  # each time in other memory
        x = np.array(rng.standard_normal((300, 200)), np.float32, order="F" if turned else "C")
        loss = step(x).item()
        gradient = w.grad.numpy().copy()
        w.grad = None
        plain = step.function(np.ascontiguousarray(x))
        plain.backward()
        assert loss == plain.item()
        np.testing.assert_array_equal(w.grad.numpy(), gradient)
    assert len(replays) == 4


def test_large_arguments_with_gaps_now_and_then(replays):
    w = nn.Parameter(np.full((200, 2), 0.01, np.float32))
    target = np.zeros((300, 2), np.float32)
    step = mg.capture(lambda x: mg.mse_loss(x @ w, target), optimizer=optim.SGD([w], lr=0.0))
    rng = generator()
    for i in range(9):
        x = rng.standard_normal((300, 400)).astype(np.float32)
        x = x[:, ::2] if i % 2 else x[:, :200].copy()
        assert step(x).item() == step.function(np.ascontiguousarray(x)).item()
    assert len(replays) == 5


def test_results_that_are_arguments(replays):
    w = nn.Parameter(np.ones((100, 1), np.float32))

    @mg.capture(optimizer=optim.SGD([w], lr=0.1))
    def step(x):
        return x[:1] @ w, x, x[1:]

    rng = generator()
    for _ in range(7):
        x = mg.Tensor(rng.standard_normal((200, 100)).astype(np.float32))
        _, same, part = step(x)
        np.testing.assert_array_equal(same.numpy(), x.numpy())
        np.testing.assert_array_equal(part.numpy(), x.numpy()[1:])
    assert len(replays) == 3


# -- errors -----------------------------------------------------------------------------------


def test_arguments_of_capture():
    model = DenseModel()
    with pytest.raises(ArgumentError, match="clip_norm is for optimizer="):
        mg.capture(model, clip_norm=1.0)
    with pytest.raises(DTypeError, match="must be one of minigrad.optim, got float"):
        mg.capture(model, optimizer=0.1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = [p.numpy().copy() for p in model.parameters()]
    with pytest.raises(ArgumentError, match="max_norm must be above 0"):
        mg.capture(model, optimizer=optimizer, clip_norm=-1.0)(floats(generator()), None)
    with pytest.raises(CaptureError, match="must return the loss first"):
        mg.capture(lambda x: x * 2, optimizer=optimizer)(mg.ones(3))
    inner = mg.capture(model, optimizer=optimizer)
    with pytest.raises(CaptureError, match="walks back"):
        mg.capture(lambda x: inner(x, None))(floats(generator()))
    for p, old in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), old)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite(value, replays):
    model = DenseModel()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    step = mg.capture(model, optimizer=optimizer, clip_norm=1.0)
    rng = generator()
    for _ in range(6):
        step(floats(rng), None)
    before = [p.numpy().copy() for p in model.parameters()]
    bad = floats(rng)
    bad[0, 0, 0] = value
    with pytest.raises(NonFiniteError, match="clip_grad_norm_: not finite: .*nan"):
        step(bad, None)
    assert step.clip_report is None and len(replays) == 3
    for p, old in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), old)
        assert p.grad is not None
    assert {entry["steps"] for entry in optimizer.state_dict()["state"].values()} == {6}
    step(floats(rng), None)
    assert len(replays) == 4


def test_squares_beyond_float64_are_clipped_all_the_same(replays):
    def run(captured):
        w = nn.Parameter(np.ones((3, 1)))
        optimizer = optim.SGD([w], lr=0.1)
        step = mg.capture(lambda x: x @ w, optimizer=optimizer, clip_norm=2.0)
        for i in range(7):
            x = np.full((1, 3), 1e200 if i > 4 else 1.0)
            if captured:
                step(x)
            else:
                optimizer.zero_grad()
                step.function(x).backward()
                optim.clip_grad_norm_([w], 2.0)
                optimizer.step()
        return w.numpy(), w.grad.numpy()

    np.testing.assert_array_equal(run(False), run(True))
    assert len(replays) == 3


def test_a_wrong_id_changes_nothing(replays):
    model = CharModel()
    step = mg.capture(model, optimizer=optim.SGD(model.parameters(), lr=0.1))
    state, rng = model.start(), generator()
    for _ in range(6):
        step(ids(rng), state)
    before = [p.numpy().copy() for p in model.parameters()]
    wrong = ids(rng)
    wrong[2, 3] = V
    with pytest.raises(IndexRangeError, match=r"id 11 at \(2, 3\)"):
        step(wrong, state)
    for p, old in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), old)
    step(ids(rng), state)
    assert len(replays) == 3


def test_settings_out_of_range_and_parameters_that_are_not_reached(replays):
    w, v = nn.Parameter(np.ones((3, 1), np.float32)), nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.SGD([w], lr=0.1)
    step = mg.capture(lambda x: x @ w, optimizer=optimizer)
    x = np.ones((1, 3), np.float32)
    for _ in range(6):
        step(x)
    before = w.numpy().copy()
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ArgumentError, match="lr must be finite and not negative"):
        step(x)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.add_param_group({"params": [v]})
    with pytest.raises(GraphError, match="no gradient in parameter 1"):
        step(x)
    np.testing.assert_array_equal(w.numpy(), before)
    optimizer.allow_missing = True
    step(x)
    assert v.grad is None and (w.numpy() < before).all() and len(replays) == 3


def test_hooks_and_pending_graphs(replays):
    w = nn.Parameter(np.ones(3, np.float32))
    zeros = np.zeros(3, np.float32)
    step = mg.capture(lambda x: mg.mse_loss(w * x, zeros), optimizer=optim.SGD([w], lr=0.0))
    x, seen = np.full(3, 1.5, np.float32), []
    for _ in range(6):
        step(x)
    remove = w.register_hook(lambda g: seen.append(g.tolist()))
    step(x)
    assert seen == [[1.5] * 3] and len(replays) == 2
    remove()
    pending = (w * w).sum()
    step(x)
    assert len(replays) == 3
    with pytest.raises(InplaceError, match="a captured training step changed it in place at test_"):
        pending.backward()


def test_several_threads_take_turns(replays):
    def run(threads):
        model = DenseModel()
        step = mg.capture(model, optimizer=optim.Adam(model.parameters(), lr=0.01), clip_norm=0.1)
        x = floats(generator())
        for _ in range(5):
            step(x, None)

        def work():
            for _ in range(120 // threads):
                step(x, None)

        together = [threading.Thread(target=work) for _ in range(threads)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        return [p.numpy().copy() for p in model.parameters()]

    for a, b in zip(run(1), run(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(replays) == 2 * 121


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def trained(make, loss_of, captured, clip=None, steps=6):
    """Parameters and their gradients after some steps, from ``make()`` parameters."""
    parameters = make()
    optimizer = optim.Adam(parameters, lr=0.01)
    step = mg.capture(lambda x: loss_of(x, *parameters), optimizer=optimizer, clip_norm=clip)
    for k in range(steps):
        x = normal(generator(k), 8, 512)
        if captured:
            step(x)
            continue
        optimizer.zero_grad()
        loss_of(x, *parameters).backward()
        if clip is not None:
            optimizer.clip_grad_norm_(clip)
        optimizer.step()
    return [part.numpy().copy() for p in parameters for part in (p, p.grad)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_large_parameters_are_updated_by_several_threads(threads, clip, replays, monkeypatch):
    def make():
        rng = generator(0)
        return [nn.Parameter(normal(rng, 512, 1030)), nn.Parameter(normal(rng, 1030))]

    def loss_of(x, w, b):
        return mg.mse_loss(mg.linear(x, w, b), target)

    target = np.zeros((8, 1030), np.float32)

    shared = []
    in_ranges = replay._in_ranges

    def spy(kernel, *args):
        shared.append(kernel)
        in_ranges(kernel, *args)

    monkeypatch.setattr(replay, "_in_ranges", spy)
    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        plain = trained(make, loss_of, False, clip)
        again = trained(make, loss_of, True, clip)
    finally:
        mg.set_num_threads(before)
    assert replays and mg.kernels.adam in shared
    for kernel in (mg.kernels.squared_norm, mg.kernels.scale):
        assert (kernel in shared) == (clip is not None)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda x, a, b: mg.mse_loss(a + b, x),  # the same gradient for both
        lambda x, a, b: mg.mse_loss(a * b + a, x),
        lambda x, a, b: mg.mse_loss(a - b, x),
    ],
)
def test_parameters_that_meet_in_one_op(loss_of, replays):
    """Clipping scales gradients where they are: each once, and for this step only."""

    def make():
        rng = generator(0)
        return [nn.Parameter(normal(rng, 8, 512)), nn.Parameter(normal(rng, 8, 512))]

    for clip in (None, 1e-3):  # less than any norm here
        plain, again = (trained(make, loss_of, captured, clip) for captured in (False, True))
        assert replays
        for a, b in zip(plain, again, strict=True):
            np.testing.assert_array_equal(a, b)
        replays.clear()


def test_a_gradient_that_no_call_makes_anew(replays):
    """That of a term is one, and stays one although clipping scales gradients in place."""

    def make():
        return [nn.Parameter(normal(generator(0), 8, 512)), nn.Parameter(np.float32(2.0))]

    def loss_of(x, a, b):
        return mg.mse_loss(a, x) + b

    plain, again = (trained(make, loss_of, captured, 0.1) for captured in (False, True))
    assert replays
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gradient_begun_with_zeros_is_not_copied(monkeypatch):
    """That of a table is zeros, to which rows are added: it is made anew at each step."""
    copies = []
    plain = Rerun._to_keep

    def spy(*args):
        kept = plain(*args)
        copies.append(len(kept[1]))
        return kept

    monkeypatch.setattr(Rerun, "_to_keep", spy)
    table = nn.Embedding(50, 8, generator=generator(0))
    optimizer = optim.SGD(table.parameters(), lr=0.1)
    words = np.arange(12) % 5
    step = mg.capture(lambda ids: mg.square(table(ids)).sum() / 12, optimizer=optimizer)
    for _ in range(6):
        step(words)
    assert copies == [0]


def test_a_gradient_that_was_changed_does_not_come_back_changed(replays):
    w = nn.Parameter(np.ones((4, 3), np.float32))
    target = np.zeros((2, 3), np.float32)
    step = mg.capture(lambda x: mg.mse_loss(x @ w, target), optimizer=optim.SGD([w], lr=0.0))
    x = np.arange(8.0, dtype=np.float32).reshape(2, 4)
    seen = []
    for _ in range(5):
        step(x)
        seen.append(w.grad.numpy().copy())
        with mg.no_grad():
            w.grad[...] = 7
    assert replays
    for gradient in seen[1:]:
        np.testing.assert_array_equal(gradient, seen[0])
