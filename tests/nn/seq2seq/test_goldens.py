"""Encoder, decoder, attention, loss, greedy decoding and beam search against TensorFlow's."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import seq2seq

FOLDER = pathlib.Path(__file__).parents[2] / "goldens"
DECODE = {
    "plain": np.load(FOLDER / "seq2seq_decode.npz"),
    "luong": np.load(FOLDER / "seq2seq_attention_decode.npz"),
}
MAX_STEPS = {"plain": 20, "luong": 29}
TRAINING = np.load(FOLDER / "seq2seq.npz")


def _model(golden, where, dtype=np.float64):
    """The model of the document, with the golden's weights."""
    rng = np.random.default_rng(0)
    attends = f"{where}/memory_kernel" in golden

    def layers(inputs):
        return nn.Stacked([nn.LSTM(n, 50, time_major=True, generator=rng) for n in (inputs, 50)])

    encoder = seq2seq.Encoder(nn.Embedding(11, 30, generator=rng), layers(30))
    decoder = seq2seq.Decoder(
        nn.Embedding(11, 30, generator=rng), layers(80 if attends else 30),
        nn.Linear(50, 11, generator=rng),
        seq2seq.Luong(50, 50, generator=rng) if attends else None,
    )  # fmt: skip
    model = nn.ModuleList([encoder, decoder])
    if dtype == np.float64:
        model.double()
    for name, parameters in _by_name(encoder, decoder):
        parts = np.split(golden[f"{where}/{name}"], np.cumsum([len(p) for p in parameters])[:-1])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.data = part
    return encoder, decoder, model.parameters()


def _by_name(encoder, decoder):
    """TensorFlow's names, and the parameters that stand for each, from its first row on."""
    for side, part in (("enc", encoder), ("dec", decoder)):
        yield f"{side}_emb", [part.embedding.weight]
        for k, lstm in enumerate(part.layers.layers):
            yield f"{side}_cell{k}_kernel", [lstm.w_x, lstm.w_h]
            yield f"{side}_cell{k}_bias", [lstm.bias]
    yield "fc_kernel", [decoder.head.weight]
    yield "fc_bias", [decoder.head.bias]
    if decoder.attention is not None:
        yield "memory_kernel", [decoder.attention.w_memory]


def _close(ours, golden, key, rtol, atol=0.0):
    """Against the whole array, or its digest: every so many entries, and its 2-norm."""
    if f"{key}#slice" in golden:
        assert ours.shape == tuple(golden[f"{key}#shape"])
        assert np.linalg.norm(ours) == pytest.approx(float(golden[f"{key}#l2"]), rel=rtol)
        ours, theirs = ours.ravel()[:: golden[f"{key}#stride"]], golden[f"{key}#slice"]
    else:
        theirs = golden[key]
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=max(atol, rtol * scale), err_msg=key)


def _begun(encoder, decoder, x, lengths):
    outputs, state = encoder(x, lengths)
    return (state,) if decoder.attention is None else (state, outputs, lengths)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-4)])
@pytest.mark.parametrize("kind", DECODE)
def test_teacher_forcing(kind, dtype, rtol, kernel):
    """Loss, logits before the ends, alignments and every gradient."""
    golden = DECODE[kind]
    encoder, decoder, _ = _model(golden, "weights", dtype)
    x, y, y_lengths = golden["in/x"], golden["in/y"], golden["in/len_y"]
    with mg.kernels.use(kernel):
        teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs(y, 0), y_lengths)
        said = decoder(teacher, *_begun(encoder, decoder, x, golden["in/len_x"]))
        loss = seq2seq.sequence_loss(said.logits, y, y_lengths)
        loss.backward()
    assert loss.dtype == said.logits.dtype == dtype
    assert loss.item() == pytest.approx(float(golden["teacher_forced/loss"]), rel=rtol)
    real = np.arange(y.shape[1]) < y_lengths[:, None]
    logits = golden["teacher_forced/logits"]
    np.testing.assert_allclose(said.logits.numpy()[real], logits[real], rtol=rtol, atol=10 * rtol)
    assert not said.logits.numpy()[~real].any()
    if kind == "luong":
        alignments = golden["teacher_forced/alignments"].swapaxes(0, 1)
        np.testing.assert_allclose(said.alignments[real], alignments[real], rtol, atol=rtol)
    for name, parameters in _by_name(encoder, decoder):
        gradient = np.concatenate([p.grad.numpy() for p in parameters])
        _close(gradient, golden, f"teacher_forced/grad/{name}", rtol, 1e-7 if rtol > 1e-6 else 0)


@pytest.mark.parametrize("kind", DECODE)
def test_greedy_decoding(kind):
    """Ids, lengths, logits with zeros past the ends, alignments."""
    golden = DECODE[kind]
    encoder, decoder, _ = _model(golden, "weights")
    with mg.no_grad():
        begun = _begun(encoder, decoder, golden["in/x"], golden["in/len_x"])
        said = decoder(seq2seq.Greedy(0, 0), *begun, max_steps=MAX_STEPS[kind])
    np.testing.assert_array_equal(said.ids, golden["greedy/ids"])
    np.testing.assert_array_equal(said.lengths, golden["greedy/final_lengths"])
    np.testing.assert_allclose(said.logits.numpy(), golden["greedy/logits"], rtol=1e-9, atol=1e-9)
    if kind == "luong":
        real = np.arange(said.ids.shape[1]) < said.lengths[:, None]
        alignments = golden["greedy/alignments"].swapaxes(0, 1)
        np.testing.assert_allclose(said.alignments[real], alignments[real], rtol=1e-9, atol=1e-12)
        assert not said.alignments[~real].any()


@pytest.mark.parametrize("kind", DECODE)
def test_beam_search(kind):
    """Every step of the beam of TensorFlow's decoder, and what it finds."""
    golden = DECODE[kind]
    encoder, decoder, _ = _model(golden, "weights")
    begun = _begun(encoder, decoder, golden["in/x"], golden["in/len_x"])
    found = seq2seq.beam_search(
        decoder, *begun, go=0, eos=0, width=3, max_steps=MAX_STEPS[kind]
    )
    np.testing.assert_array_equal(found.tree.ids, golden["beam3/step_ids"])
    np.testing.assert_array_equal(found.tree.parents, golden["beam3/parents"])
    np.testing.assert_allclose(found.tree.scores, golden["beam3/scores"], rtol=1e-9)
    np.testing.assert_array_equal(found.ids, golden["beam3/ids"].swapaxes(1, 2))
    np.testing.assert_array_equal(found.lengths, golden["beam3/lengths"])
    np.testing.assert_allclose(found.log_probs, golden["beam3/log_probs"], rtol=1e-9)


def test_three_steps_of_training():
    """Final states, logits, cross-entropies, losses, gradients, and weights after Adam."""
    encoder, decoder, parameters = _model(TRAINING, "init")
    optimizer = optim.Adam(parameters)
    for step in (1, 2, 3):
        x, y, x_lengths, y_lengths = (
            TRAINING[f"in/{name}_step{step}"] for name in ("x", "y", "len_x", "len_y")
        )
        _, state = encoder(x, x_lengths)
        teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs(y, 0), y_lengths)
        logits = decoder(teacher, state).logits
        loss = seq2seq.sequence_loss(logits, y, y_lengths)
        optimizer.zero_grad()
        loss.backward()
        assert loss.item() == pytest.approx(TRAINING["loss"][step - 1], rel=1e-9)
        if step == 1:
            for k, (h, c) in enumerate(state):
                _close(h.numpy(), TRAINING, f"step1/enc_final_h{k}", 1e-9)
                _close(c.numpy(), TRAINING, f"step1/enc_final_c{k}", 1e-9)
            each = seq2seq.sequence_loss(logits, y, y_lengths, over_time=False, over_batch=False)
            real = np.arange(y.shape[1]) < y_lengths[:, None]
            theirs = np.where(real, TRAINING["step1/cross_entropy"], 0)
            np.testing.assert_allclose(each.numpy(), theirs, rtol=1e-9)
            for name, each in _by_name(encoder, decoder):
                gradient = np.concatenate([p.grad.numpy() for p in each])
                _close(gradient, TRAINING, f"grad1/{name}", 1e-9)
        optimizer.step()
    for name, each in _by_name(encoder, decoder):
        _close(np.concatenate([p.array for p in each]), TRAINING, f"after3/{name}", 1e-9)
