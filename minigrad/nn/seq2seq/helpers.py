"""Helpers tell a decoder what to read next.

    TeacherForcing      the right ids, whatever the decoder says: for training
    ScheduledSampling   the right ids, or at times what the decoder would have said
    Greedy              the likeliest id of the step before
    Sampling            an id drawn from the step before, with temperature and top-k

One helper is one batch.  Of its own ids a decoder never sees a gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...prepared import prepared
from .tokens import known_token, real_ids, token


class Helper:
    """Base of the helpers, and the protocol between them and a decoder.

    inputs, lengths: the ids (N, T) that are known beforehand, and how many of each row are real;
    None where the decoder has to find both out.
    follows: whether what is read depends on what was said, so that steps must be taken one by
    one.
    """

    follows = True
    inputs: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def first(self, batch: int) -> np.ndarray:
        """Ids (N,) to begin with.  Raises ShapeError if this is another batch."""
        assert self.inputs is not None
        if len(self.inputs) != batch:
            raise ShapeError(
                f"{type(self).__name__}: the inputs have batch {len(self.inputs)}, but the state "
                f"{batch}"
            )
        return self.inputs[:, 0]

    def check(self, known: int) -> None:
        """Raise IndexRangeError if what is read first has none of ``known`` embeddings."""

    def check_end(self, vocabulary: int) -> None:
        """Raise IndexRangeError if what ends a sequence has none of so many logits."""

    def say(self, logits: np.ndarray) -> np.ndarray:
        """The ids (N,) that are the output of a step with logits (N, V): here the likeliest."""
        return logits.argmax(axis=1)

    def following(self, t: int, said: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Ids (N,) to read at step t + 1, after ``said`` (N,) at step t."""
        assert self.inputs is not None
        return self.inputs[:, t + 1]

    def ended(self, t: int, said: np.ndarray) -> np.ndarray:
        """Which sequences have ended with step t, (N,) bool."""
        assert self.lengths is not None
        return t + 1 >= self.lengths


class TeacherForcing(Helper):
    """The decoder reads the right ids.

    inputs: (N, T) ids, as :func:`decoder_inputs` makes them of the targets; lengths: (N,) in
    [1, T], of the targets with their EOS, all T if None.
    Raises ShapeError, DTypeError, ArgumentError.

    >>> from minigrad.nn import seq2seq
    >>> targets = [[4, 5, 2], [6, 2, 0]]
    >>> seq2seq.TeacherForcing(seq2seq.decoder_inputs(targets, go=1), [3, 2]).inputs.tolist()
    [[1, 4, 5], [1, 6, 0]]
    """

    follows = False

    def __init__(self, inputs: Any, lengths: Any = None) -> None:
        kind = type(self).__name__
        self.inputs, self.lengths = prepared(real_ids, kind, "inputs", inputs, lengths)


class ScheduledSampling(TeacherForcing):
    """The decoder reads the right ids, or with some probability one drawn from its own logits
    (Bengio, Vinyals, Jaitly and Shazeer 2015).

    inputs, lengths: as for TeacherForcing.  probability: of its own id, in [0, 1], for each row
    and step anew; it is raised as training goes on.  generator: of the tosses and draws.
    Raises ShapeError, DTypeError, ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad.nn import seq2seq
    >>> rng = mg.manual_seed(0)
    >>> helper = seq2seq.ScheduledSampling([[1, 4, 5]], probability=0.3, generator=rng)
    >>> helper.follows
    True
    """

    follows = True

    def __init__(
        self, inputs: Any, lengths: Any = None, *, probability: float,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        super().__init__(inputs, lengths)
        if not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise ArgumentError(
                f"ScheduledSampling: probability must be in [0, 1], got {probability!r}"
            )
        self.probability = probability
        self.generator = _generator("ScheduledSampling", generator)

    def following(self, t: int, said: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The right ids (N,) of step t + 1, some of them replaced."""
        assert self.inputs is not None
        own = self.generator.random(len(said)) < self.probability
        return np.where(own, draw(logits, self.generator), self.inputs[:, t + 1])


class Greedy(Helper):
    """The decoder reads the likeliest id of the step before (of equal ones the smallest).

    go: the id it reads first; eos: the id that ends a sequence.
    Raises DTypeError, ArgumentError.

    >>> from minigrad.nn import seq2seq
    >>> helper = seq2seq.Greedy(go=1, eos=2)
    >>> helper.first(3).tolist()
    [1, 1, 1]
    """

    def __init__(self, go: int, eos: int) -> None:
        self.go = token(type(self).__name__, "go", go)
        self.eos = token(type(self).__name__, "eos", eos)

    def first(self, batch: int) -> np.ndarray:
        """GO for all, (N,)."""
        return np.full(batch, self.go)

    def check(self, known: int) -> None:
        """Raise IndexRangeError if GO has none of ``known`` embeddings."""
        known_token(type(self).__name__, "go", self.go, known, "the decoder's embedding")

    def check_end(self, vocabulary: int) -> None:
        """Raise IndexRangeError if there are no logits for EOS: nothing would ever end."""
        known_token(type(self).__name__, "eos", self.eos, vocabulary, "the logits' last axis")

    def following(self, t: int, said: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """What was said, (N,)."""
        return said

    def ended(self, t: int, said: np.ndarray) -> np.ndarray:
        """Which sequences said EOS, (N,) bool."""
        return said == self.eos


class Sampling(Greedy):
    """The decoder reads an id drawn from the logits of the step before.

    go, eos: as for Greedy.  temperature: the logits are divided by it: below 1 the likely ids
    become likelier still, above 1 all more alike.  top_k: only so many of the likeliest are
    drawn from; all if None, and 1 is greedy.
    Raises DTypeError, ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad.nn import seq2seq
    >>> helper = seq2seq.Sampling(1, 2, temperature=0.5, generator=mg.manual_seed(0))
    >>> helper.first(2).tolist()
    [1, 1]
    """

    def __init__(
        self, go: int, eos: int, temperature: float = 1.0, top_k: int | None = None, *,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        super().__init__(go, eos)
        if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
            raise ArgumentError(
                f"Sampling: temperature must be positive and finite, got {temperature!r}; for "
                "the likeliest id use Greedy"
            )
        if top_k is not None and token("Sampling", "top_k", top_k) < 1:
            raise ArgumentError(f"Sampling: top_k must be at least 1 or None, got {top_k}")
        self.temperature = temperature
        self.top_k = top_k
        self.generator = _generator("Sampling", generator)

    def say(self, logits: np.ndarray) -> np.ndarray:
        """Ids (N,) drawn from logits (N, V)."""
        return draw(logits, self.generator, self.temperature, self.top_k)


def draw(
    logits: np.ndarray, generator: np.random.Generator, temperature: float = 1.0,
    top_k: int | None = None,
) -> np.ndarray:  # fmt: skip
    """An id for each row of logits (N, V), with the probabilities of its softmax.  (N,) int64.

    temperature, top_k: as for Sampling; of equal logits at the edge of the top the ones with
    smaller ids are in it.
    """
    scores = logits.astype(np.float64) / temperature
    if top_k is not None and top_k < scores.shape[1]:
        out = np.argsort(-scores, axis=1, kind="stable")[:, top_k:]
        np.put_along_axis(scores, out, -np.inf, axis=1)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    edges = weights.cumsum(axis=1)
    spot = generator.random((len(edges), 1)) * edges[:, -1:]  # in [0, total)
    return (edges <= spot).sum(axis=1)


def _generator(kind: str, generator: Any) -> np.random.Generator:
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError(f"{kind}: pass generator=np.random.default_rng(seed)")
    return generator


def check_helper(helper: Any) -> None:
    """Raise DTypeError unless ``helper`` is one."""
    if not isinstance(helper, Helper):
        got = f"the class {helper.__name__}" if isinstance(helper, type) else repr(helper)
        raise DTypeError(
            "Decoder: what to read next is told by a helper, such as TeacherForcing(inputs, "
            f"lengths) or Greedy(go, eos), got {got}"
        )
