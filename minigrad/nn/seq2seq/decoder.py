"""The decoder: one id after the other, from a state, and from a memory if it attends to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ... import functional as F
from ...errors import ArgumentError, DTypeError, ShapeError
from ...nodes import is_grad_enabled, mode, refuse_on_tape
from ...prepared import prepared
from ...tensor import Tensor
from ..layers import Embedding, positive
from ..module import Module
from ..rnn.compose import is_cell, map_state
from ..rnn.folding import folded
from ..rnn.stack import Stacked
from ..rnn.unroll import at_ends
from . import fused
from .attention import Attention, Memory, check_attention
from .encoder import check_parts, over_time
from .helpers import Greedy, Helper, check_helper


class Carry(NamedTuple):
    """What goes from one step to the next."""

    state: Any  # of the recurrent layers
    fed: Tensor | None  # (N, A) what was seen at the step before; None without input feeding


class Decoded(NamedTuple):
    """What a decoder said.  T is the number of steps; past its end a row is all zeros."""

    logits: Tensor  # (N, T, V)
    ids: np.ndarray  # (N, T) int64
    lengths: np.ndarray  # (N,) int64, steps of each row, its EOS counted
    state: Any  # of the recurrent layers, at the end of each row
    alignments: np.ndarray | None  # (N, T, S) where it looked; None without attention


class Decoder(Module):
    """Embedding, recurrent layers, perhaps attention, and a layer that gives logits.

    A step reads an id:

        x = embedding(id)                         with input feeding [embedding(id), seen]
        output, state = layers(x, state)
        context, alignment = attention(output)    without attention: seen = output
        seen = context                            or mix([output, context])
        logits = head(seen)

    embedding: ids to vectors (N, E).  layers: a recurrent layer, ``nn.Stacked`` of several, or
    cells, as large as those of the encoder whose state they go on from.  head: seen to logits,
    such as ``nn.Linear(H, V)``.
    attention: a Luong or Bahdanau, or None.  input_feeding: whether what was seen is read again
    at the next step (zeros at the first), as TensorFlow's ``AttentionWrapper`` does it; the
    layers' inputs are then of size E + A.  mix: a module of [output, context] (N, H + M), such
    as ``nn.Linear(H + M, A, bias=False)``, TensorFlow's ``attention_layer_size``; without it
    the context is all that is seen, and A is M.
    Raises DTypeError, ArgumentError, and ShapeError for layers whose inputs do not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad.nn import seq2seq
    >>> parts = nn.Embedding(9, 3, generator=rng), nn.GRU(3, 5, generator=rng)
    >>> decoder = seq2seq.Decoder(*parts, nn.Linear(5, 9, generator=rng))
    >>> state = decoder.layers.zero_state(2)
    >>> said = decoder(seq2seq.TeacherForcing([[1, 4, 5], [1, 6, 0]], [3, 2]), state)
    >>> said.logits.shape
    (2, 3, 9)
    >>> decoder(seq2seq.Greedy(1, 2), state, max_steps=4).ids.shape
    (2, 4)
    """

    def __init__(
        self,
        embedding: Embedding,
        layers: Any,
        head: Module,
        attention: Attention | None = None,
        *,
        input_feeding: bool = True,
        mix: Module | None = None,
    ) -> None:
        check_parts("Decoder", embedding, layers)
        if attention is not None:
            check_attention(attention)
        elif mix is not None:
            raise ArgumentError("Decoder: mix mixes in the context of an attention; give one")
        self.embedding = embedding
        self.layers = layers
        self.head = head
        self.attention = attention
        self.mix = mix
        self.input_feeding = attention is not None and input_feeding
        embedded = embedding.weight.shape[1]
        self._fed_size = layers.input_size - embedded  # A with input feeding
        if attention is not None and attention.query_size != layers.output_size:
            raise ShapeError(
                f"Decoder: the layers put out {layers.output_size} numbers, but the attention "
                f"takes queries of {attention.query_size}"
            )
        wanted, what = embedded, f"{embedded} of the embedding"
        if self.input_feeding and attention is not None:
            fed = attention.memory_size if mix is None else max(self._fed_size, 1)
            wanted, what = embedded + fed, what + f" and {fed} fed back (input_feeding)"
        if layers.input_size != wanted:
            raise ShapeError(
                f"Decoder: the layers take inputs of size {layers.input_size}, but get {what}"
            )

    # -- what is done with the parts ------------------------------------------------------

    def forward(
        self, helper: Helper, state: Any, memory: Any = None, memory_lengths: Any = None, *,
        max_steps: int | None = None,
    ) -> Decoded:  # fmt: skip
        """Decode a batch.

        helper: says what is read.  state: of an encoder with layers of the same sizes, or
        ``decoder.layers.zero_state(N)``.  memory: (N, S, M), the outputs of the encoder, and
        memory_lengths: (N,) in [1, S], for an attention, as :meth:`Attention.memory` takes them.
        max_steps: at most so many steps; needed where the decoder reads its own ids, which
        might never be EOS.  With TeacherForcing and ScheduledSampling T is that of the inputs.

        Rows that have ended are padded with zeros and their states stay as they are.  Decoding
        stops when all have ended.  Without feedback of any kind all time steps are computed
        at once, by the fused kernels of the layers.
        Raises ShapeError, DTypeError, ArgumentError, IndexRangeError.
        """
        check_helper(helper)
        carry, prepared = self.begin(state, memory, memory_lengths)
        if helper.inputs is None and max_steps is None:
            raise ArgumentError(
                f"Decoder: {type(helper).__name__} reads what the decoder says, which might never "
                "be EOS; give max_steps"
            )
        if max_steps is not None:
            positive("Decoder", max_steps=max_steps)
        helper.check(self.embedding.weight.shape[0])
        ids = helper.first(batch_of(state))
        steps = max_steps
        if helper.inputs is not None:
            steps = helper.inputs.shape[1]
            if max_steps is not None and max_steps < steps:
                raise ArgumentError(
                    f"Decoder: the inputs have T={steps} steps, but max_steps is {max_steps}; cut "
                    "the inputs"
                )
        assert steps is not None
        if type(helper) is Greedy and prepared is None and not is_grad_enabled():
            decoded = self._in_one_call(helper, state, steps)
            if decoded is not None:
                return decoded
        if helper.follows or self.input_feeding:
            return self._step_by_step(helper, ids, carry, prepared, steps)
        return self._at_once(helper, carry, prepared)

    def begin(self, state: Any, memory: Any = None, memory_lengths: Any = None) -> Any:
        """What the first step starts from, and the prepared memory: Carry, Memory or None.

        Arguments as for a call.  Raises ShapeError, DTypeError, ArgumentError.
        """
        if state is None:
            raise ArgumentError(
                "Decoder: give the state it starts from: an encoder's, or "
                "decoder.layers.zero_state(N)"
            )
        if self.attention is None:
            if memory is not None or memory_lengths is not None:
                raise ArgumentError("Decoder: this one has no attention, so it takes no memory")
            return Carry(state, None), None
        if memory is None:
            raise ArgumentError(
                "Decoder: its attention needs a memory: decoder(helper, state, outputs, lengths) "
                "with what the encoder put out"
            )
        prepared = self.attention.memory(memory, memory_lengths)
        batch = batch_of(state)
        if prepared.values.shape[0] != batch:
            raise ShapeError(
                f"Decoder: the memory has batch {prepared.values.shape[0]}, but the state {batch}"
            )
        fed = None
        if self.input_feeding:
            fed = Tensor(np.zeros((batch, self._fed_size), prepared.values.dtype))
        return Carry(state, fed), prepared

    def reading(self, places: int) -> tuple[Callable[..., Any], Any]:
        """What makes the layers' inputs of ids, and layers that take them: see ``folded``.

        places: how many ids will be read.
        """
        if self.input_feeding:
            return self.embedding, self.layers
        return folded(self.embedding, self.layers, places)

    def read(
        self, layers: Any, x: Any, carry: Carry, memory: Memory | None = None
    ) -> tuple[Tensor, Carry, Tensor | None]:
        """One time step, up to what the head is given.

        layers, x: the layers and what they take, (N, E) or ids (N,); see :meth:`reading`.  carry:
        of the step before, or of :meth:`begin`; memory: of :meth:`begin`.
        Returns what is seen (N, A), the new carry, and the alignment (N, S) or None.
        """
        if carry.fed is not None:
            x = F.concat([x, carry.fed], axis=1)
        if is_cell("Decoder", layers):
            output, state = layers(x, carry.state)
        else:
            one = x[None] if isinstance(x, np.ndarray) else x.unsqueeze(0)
            outputs, state = over_time(layers, one, carry.state, None)
            output = outputs.squeeze(0)
        if memory is None:
            return output, Carry(state, None), None
        seen, alignment = self._look(output, memory)
        return seen, Carry(state, seen if self.input_feeding else None), alignment

    def _look(self, output: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Output (N, H) or (N, T, H) -> what is seen of the memory, and the alignment."""
        assert self.attention is not None
        context, alignment = self.attention(output, memory)
        if self.mix is None:
            return context, alignment
        return self.mix(F.concat([output, context], axis=output.ndim - 1)), alignment

    def _at_once(self, helper: Helper, carry: Carry, memory: Memory | None) -> Decoded:
        """All time steps side by side."""
        assert helper.inputs is not None and helper.lengths is not None
        lengths = helper.lengths
        inputs = prepared(np.transpose, helper.inputs)  # (T, N)
        embed, layers = self.reading(inputs.size)
        seen, state = over_time(layers, embed(inputs), carry.state, lengths)
        alignments = None
        if memory is not None:
            seen, shown = self._look(seen.swapaxes(0, 1), memory)
            seen, alignments = seen.swapaxes(0, 1), shown.array
        logits = self.head(seen)  # (T, N, V)
        running = prepared(_running, len(inputs), lengths)  # (T, N, 1)
        if mode.tape is not None or not running.all():
            logits = F.where(running, logits, 0.0)
            if alignments is not None:
                alignments = np.where(running.swapaxes(0, 1), alignments, 0)
        ids = np.where(running[:, :, 0], logits.array.argmax(axis=2), 0).T
        return Decoded(logits.swapaxes(0, 1), ids, lengths, state, alignments)

    def _in_one_call(self, helper: Greedy, state: Any, steps: int) -> Decoded | None:
        """Greedy decoding by a kernel of its own; None if these layers have none."""
        found = fused.greedy(
            self.embedding, self.layers, self.head, state, helper.go, helper.eos, steps
        )
        if found is None:
            return None
        ids, logits, lengths, h, c = found
        helper.check_end(logits.shape[2])
        states = tuple((Tensor(a), Tensor(b)) for a, b in zip(h, c))
        last = states if isinstance(self.layers, Stacked) else states[0]
        return Decoded(Tensor(logits), ids, lengths, last, None)

    def _step_by_step(
        self, helper: Helper, ids: np.ndarray, carry: Carry, memory: Memory | None, steps: int
    ) -> Decoded:
        """One time step after the other, until all rows have ended."""
        if helper.follows:
            refuse_on_tape(f"decodes with {type(helper).__name__}, which reads what was said")
        running, lengths = np.ones(len(ids), bool), np.zeros(len(ids), np.int64)
        embed, layers = self.reading(steps * len(ids))
        embedded = None  # (N, E) of each step, where all inputs are known
        if not helper.follows and helper.inputs is not None:
            embedded = embed(prepared(np.transpose, helper.inputs)).unstack(0)
        states: list[Any] = []
        given: list[Tensor] = []  # logits (N, V) of each step, or what the head makes them of
        told: list[np.ndarray] = []  # ids (N,)
        shown: list[np.ndarray] = []  # alignments (N, S)
        for t in range(steps):
            x = embed(ids) if embedded is None else embedded[t]  # (N, E), or ids (N,)
            seen, carry, alignment = self.read(layers, x, carry, memory)
            states.append(carry.state)
            if alignment is not None:
                shown.append(alignment.array)
            lengths = lengths + running
            if helper.follows:
                seen = self.head(seen)
                if t == 0:
                    helper.check_end(seen.shape[1])
                ids = np.where(running, helper.say(seen.array), 0)
                told.append(ids)
            given.append(seen)
            running = running & ~helper.ended(t, ids)
            if t + 1 == steps or (mode.tape is None and not running.any()):
                break
            if helper.follows:
                ids = helper.following(t, ids, seen.array)
        outputs = F.stack(given)  # (T, N, V), or (T, N, A)
        logits = outputs if helper.follows else self.head(outputs)
        short = steps - len(given) if helper.inputs is not None else 0  # columns of padding alone
        if short:
            logits = F.pad(logits, ((0, short), (0, 0), (0, 0)))
        if not helper.follows and helper.lengths is not None:
            lengths = helper.lengths
        running = prepared(_running, len(logits), lengths)  # (T, N, 1)
        if mode.tape is not None or not running.all():
            logits = F.where(running, logits, 0.0)
        ids = _padded(np.stack(told), short) if told else logits.array.argmax(axis=2)
        alignments = None
        if shown:
            alignments = _padded(np.stack(shown), short)  # (T, N, S)
            alignments = np.where(running, alignments, 0).swapaxes(0, 1)
        state = map_state(lambda *parts: at_ends(F.stack(parts), lengths), *states)
        ids = np.where(running[:, :, 0], ids, 0).T
        return Decoded(logits.swapaxes(0, 1), ids, lengths, state, alignments)


def _running(steps: int, lengths: np.ndarray) -> np.ndarray:
    """Which sequences have not ended, (T, N, 1)."""
    return (np.arange(steps)[:, None] < lengths)[:, :, None]


def _padded(x: np.ndarray, short: int) -> np.ndarray:
    """x (T, N, ...) with ``short`` more steps of zeros."""
    return np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1))) if short else x


def batch_of(state: Any) -> int:
    """N of a state: a tensor (N, H), or a tuple of states.  Raises DTypeError."""
    while isinstance(state, (tuple, list)) and len(state):
        state = state[0]
    if not isinstance(state, Tensor) or state.ndim != 2:
        raise DTypeError(
            "Decoder: the state must be as layers.zero_state(N) gives it, tensors (N, H) in "
            f"tuples; got {type(state).__name__}"
        )
    return state.shape[0]

