"""Vanishing and exploding: what the weights at the start do to gradients, and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import watch
from models import vanishing


def ratio_at_the_start(kind):
    """||dL/dh_0|| / ||dL/dh_59|| before any training."""
    generator = np.random.default_rng(0)
    model = vanishing.Recall(vanishing.KINDS[kind](generator), generator)
    ids = generator.integers(vanishing.SYMBOLS, size=(vanishing.LENGTH, vanishing.BATCH))
    with watch.GradientFlow.attach(model) as flows:
        mg.cross_entropy(model(ids), ids[0]).backward()
    return float(flows["rnn"].h[0, 0] / flows["rnn"].h[0, -1])


def test_gradients_vanish_explode_or_arrive_as_the_text_says():
    ratios = {kind: ratio_at_the_start(kind) for kind in vanishing.KINDS}
    assert ratios["RNN, gain 0.9"] < 0.9**59
    assert ratios["RNN, gain 1.5"] > 5
    assert 0.05 < ratios["GRU"] < 2 and 0.01 < ratios["LSTM"] < 2


def test_plain_weights_are_a_multiple_of_an_orthogonal_matrix():
    rnn = vanishing.plain(1.5)(np.random.default_rng(0))
    w = rnn.w_h.numpy().astype(np.float64)
    np.testing.assert_allclose(w @ w.T, 1.5**2 * np.eye(vanishing.UNITS), atol=1e-5)
    assert rnn.w_h.dtype == np.float32


def test_smoke_run_writes_its_figures(tmp_path, capsys):
    vanishing.main(["--smoke", "--out", str(tmp_path)])
    metrics = json.loads(Path(tmp_path, "metrics.json").read_text())
    assert set(metrics["accuracies"]) == set(vanishing.LIMITS)
    assert all(set(row) == set(vanishing.KINDS) for row in metrics["accuracies"].values())
    assert metrics["steps"] == 8 * vanishing.SMOKE_STEPS and metrics["guessing"] == 0.125
    written = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written == {"gradient_flow.png", "clip_timeline.png", "metrics.json"}
    assert "clipped at 1, LSTM: names" in capsys.readouterr().out


@pytest.mark.slow
def test_gate_who_gets_gradients_learns_the_task(tmp_path):
    vanishing.main(["--out", str(tmp_path)])
    accuracies = json.loads(Path(tmp_path, "metrics.json").read_text())["accuracies"]
    assert accuracies["clipped at 1"]["RNN, gain 1.5"] > 0.9
    assert accuracies["clipped at 1"]["GRU"] > 0.3 and accuracies["clipped at 1"]["LSTM"] > 0.3
    assert all(row["RNN, gain 0.9"] < 0.25 for row in accuracies.values())
