"""One training step of the document's character language model, minigrad against its peers.

The step: a window of 11 x 64 symbols is 10 inputs and 10 targets for each of 64 cursors; an LSTM of
64 nodes, a linear layer to 27 symbols, the mean softmax cross-entropy, backward, clipping to
a global norm of 1.25, SGD at rate 10. (h, c) is carried from window to window, detached.
All contenders start from the same weights, read the same windows and must report the same losses
before anything is timed. Each peer is written as its own users would at its fastest: PyTorch runs
at 1 thread and at all of them, JAX at the 1 thread that suits it (it can have another number only
in another process). --threads N gives every library N instead.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import timing

# N batch, T time, V vocabulary, H hidden
T, N, V, H = 10, 64, 27, 64
LEARNING_RATE, MAX_NORM = 10.0, 1.25
SEED = 4
WINDOWS = 400
CHECKED_STEPS, TOLERANCE = 5, 1e-4
STEEP = 10  # w times this makes the second gradient far longer than MAX_NORM (4.5 against 1.25)

Weights = dict[str, np.ndarray]
Step = Callable[[np.ndarray], Any]  # window (T + 1, N) -> loss, finished when it returns


class Contender(NamedTuple):
    """How to make a contender's step from the weights, and what to set before each of its turns.

    `make` raises ImportError when the library it needs is missing.
    """

    make: Callable[[Weights], Step]
    before_turn: Callable[[], object] | None = None


def draw_weights(rng: np.random.Generator) -> Weights:
    """Initial float32 weights as in the document: truncated normal of mean -0.1 and std 0.1.

    Values further than 2 std from the mean are drawn again; the biases are 0.
    w_x (V, 4H), w_h (H, 4H), b_gates (4H,), gates in the order i, j, f, o; w (H, V), b (V,).
    """

    def truncated_normal(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(outside.sum())
        return (0.1 * values - 0.1).astype(np.float32)

    return {
        "w_x": truncated_normal(V, 4 * H),
        "w_h": truncated_normal(H, 4 * H),
        "b_gates": np.zeros(4 * H, np.float32),
        "w": truncated_normal(H, V),
        "b": np.zeros(V, np.float32),
    }


def draw_windows(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """`count` consecutive int64 windows (T + 1, N).

    Each begins with the last row of the one before, as the document's batches do. The text is
    made of 60 invented words, so there is something to learn and the gates and gradients stay in
    the range of real training instead of saturating on noise.
    """
    words = [np.append(rng.integers(1, V, size), 0) for size in rng.integers(2, 8, 60)]
    length = count * T + 1
    text = np.concatenate([words[k] for k in rng.integers(60, size=N * length)])  # long enough
    cursors = text[: N * length].reshape(N, length).T  # (time, N)
    return [np.ascontiguousarray(cursors[k * T : (k + 1) * T + 1]) for k in range(count)]


def step_flops() -> int:
    """Floating-point operations of the matrix products of one step; a multiply-add counts two.

    Recurrence: z += h @ w_h for T steps, dh for the T - 1 that have a predecessor in the window,
    dw_h over all rows. Logits: forward, dh and dw. A one-hot product is a row look-up and is not
    counted, nor are the element-wise parts.
    """
    recurrence = (T + (T - 1) + T) * N * H * 4 * H
    logits = 3 * T * N * H * V
    return 2 * (recurrence + logits)


def minigrad_step(weights: Weights) -> Step:
    """minigrad: the fused LSTM layer, as models/char_lm.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(SEED)
    lstm = nn.LSTM(V, H, forget_bias=0.0, time_major=True, generator=rng)
    head = nn.Linear(H, V, generator=rng)
    lstm.load_state_dict({"w_x": weights["w_x"], "w_h": weights["w_h"], "bias": weights["b_gates"]})
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = optim.SGD(parameters, lr=LEARNING_RATE)
    state: Any = None

    def step(window: np.ndarray) -> Any:
        nonlocal state
        outputs, (h, c) = lstm(window[:-1], state)
        loss = mg.cross_entropy(head(outputs), window[1:])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        state = (h.detach(), c.detach())
        return loss.item()

    return step


def pytorch_step(weights: Weights) -> Step:
    """PyTorch eager: nn.LSTM (oneDNN's fused layer), one-hot by table look-up, fused SGD."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    def transposed(name: str) -> torch.Tensor:  # nn.LSTM: (4H, ...), gates in the order i, f, j, o
        i, j, f, o = np.split(weights[name], 4, axis=-1)
        return torch.from_numpy(np.concatenate([i, f, j, o], axis=-1).T.copy())

    one_hot = nn.Embedding.from_pretrained(torch.eye(V), freeze=True)
    lstm = nn.LSTM(V, H)
    head = nn.Linear(H, V)
    lstm.load_state_dict(
        {
            "weight_ih_l0": transposed("w_x"),
            "weight_hh_l0": transposed("w_h"),
            "bias_ih_l0": transposed("b_gates"),
            "bias_hh_l0": torch.zeros(4 * H),
        }
    )
    lstm.bias_hh_l0.requires_grad_(False)  # the model has one bias, not two
    head.load_state_dict({k: torch.from_numpy(weights[n].T.copy()) for k, n in HEAD_NAMES.items()})
    parameters = [p for p in (*lstm.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, fused=True)
    state = (torch.zeros(1, N, H), torch.zeros(1, N, H))

    def step(window: np.ndarray) -> torch.Tensor:
        nonlocal state
        ids = torch.from_numpy(window)
        outputs, (h, c) = lstm(one_hot(ids[:-1]), state)
        loss = cross_entropy(head(outputs.view(T * N, H)), ids[1:].view(T * N))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        state = (h.detach(), c.detach())
        return loss.detach()

    return step


HEAD_NAMES = {"weight": "w", "bias": "b"}  # nn.Linear's name -> ours


def jax_step(weights: Weights) -> Step:
    """JAX: forward, backward, clip and update in one jitted function.

    Rows of w_x by look-up, the scan unrolled. XLA is given one thread and 512-bit vectors unless
    the environment says otherwise: its thread pool costs this step more than it gains (measured).
    """
    os.environ.setdefault("PJRT_NPROC", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_prefer_vector_width" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_prefer_vector_width=512".strip()
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp, sigmoid

    def loss_and_state(params: Any, state: Any, window: Any) -> Any:
        def cell(state: Any, z_x: Any) -> Any:
            h, c = state
            i, j, f, o = jnp.split(z_x + h @ params["w_h"], 4, axis=-1)
            c = c * sigmoid(f) + sigmoid(i) * jnp.tanh(j)
            h = jnp.tanh(c) * sigmoid(o)
            return (h, c), h

        z_x = params["w_x"][window[:-1]] + params["b_gates"]  # (T, N, 4H)
        state, outputs = jax.lax.scan(cell, state, z_x, unroll=T)
        logits = outputs.reshape(T * N, H) @ params["w"] + params["b"]
        targets = window[1:].reshape(T * N, 1)
        picked = jnp.take_along_axis(logits, targets, axis=1)[:, 0]
        return jnp.mean(logsumexp(logits, axis=1) - picked), state

    def train(params: Any, state: Any, window: Any) -> Any:
        (loss, state), grads = jax.value_and_grad(loss_and_state, has_aux=True)(
            params, state, window
        )
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
        rate = LEARNING_RATE * MAX_NORM / jnp.maximum(norm, MAX_NORM)
        params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        return params, state, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    state = (jnp.zeros((N, H)), jnp.zeros((N, H)))

    def step(window: np.ndarray) -> jax.Array:
        nonlocal params, state
        results = jitted(params, state, window.astype(np.int32))  # JAX keeps 32-bit integers
        params, state, loss = jax.block_until_ready(results)
        return loss

    return step


def pytorch_threads(threads: int) -> Callable[[], None]:
    """A call that sets PyTorch's number of threads; does nothing where PyTorch is missing."""

    def set_threads() -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)

    return set_threads


def all_contenders(threads: int) -> dict[str, Contender]:
    """The contenders by name, for at most `threads` threads."""
    contenders = {"minigrad": Contender(minigrad_step)}
    for count in sorted({1, threads}):
        contenders[f"PyTorch eager, {count} thread{'s' * (count > 1)}"] = Contender(
            pytorch_step, pytorch_threads(count)
        )
    contenders["JAX jit"] = Contender(jax_step)
    return contenders


def make_steps(contenders: Mapping[str, Contender], weights: Weights) -> dict[str, Step]:
    """The step of every contender whose library is there; the missing ones are named on stdout."""
    steps = {}
    for name, contender in contenders.items():
        try:
            steps[name] = contender.make(weights)
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return steps


def check_agreement(steps: Mapping[str, Step], windows: Sequence[np.ndarray]) -> dict[str, float]:
    """Run CHECKED_STEPS training steps of each contender; the losses must be the same.

    One that read other data or updated differently is seen from the second loss on. Returns the
    seconds of each first step, which compiles. Raises ValueError naming the contenders, the step
    and the two losses when they differ by more than TOLERANCE, relative.
    """
    first_steps, losses = {}, {}
    for name, step in steps.items():
        start = time.perf_counter()
        losses[name] = [float(step(windows[0]))]
        first_steps[name] = time.perf_counter() - start
        losses[name] += [float(step(window)) for window in windows[1:CHECKED_STEPS]]
    reference = next(iter(losses))
    for name, values in losses.items():
        for k, (value, expected) in enumerate(zip(values, losses[reference], strict=True)):
            if not abs(value - expected) <= TOLERANCE * abs(expected):
                raise ValueError(
                    f"char_lm: {name} does not do the same work as {reference}: "
                    f"loss {value:.7g} against {expected:.7g} at step {k + 1}"
                )
    return first_steps


def cycling(step: Step, windows: Sequence[np.ndarray]) -> Callable[[], Any]:
    """`step` as a call without arguments that goes on through the windows, round and round."""
    following = itertools.cycle(windows)
    return lambda: step(next(following))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, time, print the table.

    Returns 0, or 2 when there is nobody to time or the contenders do not do the same work.
    """
    options = timing.parser(__doc__, rounds=30).parse_args(arguments)
    if options.threads:
        timing.limit_threads(options.threads)

    rng = np.random.default_rng(SEED)
    weights, windows = draw_weights(rng), draw_windows(rng, WINDOWS)
    contenders = all_contenders(options.threads or timing.usable_cores())
    steps = make_steps(contenders, weights)
    if not steps:
        print("char_lm: none of the contenders can be imported", file=sys.stderr)
        return 2
    try:
        first_steps = check_agreement(steps, windows)
        clipped = weights | {"w": STEEP * weights["w"]}
        check_agreement({name: contenders[name].make(clipped) for name in steps}, windows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"same losses (relative {TOLERANCE:g}) for {CHECKED_STEPS} steps, "
        f"with and without clipping: {'; '.join(steps)}"
    )

    calls = {name: cycling(step, windows[CHECKED_STEPS:]) for name, step in steps.items()}
    before = {name: contenders[name].before_turn for name in steps}
    report = timing.measure(
        calls,
        rounds=options.rounds,
        first_calls=first_steps,
        before_turn={name: set_up for name, set_up in before.items() if set_up},
    )
    final_losses = {name: float(call()) for name, call in calls.items()}
    if not np.isfinite(list(final_losses.values())).all():
        print(f"char_lm: the training that was timed diverged: {final_losses}", file=sys.stderr)
        return 2

    reference = report.fastest([name for name in steps if name != "minigrad"] or list(steps))
    print(report.table(reference))
    _, microseconds, _ = report[reference].quartiles
    rate = step_flops() / microseconds / 1e3
    print(
        f"matrix products of one step: {step_flops():,} FLOPs; "
        f"{reference} does {rate:.1f} GFLOP/s of them"
    )
    if options.json:
        extra = {"benchmark": "char_lm", "flops": step_flops(), "final_losses": final_losses}
        timing.write_json(options.json, extra | report.as_dict(reference))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
