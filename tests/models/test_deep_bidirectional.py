"""The taggers: the task, the bound, what can see the future, the gate, the command line."""

import itertools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from minigrad import nn
from models import deep_bidirectional as model


def _tagger(name, cell="gru", seed=0):
    (variant,) = (v for v in model.VARIANTS if v.name == name)
    weights, masks = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    return model.Tagger(variant, cell, weights, masks)


def test_the_task():
    letters, once = model.sequences(500, np.random.default_rng(0))
    assert letters.shape == once.shape == (500, 12)
    assert letters.min() == 0 and letters.max() == 15
    for row, marks in zip(letters[:50].tolist(), once[:50], strict=True):
        assert [int(row.count(letter) == 1) for letter in row] == marks.tolist()
    assert abs(once.mean() - (15 / 16) ** 11) < 0.03


def test_the_bound_is_that_of_the_best_guess(monkeypatch):
    """All 3^4 sequences: the best answer for each beginning, counted."""
    monkeypatch.setattr(model, "LETTERS", 3)
    monkeypatch.setattr(model, "LENGTH", 4)
    everything = list(itertools.product(range(3), repeat=4))
    for t, bound in enumerate(model.best_guess()):
        right = 0
        for beginning in set(s[: t + 1] for s in everything):
            marks = [s.count(s[t]) == 1 for s in everything if s[: t + 1] == beginning]
            right += max(sum(marks), len(marks) - sum(marks))
        assert bound == pytest.approx(right / len(everything), rel=1e-12)


def test_the_documents_bound():
    bound = model.best_guess()
    assert bound.shape == (12,) and bound[-1] == 1 and abs(bound[0] - 0.5) < 0.02
    assert (np.diff(bound) > 0).all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("variant", model.VARIANTS, ids=lambda v: v.name)
def test_each_tagger_is_what_its_name_says(variant, cell):
    tagger = _tagger(variant.name, cell)
    modules = list(tagger.modules())
    kind = nn.GRU if cell == "gru" else nn.LSTM
    assert sum(isinstance(m, kind) for m in modules) == variant.depth * variant.directions
    assert len(tagger.layers.layers) == variant.depth
    drops = [m for m in modules if isinstance(m, nn.DropoutWrapper)]
    assert len(drops) == (variant.depth if variant.drop else 0)
    assert all(m.p == {"input": 0.0, "output": 0.5, "state": 0.0} for m in drops)
    letters, _ = model.sequences(3, np.random.default_rng(0))
    assert tagger(letters).shape == (3, 12, 2)


@pytest.mark.parametrize("variant", model.VARIANTS, ids=lambda v: v.name)
def test_one_direction_feels_nothing_of_the_future_and_both_do(variant):
    letters, _ = model.sequences(4, np.random.default_rng(0))
    reach = model.reach(_tagger(variant.name), letters)  # (T, T)
    ahead = np.triu(np.ones((12, 12), bool), 1)
    assert (reach[~ahead] > 0).all()
    assert (reach[ahead] > 0).all() if variant.directions == 2 else not reach[ahead].any()


def test_reach_against_central_differences():
    letters, _ = model.sequences(1, np.random.default_rng(0))
    tagger = _tagger(model.DEEP_BOTH).double()
    x = np.eye(16)[letters]  # (1, T, 16)

    def margin(x):
        logits = tagger(x).numpy()[0, 3]
        return logits[1] - logits[0]

    gradient = np.zeros(16)
    for i in range(16):
        step = np.zeros_like(x)
        step[0, 7, i] = 1e-5
        gradient[i] = (margin(x + step) - margin(x - step)) / 2e-5
    reach = model.reach(tagger.float(), letters)
    assert reach[3, 7] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


def test_answers_are_given_without_dropout_and_training_goes_on_with_it():
    letters, _ = model.sequences(20, np.random.default_rng(0))
    tagger = _tagger(model.DROPPED)
    np.testing.assert_array_equal(model.answers(tagger, letters), model.answers(tagger, letters))
    assert tagger.training and all(m.training for m in tagger.modules())
    assert (tagger(letters).numpy() != tagger(letters).numpy()).any()


def _run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "models.deep_bidirectional", "--out", str(tmp_path), *arguments],
        capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def _metrics(tmp_path):
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_smoke_run_both_directions_beat_one(tmp_path):
    done = _run(tmp_path, "--smoke", "--seed", "1")
    assert done.returncode == 0, done.stderr
    metrics = _metrics(tmp_path)
    assert metrics["model"] == "deep_bidirectional" and metrics["steps"] == model.SMOKE_STEPS
    fresh, bound = metrics["fresh"], metrics["best_guess"]
    assert list(fresh) == [variant.name for variant in model.VARIANTS]
    one = max(fresh[model.FORWARD], fresh[model.DEEP_FORWARD])
    assert fresh[model.BOTH] > one + 0.05 and fresh[model.DEEP_BOTH] > one + 0.05
    assert one < bound + 0.02 and one > 0.6
    assert metrics["metric"] == {"name": "accuracy", "value": fresh[model.DROPPED]}
    assert all(len(values) == 12 for values in metrics["by_position"].values())
    pictures = {"accuracy.png", "by_position.png", "reach.png"}
    assert {path.name for path in tmp_path.glob("*.[pj]*")} == pictures | {"metrics.json"}


def test_same_seed_same_numbers_on_one_thread_and_two(tmp_path, monkeypatch):
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", threads)
        done = _run(tmp_path, "--steps", "12", "--cell", "lstm")
        assert done.returncode == 0, done.stderr
        metrics = _metrics(tmp_path)
        results.append((metrics["fresh"], metrics["by_position"], metrics["learned_from"]))
    assert results[0] == results[1] and metrics["cell"] == "lstm"


@pytest.mark.parametrize("arguments", [["--cell", "rnn"], ["--steps", "0"]])
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, arguments):
    done = _run(tmp_path, *arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_run(tmp_path, seed):
    """One direction below the bound, both above, depth by heart, dropout best of all."""
    done = _run(tmp_path, "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    metrics = _metrics(tmp_path)
    fresh, bound = metrics["fresh"], metrics["best_guess"]
    assert max(fresh[model.FORWARD], fresh[model.DEEP_FORWARD]) < bound
    assert min(fresh[model.BOTH], fresh[model.DEEP_BOTH]) > bound + 0.03
    assert fresh[model.DROPPED] > 0.96
    assert fresh[model.DROPPED] > max(fresh[model.BOTH], fresh[model.DEEP_BOTH]) + 0.03
    assert metrics["learned_from"][model.DEEP_BOTH] > 0.99
