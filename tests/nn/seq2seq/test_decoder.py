"""The decoder with each helper: what is read, when it ends, gradients, errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minigrad.nn import seq2seq
from minigrad.testing import gradcheck


def _teacher(batch):
    _, _, y, y_lengths = batch
    return seq2seq.TeacherForcing(seq2seq.decoder_inputs(y, 0), y_lengths)


def test_teacher_forcing_by_hand(small):
    """One row alone, one step after the other, from simple parts."""
    encoder, decoder = small.build("luong")
    batch = small.batch(1)
    x, x_lengths, y, y_lengths = batch
    said = decoder(_teacher(batch), *small.begun(encoder, decoder, x, x_lengths))
    for n in range(len(x)):
        outputs, state = encoder(x[n : n + 1, : x_lengths[n]])
        memory = outputs.numpy()[0]  # (S, H)
        keys = memory @ decoder.attention.w_memory.array
        seen, word = np.zeros(small.H), 0
        for t in range(y_lengths[n]):
            read = np.concatenate([decoder.embedding.weight.array[word], seen])
            output, state = decoder.layers(mg.Tensor(read[None, None]), state)
            scores = keys @ output.numpy()[0, 0]
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            seen = weights @ memory
            logits = seen @ decoder.head.weight.array + decoder.head.bias.array
            np.testing.assert_allclose(said.logits.numpy()[n, t], logits, rtol=1e-10)
            np.testing.assert_allclose(said.alignments[n, t, : len(memory)], weights, rtol=1e-10)
            assert said.ids[n, t] == logits.argmax()
            word = y[n, t]
        for (h, c), (h_, c_) in zip(said.state, state, strict=True):
            np.testing.assert_allclose(h.numpy()[n], h_.numpy()[0], rtol=1e-10)
            np.testing.assert_allclose(c.numpy()[n], c_.numpy()[0], rtol=1e-10)


def test_all_steps_at_once_equal_one_by_one(pair, small):
    """ScheduledSampling that never samples steps; TeacherForcing without feedback does not."""
    encoder, decoder = pair
    batch = small.batch(2)
    results = []
    for kind in ("teacher", "scheduled"):
        helper = _teacher(batch)
        if kind == "scheduled":
            helper = seq2seq.ScheduledSampling(
                helper.inputs, helper.lengths, probability=0, generator=np.random.default_rng(0)
            )
        for module in (encoder, decoder):
            module.zero_grad()
        said = decoder(helper, *small.begun(encoder, decoder, *batch[:2]))
        parts = [h for state in said.state for h in (state if type(state) is tuple else [state])]
        (said.logits * said.logits).sum().backward()
        grads = [p.grad for module in pair for p in module.parameters()]
        assert said.ids.shape == batch[2].shape
        np.testing.assert_array_equal(said.lengths, batch[3])
        results.append([said.logits, said.ids, *parts, *grads, said.alignments])
    if results[0][-1] is None:
        results = [each[:-1] for each in results]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-12)


def test_gradients(pair, small):
    """Central differences through encoder, attention, feedback and loss."""
    encoder, decoder = pair
    batch = small.batch(3, n=3, s=4, t=3)
    x, x_lengths, y, y_lengths = batch
    parameters = [p for module in pair for p in module.parameters()]
    values = [p.array.copy() for p in parameters]

    def loss(*tensors):
        places = [(m, key) for module in pair for m in module.modules() for key in vars(m)
                  if isinstance(vars(m)[key], nn.Parameter)]  # fmt: skip
        kept = [(m, key, vars(m)[key]) for m, key in places]
        for tensor, parameter in zip(tensors, parameters, strict=True):
            for m, key, old in kept:
                if old is parameter:
                    setattr(m, key, tensor)
        try:
            said = decoder(_teacher(batch), *small.begun(encoder, decoder, x, x_lengths))
            return seq2seq.sequence_loss(said.logits, y, y_lengths)
        finally:
            for m, key, old in kept:
                setattr(m, key, old)

    gradcheck(loss, values)


def test_scheduled_sampling_reads_its_own_ids(small):
    """With probability 1 and sharp logits what is read is what was said: greedy decoding."""
    encoder, decoder = small.build("luong")
    decoder.head.weight.data = 1e4 * decoder.head.weight.array
    x, lengths, y, _ = small.batch(4)
    begun = small.begun(encoder, decoder, x, lengths)
    helper = seq2seq.ScheduledSampling(
        seq2seq.decoder_inputs(y, 0), probability=1, generator=np.random.default_rng(0)
    )
    own = decoder(helper, *begun)
    with mg.no_grad():
        greedy = decoder(seq2seq.Greedy(0, 6), *begun, max_steps=y.shape[1])
    for n, end in enumerate(greedy.lengths):
        np.testing.assert_array_equal(own.ids[n, :end], greedy.ids[n, :end])
    assert own.logits.requires_grad


def test_scheduled_sampling_tosses_a_coin_for_each_row_and_step():
    rng = np.random.default_rng(0)
    inputs = np.full((400, 30), 5)
    helper = seq2seq.ScheduledSampling(inputs, probability=0.25, generator=rng)
    logits = np.zeros((400, 6))
    logits[:, :5] = -np.log(2)  # an id other than 5 with probability 5/7
    own = np.stack([helper.following(t, inputs[:, 0], logits) != 5 for t in range(29)])
    assert own.mean() == pytest.approx(0.25 * 5 / 7, abs=0.01)
    assert own.mean(axis=0).std() < 0.15 and own.mean(axis=1).std() < 0.04


@pytest.mark.parametrize("kind", ["plain", "luong", "scaled"])
def test_greedy_ends_and_pads(small, kind):
    """Each row as if it were alone; zeros, and the state of its end, behind its EOS."""
    encoder, decoder = small.build(kind)
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        parameter.data = 3 * parameter.array  # answers of all kinds
    x, lengths, _, _ = small.batch(5, n=12)
    with mg.no_grad():
        begun = small.begun(encoder, decoder, x, lengths)
        eos = max(range(small.V), key=lambda eos: len(set(
            decoder(seq2seq.Greedy(2, eos), *begun, max_steps=9).lengths
        )))  # fmt: skip
        greedy = seq2seq.Greedy(go=2, eos=eos)
        said = decoder(greedy, *begun, max_steps=9)
        assert len(set(said.lengths)) > 1
        assert said.ids.shape[1] == said.lengths.max()
        for n in range(12):
            row = slice(n, n + 1)
            begun = small.begun(encoder, decoder, x[row, : lengths[n]], lengths[row])
            alone = decoder(greedy, *begun, max_steps=9)
            end = alone.lengths[0]
            assert said.lengths[n] == end and (said.ids[n, end - 1] == eos or end == 9)
            np.testing.assert_array_equal(said.ids[n, :end], alone.ids[0])
            np.testing.assert_allclose(said.logits.numpy()[n, :end], alone.logits.numpy()[0])
            assert not said.ids[n, end:].any() and not said.logits.numpy()[n, end:].any()
            for (h, c), (h_, c_) in zip(said.state, alone.state, strict=True):
                np.testing.assert_allclose(h.numpy()[n], h_.numpy()[0])
                np.testing.assert_allclose(c.numpy()[n], c_.numpy()[0])


def test_max_steps_is_kept_to(small):
    encoder, decoder = small.build()
    x, lengths, _, _ = small.batch(5)
    for steps in (1, 4):
        with mg.no_grad():
            said = decoder(seq2seq.Greedy(0, 6), *encoder(x, lengths)[1:], max_steps=steps)
        assert said.ids.shape[1] <= steps and said.lengths.max() <= steps


def test_sampling_temperature_and_top_k():
    rng = np.random.default_rng(0)
    logits = np.log(np.tile([[0.1, 0.2, 0.3, 0.4]], (40_000, 1)))

    def shares(**options):
        helper = seq2seq.Sampling(0, 1, generator=rng, **options)
        return np.bincount(helper.say(logits), minlength=4) / len(logits)

    np.testing.assert_allclose(shares(), [0.1, 0.2, 0.3, 0.4], atol=0.01)
    cold = np.array([0.01, 0.04, 0.09, 0.16]) / 0.3
    np.testing.assert_allclose(shares(temperature=0.5), cold, atol=0.01)
    np.testing.assert_allclose(shares(top_k=2), [0, 0, 3 / 7, 4 / 7], atol=0.01)
    np.testing.assert_array_equal(shares(top_k=1), [0, 0, 0, 1])
    np.testing.assert_allclose(shares(top_k=9), [0.1, 0.2, 0.3, 0.4], atol=0.01)
    tied = seq2seq.Sampling(0, 1, top_k=2, generator=rng).say(np.zeros((1000, 4)))
    assert set(tied) == {0, 1}  # of equal ones the first
    far = np.array([[0.0, -2000.0, 3000.0]])
    assert seq2seq.Sampling(0, 1, generator=rng).say(far)[0] == 2
    again = [seq2seq.Sampling(0, 1, generator=np.random.default_rng(3)).say(logits) for _ in "ab"]
    np.testing.assert_array_equal(*again)


def test_sampling_with_top_k_1_is_greedy(small):
    encoder, decoder = small.build("luong")
    x, lengths, _, _ = small.batch(6)
    with mg.no_grad():
        begun = small.begun(encoder, decoder, x, lengths)
        rng = np.random.default_rng(0)
        sampled = decoder(seq2seq.Sampling(0, 1, top_k=1, generator=rng), *begun, max_steps=7)
        greedy = decoder(seq2seq.Greedy(0, 1), *begun, max_steps=7)
    np.testing.assert_array_equal(sampled.ids, greedy.ids)


def test_dtypes(small):
    for dtype in (np.float32, np.float64):
        encoder, decoder = small.build("scaled")
        if dtype == np.float32:
            encoder.float(), decoder.float()
        batch = small.batch(0)
        said = decoder(_teacher(batch), *small.begun(encoder, decoder, *batch[:2]))
        loss = seq2seq.sequence_loss(said.logits, *batch[2:])
        loss.backward()
        assert said.logits.dtype == loss.dtype == said.alignments.dtype == dtype
        assert all(p.grad.dtype == dtype for p in decoder.parameters())
        assert said.ids.dtype == said.lengths.dtype == np.int64


# -- errors -------------------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    table, head = nn.Embedding(7, 4, generator=rng), nn.Linear(5, 7, generator=rng)

    def lstm(inputs):
        return nn.LSTM(inputs, 5, generator=rng)

    luong, other = seq2seq.Luong(5, 5, generator=rng), seq2seq.Luong(6, 5, generator=rng)
    Decoder, Encoder = seq2seq.Decoder, seq2seq.Encoder
    both = nn.Bidirectional(lstm(4), lstm(4), merge=None)
    wide = lstm(9)
    for error, words, make in [
        (ShapeError, ["size 5", "vectors of 4"], lambda: Encoder(table, lstm(5))),
        (DTypeError, ["nn.Embedding", "Linear"], lambda: Encoder(head, lstm(4))),
        (DTypeError, ["nn.LSTM"], lambda: Encoder(table, head)),
        (ShapeError, ["pair", "merge"], lambda: Encoder(table, both)),
        (ShapeError, ["size 5", "4 of the embedding"], lambda: Decoder(table, lstm(5), head)),
        (ShapeError, ["4 of the embedding and 5 fed back"],
         lambda: Decoder(table, lstm(4), head, luong)),
        (ShapeError, ["size 9"], lambda: Decoder(table, wide, head, luong, input_feeding=False)),
        (ShapeError, ["put out 5", "queries of 6"], lambda: Decoder(table, wide, head, other)),
        (DTypeError, ["Luong(...)"], lambda: Decoder(table, wide, head, seq2seq.Luong)),
        (ArgumentError, ["mix"], lambda: Decoder(table, lstm(4), head, mix=head)),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            make()
        assert all(word in str(caught.value) for word in words), caught.value


def test_calls_that_make_no_sense_are_refused(small):
    encoder, decoder = small.build()
    attentive = small.build("luong")[1]
    x, lengths, y, _ = small.batch(0)
    outputs, state = encoder(x, lengths)
    greedy, teacher = seq2seq.Greedy(0, 1), seq2seq.TeacherForcing(y)
    of_two = nn.detach(encoder(x[:2], lengths[:2])[1])
    unknown = seq2seq.TeacherForcing(y + 100)
    for error, words, call in [
        (ArgumentError, ["max_steps"], lambda: decoder(greedy, state)),
        (ArgumentError, ["max_steps"], lambda: decoder(greedy, state, max_steps=0)),
        (ArgumentError, ["T=5", "max_steps is 2"], lambda: decoder(teacher, state, max_steps=2)),
        (ArgumentError, ["zero_state"], lambda: decoder(teacher, None)),
        (ArgumentError, ["no attention"], lambda: decoder(teacher, state, outputs)),
        (ArgumentError, ["needs a memory"], lambda: attentive(teacher, state)),
        (ShapeError, ["batch 4", "state 2"], lambda: decoder(teacher, of_two)),
        (ShapeError, ["batch 4", "state 2"], lambda: attentive(teacher, of_two, outputs)),
        (DTypeError, ["helper", "TeacherForcing"], lambda: decoder(y, state)),
        (DTypeError, ["the class Greedy"], lambda: decoder(seq2seq.Greedy, state)),
        (DTypeError, ["zero_state"], lambda: decoder(teacher, 3)),
        (IndexRangeError, ["go", "7"], lambda: decoder(seq2seq.Greedy(7, 1), state, max_steps=3)),
        (IndexRangeError, ["eos", "7"], lambda: decoder(seq2seq.Greedy(0, 7), state, max_steps=3)),
        (IndexRangeError, ["7 rows"], lambda: decoder(unknown, state)),
        (ShapeError, ["lengths"], lambda: encoder(x, lengths[:2])),
        (ArgumentError, ["[1, T=6]", "lengths[0] is 0"], lambda: encoder(x, 0 * lengths)),
        (ArgumentError, ["lengths[0] is 7"], lambda: encoder(x, lengths + 1)),
        (DTypeError, ["integers"], lambda: encoder(x, lengths.astype(float))),
        (DTypeError, ["integer ids"], lambda: encoder(x.astype(float))),
        (ShapeError, ["(N, T)"], lambda: encoder(x[0])),
        (ShapeError, ["(N, T)"], lambda: encoder(x[:, :0])),
        (ArgumentError, ["memory lengths"],
         lambda: attentive(teacher, state, outputs, 0 * lengths)),
        (ShapeError, ["M=5"], lambda: attentive(teacher, state, outputs[:, :, :3])),
        (DTypeError, ["memory must be a tensor"], lambda: attentive(teacher, state, x)),
        (DTypeError, ["float32"], lambda: attentive(teacher, state, outputs.astype(np.float32))),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value


def test_helpers_refuse_bad_arguments():
    rng = np.random.default_rng(0)
    Teacher, Greedy, Sampling = seq2seq.TeacherForcing, seq2seq.Greedy, seq2seq.Sampling
    y = np.zeros((2, 3), int)
    for error, word, make in [
        (ShapeError, "inputs", lambda: Teacher(y[0])),
        (DTypeError, "integer", lambda: Teacher(y + 0.5)),
        (ArgumentError, "[1, T=3]", lambda: Teacher(y, [0, 1])),
        (ArgumentError, "its EOS alone", lambda: Teacher(y, [4, 1])),
        (ArgumentError, "probability", lambda: seq2seq.ScheduledSampling(
            y, probability=1.1, generator=rng)),
        (ArgumentError, "default_rng", lambda: seq2seq.ScheduledSampling(
            y, probability=0.1, generator=3)),
        (DTypeError, "eos", lambda: Greedy(0, 1.0)),
        (DTypeError, "go", lambda: Greedy([0], 1)),
        (ArgumentError, "negative", lambda: Greedy(-1, 1)),
        (ArgumentError, "Greedy", lambda: Sampling(0, 1, temperature=0, generator=rng)),
        (ArgumentError, "temperature", lambda: Sampling(0, 1, temperature=np.nan, generator=rng)),
        (ArgumentError, "top_k", lambda: Sampling(0, 1, top_k=0, generator=rng)),
        (DTypeError, "top_k", lambda: Sampling(0, 1, top_k=1.5, generator=rng)),
        (ArgumentError, "default_rng", lambda: Sampling(0, 1, generator=None)),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            make()
        assert word in str(caught.value), caught.value


# -- the short cuts -----------------------------------------------------------------------------


def test_greedy_in_one_call_is_greedy_step_by_step(pair, small):
    """Under no_grad LSTMs have a kernel for it; where a graph is recorded nobody has."""
    encoder, decoder = pair
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        parameter.data = 2 * parameter.array
    x, lengths, _, _ = small.batch(12, n=40)
    begun = small.begun(encoder, decoder, x, lengths)
    for kernel in ("numba", "numpy"):
        with mg.kernels.use(kernel):
            slow = decoder(seq2seq.Greedy(2, 3), *begun, max_steps=6)
            with mg.no_grad():
                fast = decoder(seq2seq.Greedy(2, 3), *begun, max_steps=6)
        np.testing.assert_array_equal(fast.ids, slow.ids)
        np.testing.assert_array_equal(fast.lengths, slow.lengths)
        np.testing.assert_allclose(fast.logits.numpy(), slow.logits.numpy(), rtol=1e-9, atol=1e-12)
        for a, b in zip(fast.state, slow.state, strict=True):
            for x_, y_ in zip(*(s if type(s) is tuple else (s,) for s in (a, b)), strict=True):
                np.testing.assert_allclose(x_.numpy(), y_.numpy(), rtol=1e-9, atol=1e-12)
        assert slow.logits.requires_grad and not fast.logits.requires_grad


def test_it_is_one_call(small, monkeypatch):
    """Plain LSTMs do not take single steps under no_grad; with attention they have to."""
    def read(*args):
        raise AssertionError("a single step was taken")

    for kind, steps in {"plain": False, "luong": True}.items():
        encoder, decoder = small.build(kind)
        x, lengths, _, _ = small.batch(0)
        begun = small.begun(encoder, decoder, x, lengths)
        monkeypatch.setattr(seq2seq.Decoder, "read", read)
        with mg.no_grad():
            if steps:
                with pytest.raises(AssertionError, match="single step"):
                    decoder(seq2seq.Greedy(0, 1), *begun, max_steps=3)
            else:
                decoder(seq2seq.Greedy(0, 1), *begun, max_steps=3)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
def test_many_rows_sorted_and_put_back(small, kernel):
    """70 sequences, layers against cells with the same weights: outputs, states, gradients."""
    layered, celled = small.build(), small.build(cells=True)
    for ours, theirs in zip(layered, celled, strict=True):
        theirs.load_state_dict(ours.state_dict())
    batch = small.batch(13, n=70, s=9, t=8)
    results = []
    for encoder, decoder in (layered, celled):
        with mg.kernels.use(kernel):
            outputs, state = encoder(*batch[:2])
            said = decoder(_teacher(batch), state)
            loss = seq2seq.sequence_loss(said.logits, *batch[2:])
            (loss + (outputs * outputs).mean() + said.state[0][1].mean()).backward()
        parts = [part for pair in (*state, *said.state) for part in pair]
        grads = [p.grad for module in (encoder, decoder) for p in module.parameters()]
        results.append([outputs, *parts, said.logits, loss, *grads])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-13)


def test_the_order_of_rows():
    """Each block of 32 falls from long to short, and all blocks are alike."""
    from minigrad.kernels import loops
    from minigrad.nn.seq2seq.encoder import long_first

    lengths = np.random.default_rng(0).integers(1, 50, 100)
    order = long_first(lengths)
    assert sorted(order) == list(range(100)) and loops.BLOCK == 32
    blocks = np.split(lengths[order], [25, 50, 75])
    assert all((np.diff(block) <= 0).all() for block in blocks)
    assert np.ptp([block.mean() for block in blocks]) < 1.5
