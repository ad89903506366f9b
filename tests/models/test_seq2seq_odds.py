"""seq2seq_odds and attention_copy: their data, their weights, their gates, their programs."""

import json

import numpy as np
import pytest

from minigrad import optim
from minigrad.nn import seq2seq
from models import _odds, attention_copy, seq2seq_odds


@pytest.mark.parametrize("copies", [1, 2])
def test_samples(copies):
    """Counts and numbers in their ranges, shuffled; the answer is the even ones and EOS."""
    batch = _odds.samples(3000, np.random.default_rng(0), copies)
    counts, firsts = [], []
    for x, n, y, m in zip(*(batch.x, batch.x_lengths, batch.y, batch.y_lengths), strict=True):
        numbers = x[:n].tolist()
        evens = [i for i in numbers if i % 2 == 0]
        assert 1 <= min(numbers) and max(numbers) <= 10
        assert not x[n:].any() and y[m - 1 :].tolist() == [0] * (len(y) - m + 1)
        assert y[: m - 1].tolist() == copies * evens
        counts.append((len(evens), n - len(evens)))
        firsts.append(numbers[0] % 2)
    for each in np.transpose(counts):
        np.testing.assert_array_equal(np.unique(each), np.arange(1, 12))
        assert each.mean() == pytest.approx(6, abs=0.2)
    assert np.mean(firsts) == pytest.approx(0.5, abs=0.05)
    assert set(batch.x[batch.x > 0]) == set(range(1, 11))
    assert batch.x.shape[1] == batch.x_lengths.max() and batch.y.shape[1] == batch.y_lengths.max()


def test_samples_of_one_seed_are_equal_and_new_each_time():
    rng = np.random.default_rng(3)
    first, second = _odds.samples(5, rng), _odds.samples(5, rng)
    again = _odds.samples(5, np.random.default_rng(3))
    np.testing.assert_array_equal(first.x, again.x)
    assert first.x.shape != second.x.shape or (first.x != second.x).any()


def test_right_is_exact():
    y = np.array([[2, 4, 0, 0], [6, 0, 0, 0], [8, 8, 8, 0]])
    batch = _odds.Batch(y, np.array([2, 1, 3]), y, np.array([3, 2, 4]))
    assert _odds.right(y, batch).all()
    assert _odds.right(np.pad(y, ((0, 0), (0, 3))), batch).all()
    assert _odds.right(y[:, :3], batch).tolist() == [True, True, False]  # no EOS was said
    wrong = y.copy()
    wrong[0, 1], wrong[1, 1] = 2, 6
    assert _odds.right(wrong, batch).tolist() == [False, False, True]
    later = np.array([[2, 4, 0, 9], [6, 0, 1, 1], [8, 8, 8, 0]])  # behind EOS nothing counts
    assert _odds.right(later, batch).all()


def test_the_model_is_the_documents():
    model = _odds.Seq2Seq(generator=np.random.default_rng(0))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes["encoder.embedding.weight"] == shapes["decoder.embedding.weight"] == (11, 30)
    for side in ("encoder", "decoder"):
        assert shapes[f"{side}.layers.layers.0.w_x"] == (30, 200)
        assert shapes[f"{side}.layers.layers.1.w_x"] == shapes[f"{side}.layers.layers.1.w_h"]
    assert shapes["decoder.head.weight"] == (50, 11) and len(shapes) == 16
    table = model.encoder.embedding.weight.numpy()
    assert np.abs(table).max() <= 0.2 and table.std() == pytest.approx(0.088, abs=0.01)
    assert (table != model.decoder.embedding.weight.numpy()).any()
    attentive = _odds.Seq2Seq(
        lambda: seq2seq.Luong(50, 50, generator=np.random.default_rng(1)),
        generator=np.random.default_rng(0),
    )
    assert attentive.decoder.layers.input_size == 80


@pytest.mark.parametrize("kind", ["plain", *attention_copy.KINDS])
def test_every_model_learns_one_batch(kind):
    """A gate: 60 steps on eight short sequences."""
    rng = np.random.default_rng(0)
    attention = None
    if kind != "plain":
        def attention():
            return attention_copy.KINDS[kind](generator=rng)

    model = _odds.Seq2Seq(attention, generator=rng)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    batch = _odds.samples(40, rng, 2)
    short = np.argsort(batch.x_lengths)[:8]
    batch = _odds.Batch(*(part[short] for part in batch))
    losses = []
    for _ in range(60):
        loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(11), abs=0.1) and losses[-1] < 1, losses[-1]


def _metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_gate_seq2seq_odds_learns_and_writes(tmp_path, capsys):
    seq2seq_odds.main(["--steps", "201", "--seed", "1", "--out", str(tmp_path)])
    metrics = _metrics(tmp_path)
    assert metrics["metric"]["name"] == "exact_match" and metrics["steps"] == 201
    assert 0.02 < metrics["metric"]["value"] < 0.4  # 0.001 is what saying nothing reaches
    assert metrics["last_loss"] < 1.7  # 2.4 is guessing
    assert set(metrics["ways_of_decoding"]) == {"greedy", "beam of 4", "sampled"}
    files = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert files == {"exact_match.png", "by_length.png", "loss.png", "metrics.json"}
    said = capsys.readouterr().out
    assert said.count("input:") == said.count("expected:") == said.count("decoded (greedy):") == 3


def test_other_ways_of_decoding(tmp_path, capsys):
    for how, more in {"beam": ["--width", "2"], "sample": ["--top-k", "3"]}.items():
        seq2seq_odds.main(["--steps", "2", "--out", str(tmp_path), "--decode", how, *more])
        assert f"decoded ({how}):" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    ["--temperature", "0"], ["--length-penalty", "-1", "--decode", "beam"], ["--width", "0"],
    ["--decode", "loud"], ["--top-k", "none"],
])  # fmt: skip
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        seq2seq_odds.main([*arguments, "--steps", "1", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and len(error.strip().splitlines()) == 1, error
    assert error.startswith("seq2seq_odds: error:")


def test_attention_copy_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(attention_copy, "LOOKS", (1,))
    monkeypatch.setattr(attention_copy, "TESTED", 20)
    attention_copy.main(
        ["--steps", "3", "--attention", "normed_bahdanau", "--out", str(tmp_path)]
    )
    metrics = _metrics(tmp_path)
    assert metrics["attention"] == "normed_bahdanau" and set(metrics["rates"]) == {
        "plain", "attention"
    }  # fmt: skip
    files = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert files == {"exact_match.png", "attention_learned.png", "attention.png", "metrics.json"}


@pytest.mark.slow
def test_whole_run_reaches_tensorflow(tmp_path):
    seq2seq_odds.main(["--out", str(tmp_path)])
    assert _metrics(tmp_path)["metric"]["value"] > 0.8  # 0.86 with seed 0


@pytest.mark.slow
def test_whole_run_with_attention(tmp_path):
    attention_copy.main(["--out", str(tmp_path)])
    metrics = _metrics(tmp_path)
    assert metrics["metric"]["value"] >= 0.99 and metrics["plain"] < 0.95
