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


TUTORIAL = "TensorFlow tutorial: from basics to CNN and seq2seq (R. Chong, 2018)"
HELLO = "RNN in TensorFlow, part 1 (2018, after E. Hallström's Hello World RNN)"
PRIMER = "TensorFlow RNN primer (2017)"
NOTES = "TensorFlow notes (2018)"

MODELS = (
    Model(
        name="char_lm",
        document=TUTORIAL,
        learns="to continue a text character by character: an LSTM of 64 units, truncated "
        "back-propagation through 10 steps, clipping by global norm",
        expected="validation perplexity about 4.5 after 7001 steps (TensorFlow: 4.47, mean of "
        "three seeds)",
        time="17 to 20 s on two cores",
    ),
    Model(
        name="mnist_lstm",
        document=NOTES,
        learns="to name handwritten digits read row by row: 28 time steps, an LSTM of 128 units, "
        "the last output alone",
        expected="test accuracy about 92% on the packaged images, about 96% on all of MNIST "
        "(TensorFlow: 94.4%)",
        time="",
    ),
    Model(
        name="ptb_lm",
        document=PRIMER,
        learns="to predict the next of 10,000 words: two LSTMs of 200, dropout, clipping that acts",
        expected="test perplexity about 177 on PTB after 2 epochs (published: 176.8)",
        time="",
    ),
)
