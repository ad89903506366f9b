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
        name="numpy_forward",
        document=PRIMER,
        learns="two steps of an RNN by hand, forward and back through time; nothing is trained",
        expected="last output 2.727, as the document prints",
        time="under 1 s",
    ),
    Model(
        name="echo_rnn",
        document=HELLO,
        learns="to repeat the bit of three steps ago: an RNN of 4 units, truncated "
        "back-propagation through windows of 15",
        expected="every bit of a fresh series after 66,600 steps (last epoch's loss 0.0003; "
        "TensorFlow 0.00038)",
        time="25 to 50 s on two cores",
    ),
    Model(
        name="sine_to_cosine",
        document=NOTES,
        learns="the cosine from the sine: an RNN of 32, the state carried between windows",
        expected="RMSE 0.05 to 0.74 over the last 10 of 60 windows, by seed (seed 0: 0.32)",
        time="under 1 s",
    ),
    Model(
        name="sine_lstm",
        document=PRIMER,
        learns="the next point of a sine: two LSTMs of 30, ten points fed as one step (as written) "
        "and as ten",
        expected="test RMSE 0.0067 and 0.0198 at seed 0 (seeds: 0.006 to 0.010, 0.019 to 0.023; "
        "TensorFlow 0.0071 and 0.0213, one run each)",
        time="9 to 10 s for both",
    ),
    Model(
        name="mnist_lstm",
        document=NOTES,
        learns="to name handwritten digits read row by row: 28 time steps, an LSTM of 128 units, "
        "the last output alone",
        expected="test accuracy about 92% on the packaged images, about 96% on all of MNIST "
        "(TensorFlow: 94.4%)",
        time="25 to 35 s on two cores",
    ),
    Model(
        name="ptb_lm",
        document=PRIMER,
        learns="to predict the next of 10,000 words: two LSTMs of 200, dropout, clipping that acts",
        expected="perplexity on PTB after 2 epochs: validation 186, test 182 (TensorFlow: 183, "
        "178; published: 181, 177)",
        time="11 minutes on one thread of a busy machine",
    ),
    Model(
        name="deep_bidirectional",
        document=PRIMER,
        learns="which of twelve letters occur only once: one direction against both, one layer "
        "against two, with and without dropout",
        expected="accuracy on fresh sequences about 98.5% (both directions, two layers, dropout); "
        "one direction about 70%, and at best 77.4%",
        time="20 to 30 s on two cores",
    ),
    Model(
        name="vanishing",
        document="On the difficulty of training recurrent neural networks (Pascanu, Mikolov and "
        "Bengio, 2013)",
        learns="to recall the first of 60 symbols: gradients vanish, explode or arrive, side by "
        "side in plain RNNs, a GRU and an LSTM",
        expected="the RNN with gain 0.9 guesses (13%), that with 1.5 names 91 to 100% if clipped",
        time="15 to 20 s on two cores",
    ),
    Model(
        name="linear_regression",
        document=TUTORIAL,
        learns="a straight line from noisy points, one point a step: k and b, gradient descent "
        "with rate 0.5",
        expected="k = 3 and b = -1 to 0.005 after 100 steps (thirty seeds: to 0.013 or better)",
        time="under 1 s",
    ),
    Model(
        name="curve_regression",
        document=NOTES,
        learns="a parabola out of ten bent lines: 1-10-1, relu, all 300 points at every step",
        expected="squared error 0.0028 after 1,000 steps (twelve seeds: 0.0023 to 0.0078; the "
        "noise alone: 0.0025)",
        time="under 1 s",
    ),
    Model(
        name="iris_softmax",
        document=PRIMER,
        learns="three kinds of iris, from 40 starts at a time: with softmax taken twice, as "
        "written, and once",
        expected="test accuracy 97% to 100% with one softmax (TensorFlow: 100%, one seed); with "
        "two, 12 of 40 starts fail",
        time="5 to 10 s for both",
    ),
    Model(
        name="mnist_softmax",
        document=NOTES,
        learns="to name handwritten digits with one layer, 784-10: from normal weights and from "
        "zeros, with log(softmax) as written and without",
        expected="test accuracy on all of MNIST 87.6% from normal weights (ten seeds: mean 87.7%; "
        "TensorFlow: 87.8%), 92.0% from zeros; on the packaged images 86.1% and 91.4%",
        time="5 to 10 s for all three",
    ),
    Model(
        name="digits_dropout",
        document=NOTES,
        learns="to name small digits, 64-50-10 tanh: without dropout, with the document's, and "
        "with the best setting",
        expected="test accuracy 85.9%, 92.4% and 95.9% (ten seeds, means: 85.7%, 91.4%, 95.9%)",
        time="5 to 10 s for all three",
    ),
    Model(
        name="mnist_cnn",
        document=TUTORIAL + "; " + NOTES,
        learns="to name handwritten digits: two convolutions of 5 x 5 with pooling, a dense layer "
        "of 1024 with dropout; relu on the logits and log(softmax) as written, and without",
        expected="test accuracy on all of MNIST 97.6% after 2,000 steps of the corrected variant "
        "(TensorFlow: 97.35%, one seed); the tutorial's 20,000 steps: --steps 20000",
        time="about 2 minutes on two cores",
    ),
    Model(
        name="seq2seq_odds",
        document=TUTORIAL,
        learns="to delete the odd numbers of a sequence: two LSTMs of 50 read, two write; teacher "
        "forcing, masked loss, greedy decoding, beam search and sampling",
        expected="exact match on 1,000 fresh sequences 88% after 5,001 steps (85.8, 90.4 and 87.9% "
        "with seeds 0 to 2; TensorFlow: 87%, one seed)",
        time="6 to 11 minutes on a busy machine (20 ms a step)",
    ),
    Model(
        name="attention_copy",
        document=TUTORIAL,
        learns="to delete the odd numbers and write the rest twice: from one state alone, and with "
        "attention (Luong or Bahdanau, input feeding)",
        expected="exact match 100% with attention, 64% without (seed 0; TensorFlow: 100% and 70%, "
        "one seed each)",
        time="50 minutes on one thread of a very busy machine, both together",
    ),
    Model(
        name="date_formats",
        document="none: a task of our own, after the same tutorial's sections on seq2seq",
        learns="to rewrite dates, Nov 21, 2026 as 2026-11-21: LSTMs of 96, Luong attention, "
        "buckets by length, beam search, a prompt",
        expected="exact match above 99% (98% is asked for) on days never seen",
        time="2 minutes on a busy machine",
    ),
)
