"""The iris classifier: TensorFlow's numbers for both variants, what the mistake does, its gate."""

import json
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim, plot
from minigrad.errors import PatternWarning
from models import iris_softmax as model_file
from models.iris_softmax import FLOOR, Softmax, accuracy, gradient_by_margin, loss_of, split

GOLDENS = {
    variant: np.load(
        pathlib.Path(__file__).parents[1] / "goldens" / f"iris_{variant.replace('-', '_')}.npz"
    )
    for variant in model_file.VARIANTS
}
pytestmark = pytest.mark.filterwarnings("ignore::minigrad.errors.PatternWarning")


def _model(golden, dtype):
    model = Softmax(1, np.random.default_rng(0))
    if dtype == np.float64:
        model.double()
    model.weight.data, model.bias.data = golden["init/W"][None], golden["init/b"][None, None]
    return model


@pytest.mark.parametrize(
    ("kernel", "dtype", "rtol", "steps"),
    [
        ("numba", np.float64, 1e-9, 800),
        ("numba", np.float32, 1e-4, 100),
        ("numpy", np.float64, 1e-9, 20),
    ],
)
@pytest.mark.parametrize("variant", model_file.VARIANTS)
def test_training_as_in_tensorflow(variant, kernel, dtype, rtol, steps):
    """Losses, accuracies, gradients, weights, test: goldens/iris_*.npz."""
    golden = GOLDENS[variant]
    model = _model(golden, dtype)
    optimizer = optim.Adam(model.parameters(), lr=model_file.RATE)
    x, labels, test_x, test_labels = split()
    np.testing.assert_array_equal(x, golden["in/x_train"])
    np.testing.assert_array_equal(labels, golden["in/y_train"])
    np.testing.assert_array_equal(test_x, golden["in/x_test"])
    np.testing.assert_array_equal(test_labels, golden["in/y_test"])

    def close(ours, key):
        assert ours.dtype == dtype
        theirs = golden[key]
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=rtol, atol=rtol * scale)

    with mg.kernels.use(kernel):
        for step in range(steps):
            logits = model(x.astype(dtype))
            loss = loss_of(logits, labels, variant)
            assert loss.shape == (1,)
            assert loss.item() == pytest.approx(golden["loss"][step], rel=rtol)
            if dtype == np.float64:
                assert accuracy(logits, labels)[0] == golden["steps/train_accuracy"][step]
            optimizer.zero_grad()
            loss.sum().backward()
            if step == 0:
                close(model.weight.grad.numpy(), "grad1/W")
                close(model.bias.grad.numpy(), "grad1/b")
            optimizer.step()
            if f"after{step + 1}/W" in golden:
                close(model.weight.array, f"after{step + 1}/W")
                close(model.bias.array, f"after{step + 1}/b")
        logits = model(test_x.astype(dtype))
    if steps == 800:
        answers = logits.numpy()[0].argmax(axis=1)
        np.testing.assert_array_equal(answers, golden["test_predictions_after800"])
        assert accuracy(logits, test_labels)[0] == golden["test_accuracy_after800"]


@pytest.mark.parametrize("variant", model_file.VARIANTS)
def test_networks_side_by_side_learn_as_if_alone(variant):
    x, labels, _, _ = split()

    def trained(weights, biases):
        model = Softmax(len(weights), np.random.default_rng(0))
        model.double()
        model.weight.data, model.bias.data = weights, biases
        optimizer = optim.Adam(model.parameters(), lr=model_file.RATE)
        for _ in range(30):
            optimizer.zero_grad()
            loss_of(model(x.astype(np.float64)), labels, variant).sum().backward()
            optimizer.step()
        return model.weight.numpy()

    start = Softmax(3, np.random.default_rng(5)).double()
    together = trained(start.weight.numpy().copy(), start.bias.numpy().copy())
    for k in range(3):
        alone = trained(start.weight.numpy()[k : k + 1], start.bias.numpy()[k : k + 1])
        np.testing.assert_allclose(together[k], alone[0], rtol=1e-9)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_every_start_is_glorots_and_the_first_does_not_depend_on_their_number():
    many, one = (Softmax(n, np.random.default_rng(7)).weight.numpy() for n in (400, 1))
    np.testing.assert_array_equal(many[:1], one)
    limit = np.sqrt(6 / 7)
    assert 0.99 * limit < np.abs(many).max() <= limit
    assert many.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


def test_the_split_is_the_same_for_every_seed_and_loses_no_flower():
    x, labels, test_x, test_labels = split()
    assert x.shape == (120, 4) and test_x.shape == (30, 4) and x.dtype == np.float32
    assert np.bincount(np.concatenate([labels, test_labels])).tolist() == [50, 50, 50]


def test_certainty_cannot_bring_the_doubled_loss_below_its_floor():
    sure = np.zeros((1, 2, 3))
    sure[0, [0, 1], [2, 1]] = 1e3
    labels = np.array([2, 1])
    assert loss_of(mg.tensor(sure), labels, "corrected").item() == 0
    assert loss_of(mg.tensor(sure), labels, "as-written").item() == pytest.approx(FLOOR, rel=1e-12)


def test_a_sure_mistake_pulls_as_much_as_it_should_once_and_hardly_at_all_twice():
    margins = np.array([-3.0, 0.0, 10.0])
    p = 1 / (1 + np.exp(-margins))  # of the wrong class; the third has next to none
    once = gradient_by_margin(margins, "corrected")
    np.testing.assert_allclose(once, np.sqrt(2) * p, rtol=1e-6)
    h = 1e-6  # and twice by central differences
    logits = np.array([[0, m, -20] for m in margins])[None]
    labels = np.zeros(3, int)
    each = []
    for i in range(3):
        plus, minus = logits.copy(), logits.copy()
        plus[..., i] += h
        minus[..., i] -= h
        values = [_doubled(np.exp(z) / np.exp(z).sum(-1, keepdims=True)) for z in (plus, minus)]
        each.append((values[0] - values[1]) / (2 * h))
    twice = gradient_by_margin(margins, "as-written")
    np.testing.assert_allclose(twice, np.linalg.norm(each, axis=0)[0], rtol=1e-4)
    assert once[2] / twice[2] > 1e4
    assert labels.sum() == 0


def _doubled(p):
    """Cross-entropy of class 0 from softmax(p); p (1, M, 3) -> (1, M)."""
    return np.log(np.exp(p).sum(-1)) - p[..., 0]


def test_minigrad_warns_of_the_document_and_not_of_the_correction(recwarn):
    logits = mg.tensor(np.zeros((1, 2, 3)), requires_grad=True)
    loss_of(logits, np.array([0, 1]), "corrected")
    assert not [w for w in recwarn if issubclass(w.category, PatternWarning)]
    with pytest.warns(PatternWarning, match="softmax twice"):
        loss_of(logits, np.array([0, 1]), "as-written")


# -- the program -------------------------------------------------------------------------------


def _run(tmp_path, *arguments):
    model_file.main(["--out", str(tmp_path), *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def test_gate_names_the_flowers_and_shows_what_the_mistake_costs(tmp_path, capsys):
    metrics = _run(tmp_path, "--steps", "500", "--starts", "20", "--seed", "0")
    assert metrics["metric"]["name"] == "test_accuracy" and metrics["metric"]["value"] >= 0.96
    written, corrected = metrics["as_written"], metrics["corrected"]
    assert len(written["test_accuracies"]) == len(corrected["test_accuracies"]) == 20
    assert written["below_96_percent"] >= 4 and written["mean_test_accuracy"] < 0.95
    assert corrected["below_96_percent"] <= 1 and corrected["mean_test_accuracy"] > 0.97
    assert min(written["last_losses"]) > FLOOR > max(corrected["last_losses"][:1])
    said = capsys.readouterr()
    assert said.out.count("PatternWarning: softmax twice") == 1 and "Warning" not in said.err
    written_files = {path.name for path in tmp_path.glob("*.[pj]*")}
    assert written_files == {"cost.png", "signal.png", "metrics.json"}


@pytest.mark.parametrize("variant", ["as-written", "corrected"])
def test_one_variant_alone_and_one_start(tmp_path, monkeypatch, variant):
    monkeypatch.setattr(plot, "save", lambda figure, path: None)
    alone, first = (
        _run(tmp_path, "--variant", variant, "--starts", starts, "--steps", "5")
        for starts in ("1", "3")
    )
    assert alone["steps"] == 5
    assert ("corrected" in alone) == (variant == "corrected")
    key = variant.replace("-", "_")
    assert len(alone[key]["last_losses"]) == 1 and len(first[key]["last_losses"]) == 3
    assert first[key]["last_losses"][0] == pytest.approx(alone[key]["last_losses"][0], rel=1e-6)
