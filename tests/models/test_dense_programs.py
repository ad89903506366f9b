"""The command line of the dense models: flags, seeds, threads, Ctrl-C, bad arguments."""

import importlib
import json
import signal

import pytest

import minigrad as mg
from minigrad import plot
from models._run import Run

QUICK = {  # model -> arguments that keep it short
    "linear_regression": [],
    "curve_regression": [],
    "iris_softmax": ["--starts", "3"],
    "mnist_softmax": [],
    "digits_dropout": [],
}
LOOPS = {"iris_softmax": 2, "mnist_softmax": 3, "digits_dropout": 3}
pytestmark = pytest.mark.filterwarnings("ignore::minigrad.errors.PatternWarning")


@pytest.fixture(autouse=True)
def packaged_images(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


@pytest.fixture
def unseen(monkeypatch):
    """Pictures are made but not painted, which takes longer than all the rest."""
    monkeypatch.setattr(plot, "save", lambda figure, path: None)


def _run(tmp_path, name, *arguments):
    main = importlib.import_module(f"models.{name}").main
    main(["--out", str(tmp_path), *QUICK[name], *arguments])
    return json.loads((tmp_path / "metrics.json").read_text())


def _numbers(metrics):
    """All that was measured, without what differs from run to run."""
    return {k: v for k, v in metrics.items() if k not in ("seconds", "threads", "versions")}


@pytest.mark.parametrize("name", QUICK)
def test_one_step_can_be_drawn(tmp_path, name):
    assert _run(tmp_path, name, "--steps", "1")["steps"] == LOOPS.get(name, 1)
    assert len(list(tmp_path.glob("*.png"))) >= 2


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_same_numbers_on_one_thread_and_two(tmp_path, unseen, name):
    before = mg.get_num_threads()
    try:
        found = []
        for threads, seed in ((1, "3"), (2, "3"), (2, "4")):
            mg.set_num_threads(threads)
            found.append(_numbers(_run(tmp_path, name, "--steps", "12", "--seed", seed)))
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1]
    assert found[1]["metric"] != found[2]["metric"] or name == "iris_softmax"
    assert {**found[1], "seed": 0} != {**found[2], "seed": 0}


@pytest.mark.parametrize("kernel", ["numpy", "check"])
@pytest.mark.parametrize("name", QUICK)
def test_every_way_of_running_the_kernels(tmp_path, unseen, name, kernel):
    assert _run(tmp_path, name, "--steps", "2", "--kernels", kernel)["kernels"] == kernel


@pytest.mark.parametrize("name", QUICK)
def test_ctrl_c_keeps_what_was_reached(tmp_path, unseen, monkeypatch, name):
    """In the second loop where there are several, which then do not begin."""
    count = Run._count
    loops = []

    def interrupted(run, total):
        loops.append(total)
        for step in count(run, total):
            if step == 2 and len(loops) == min(2, LOOPS.get(name, 1)):
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(Run, "_count", interrupted)
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, name, "--steps", "7")
    assert caught.value.code == 130
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["interrupted"] is True
    assert metrics["steps"] == (10 if name in LOOPS else 3)
    assert len(loops) == min(2, LOOPS.get(name, 1))


@pytest.mark.parametrize(
    ("name", "arguments", "about"),
    [
        *((name, ["--steps", "none"], "whole number") for name in QUICK),
        *((name, ["--seed", "-1"], "whole number") for name in QUICK),
        ("linear_regression", ["--rate", "0"], "larger than 0"),
        ("linear_regression", ["--rate", "nan"], "larger than 0"),
        ("linear_regression", ["--rate", "inf"], "larger than 0"),
        ("curve_regression", ["--live", "yes"], "yes"),
        ("iris_softmax", ["--starts", "0"], "at least 1"),
        ("iris_softmax", ["--variant", "twice"], "as-written"),
        ("mnist_softmax", ["--std", "wide"], "larger than 0"),
        ("mnist_softmax", ["--variant", "best"], "zeros"),
        ("mnist_softmax", ["--data", "no/such/folder"], "no folder"),
        ("mnist_softmax", ["--download"], "--data DIR"),
        ("digits_dropout", ["--setting", "worst"], "document"),
        ("digits_dropout", ["--variant", "both"], "corrected"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(tmp_path, capsys, name, arguments, about):
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, name, *arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == ""
    assert said.err.count("\n") == 1 and said.err.startswith(f"{name}: error:")
    assert about in said.err


@pytest.mark.parametrize("name", QUICK)
def test_help_tells_the_document_and_what_differs(capsys, name):
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"models.{name}").main(["--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert "Document: " in said and "Beside the document:" in said
    for flag in ("--steps", "--seed", "--out", "--smoke", "--kernels"):
        assert flag in said
