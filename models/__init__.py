"""The models of the tutorials, one file each: ``python -m models`` lists them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """One line of the table: what a model is, and what to expect of it."""

    name: str  # of the module in this folder
    document: str  # where it comes from
    learns: str
    expected: str  # the document's metric after a run with the default arguments
    time: str  # of training alone, as metrics.json gives it


MODELS = (
    Model(
        name="char_lm",
        document="TensorFlow tutorial: from basics to CNN and seq2seq (R. Chong, 2018)",
        learns="to continue a text character by character: an LSTM of 64 units, truncated "
        "back-propagation through 10 steps, clipping by global norm",
        expected="validation perplexity about 4.5 after 7001 steps (TensorFlow: 4.47, mean of "
        "three seeds)",
        time="17 to 20 s on two cores",
    ),
)
