"""models._run: arguments, the clock, Ctrl-C, what is written; never the training loop."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import minigrad
from minigrad import kernels, plot
from minigrad.errors import DataError
from minigrad.optim import ClipReport
from models import _loop, _run
from models._run import start

ROOT = Path(_run.__file__).parents[1]


@pytest.fixture
def begin(tmp_path):
    """Start a run of a model called fake, with ``arguments`` as typed."""

    def begin(arguments="", options=None):
        argv = ["--out", str(tmp_path / "out"), *arguments.split()]
        return start("fake", "About 100% of it.", argv, options, steps=50, smoke_steps=4)

    return begin


def metrics(folder):
    return json.loads((folder / "out" / "metrics.json").read_text())


# -- what is written --------------------------------------------------------------------------


def test_metrics_say_what_was_run_and_reached(begin, tmp_path, capsys):
    with begin("--steps 7 --seed 3 --kernels numpy") as run:
        assert list(run.steps()) == list(range(7))
        run.finish("rmse", np.float32(0.5), {"curve": plot.loss_curve([0, 1], [2.0, 1.0])})
    written = metrics(tmp_path)
    assert list(written) == [
        "model", "seed", "steps", "metric", "seconds", "versions", "threads", "kernels",
        "interrupted",
    ]  # fmt: skip
    assert written["model"] == "fake" and written["seed"] == 3 and written["steps"] == 7
    assert written["metric"] == {"name": "rmse", "value": 0.5}
    assert written["kernels"] == "numpy" and written["interrupted"] is False
    assert written["threads"] == minigrad.get_num_threads()
    assert written["versions"]["minigrad"] == minigrad.__version__
    assert written["versions"]["numpy"] == np.__version__
    assert written["versions"]["numba"] == numba.__version__
    assert {"python", "platform"} <= set(written["versions"])
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr()
    assert "rmse 0.5 after 7 steps" in said.out
    assert f"written to {tmp_path / 'out'}: curve.png, metrics.json" in said.out
    assert said.err == ""  # no progress bar where nobody looks


def test_extra_entries_become_plain_json(begin, tmp_path):
    with begin() as run:
        run.finish(
            "rmse", math.nan, curve=np.arange(3.0), best=np.float64(math.inf), count=np.int64(2),
            text=tmp_path, state=minigrad.tensor([1.5]), nested={"x": [np.float32(0.25), None]},
        )  # fmt: skip
    written = metrics(tmp_path)
    assert written["metric"]["value"] is None and written["best"] is None
    assert written["curve"] == [0, 1, 2] and written["count"] == 2 and written["state"] == [1.5]
    assert written["text"] == str(tmp_path) and written["nested"] == {"x": [0.25, None]}


def test_metrics_are_replaced_whole_or_not_at_all(begin, tmp_path, monkeypatch):
    with begin() as run:
        run.finish("rmse", 1.0)
    with begin() as run:
        monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.finish("rmse", 2.0)
    assert metrics(tmp_path)["metric"]["value"] == 1.0
    assert os.listdir(tmp_path / "out") == ["metrics.json"]
    with pytest.raises(TypeError), begin() as run:
        run.finish("rmse", 3.0, strange=object())
    assert metrics(tmp_path)["metric"]["value"] == 1.0


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "steps"), [("", 50), ("--smoke", 4), ("--smoke --steps 9", 9), ("--steps 9", 9)]
)
def test_steps_come_from_the_arguments_or_the_model(begin, arguments, steps):
    with begin(arguments) as run:
        assert run.args.steps == steps and len(list(run.steps())) == steps


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        ("--steps 0", "--steps"), ("--steps -3", "--steps"), ("--steps 1.5", "--steps"),
        ("--seed x", "--seed"), ("--seed -1", "--seed"), ("--kernels cuda", "--kernels"),
        ("--step 3", "--step"), ("--bogus", "--bogus"), ("surplus", "surplus"), ("--out", "--out"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_one_line_and_exit_code_2(begin, capsys, arguments, about):
    with pytest.raises(SystemExit) as caught:
        begin(arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == ""
    assert said.err.startswith("fake: error: ") and about in said.err
    assert said.err.count("\n") == 1 and said.err.endswith("\n")


def test_an_output_folder_that_cannot_be_is_found_out_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        start("fake", "", ["--out", str(tmp_path / "file")], steps=1, smoke_steps=1)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1
    assert "--out" in said and str(tmp_path / "file") in said


def test_help_explains_the_model_and_its_own_arguments(begin, capsys):
    def options(parser):
        parser.add_argument("--text", metavar="FILE", help="to learn from")

    with pytest.raises(SystemExit) as caught:
        begin("--help", options)
    said = capsys.readouterr().out
    assert caught.value.code == 0 and "About 100% of it." in said
    for argument in ("--steps", "--seed", "--out", "--smoke", "--kernels", "--text FILE"):
        assert argument in said
    assert "python -m models.fake" in said and "50" in said
    with begin("--text x.txt", options) as run:
        assert run.args.text == "x.txt"


def test_the_kernels_are_chosen_for_the_run_only(begin):
    before = kernels.mode()
    with begin("--kernels check"):
        assert kernels.mode() == "check"
    assert kernels.mode() == before
    with pytest.raises(SystemExit), begin("--kernels numpy"):
        raise DataError("bad")
    assert kernels.mode() == before


def test_random_numbers_depend_on_seed_and_purpose_and_on_nothing_else(begin):
    def draw(arguments, purpose, other_draws=0):
        with begin(arguments) as run:
            run.generator("other").random(other_draws)
            return run.generator(purpose).random(4).tolist()

    assert draw("--seed 1", "weights") == draw("--seed 1", "weights", other_draws=5)
    assert draw("--seed 1", "weights") != draw("--seed 2", "weights")
    assert draw("--seed 1", "weights") != draw("--seed 1", "samples")
    assert draw("", "weights") == draw("--seed 0", "weights")


# -- bad data ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("load_text: there is\nno file x"), "load_text: there is no file x"),
        (FileNotFoundError(2, "No such file or directory", "x.txt"), "x.txt: No such file"),
        (OSError("disk on fire"), "disk on fire"),
    ],
)
@pytest.mark.parametrize("where", ["before", "in the loop"])
def test_bad_data_is_one_line_and_exit_code_2(begin, capsys, error, said, where):
    with pytest.raises(SystemExit) as caught, begin() as run:
        if where == "before":
            raise error
        for _ in run.steps():
            raise error
    output = capsys.readouterr()
    assert caught.value.code == 2 and output.out == ""
    assert output.err.startswith("fake: error: ") and said in output.err
    assert output.err.count("\n") == 1


def test_an_error_of_the_program_itself_is_not_hidden(begin):
    with pytest.raises(ZeroDivisionError), begin() as run:
        for _ in run.steps():
            raise ZeroDivisionError


# -- Ctrl-C -----------------------------------------------------------------------------------


def test_ctrl_c_ends_the_loop_after_the_step_and_what_was_reached_is_written(
    begin, tmp_path, capsys
):
    before = signal.getsignal(signal.SIGINT)
    completed = []
    with pytest.raises(SystemExit) as caught, begin() as run:
        for step in run.steps():
            if step == 3:
                signal.raise_signal(signal.SIGINT)
            completed.append(step)
        run.finish("rmse", 1.0, {"curve": plot.loss_curve([0], [1.0])})
    assert caught.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert completed == [0, 1, 2, 3]
    written = metrics(tmp_path)
    assert written["interrupted"] is True and written["steps"] == 4
    assert (tmp_path / "out" / "curve.png").exists()
    said = capsys.readouterr()
    assert "interrupted after 4 of 50 steps" in said.err and "exit code 130" in said.err


def test_after_ctrl_c_no_other_loop_begins(begin):
    with pytest.raises(SystemExit), begin() as run:
        for _ in run.steps(5):
            signal.raise_signal(signal.SIGINT)
        assert list(run.steps(5)) == []
        assert run.steps_done == 1


def test_ctrl_c_after_the_last_step_loses_nothing(begin, tmp_path):
    with pytest.raises(SystemExit) as caught, begin("--steps 3") as run:
        for _ in run.steps():
            pass
        signal.raise_signal(signal.SIGINT)  # in the final evaluation
        run.finish("rmse", 1.0)
    assert caught.value.code == 130
    assert metrics(tmp_path)["steps"] == 3 and metrics(tmp_path)["interrupted"] is True


def test_ctrl_c_before_training_ends_at_once(begin, tmp_path):
    with pytest.raises(SystemExit) as caught, begin():
        signal.raise_signal(signal.SIGINT)  # while the data are loaded
    assert caught.value.code == 130


@pytest.mark.parametrize("how", ["raised", "twice"])
def test_a_second_ctrl_c_ends_at_once_with_one_line(begin, tmp_path, capsys, how):
    with pytest.raises(SystemExit) as caught, begin() as run:
        for _ in run.steps():
            if how == "raised":
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    assert caught.value.code == 130
    said = capsys.readouterr().err
    assert said.startswith("fake: interrupted") and said.count("\n") == 1
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


PROGRAM = '''
"""Sleeps."""
import signal, time
from models._run import start
signal.signal(signal.SIGINT, signal.default_int_handler)
with start("fake", __doc__, steps=100_000, smoke_steps=1) as run:
    for step in run.steps():
        if step == 5:
            print("ready", flush=True)
        time.sleep(0.01)
    run.finish("rmse", 1.0, finished_step=step)
'''


def test_ctrl_c_on_a_real_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--out", str(tmp_path / "out")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    written = metrics(tmp_path)
    assert written["interrupted"] is True
    assert 6 <= written["steps"] == written["finished_step"] + 1 < 100_000
    assert err.count("\n") == 1 and f"interrupted after {written['steps']} of 100,000" in err
    assert "rmse 1" in out


# -- the clock --------------------------------------------------------------------------------


class FakeTime:
    """time.perf_counter that moves only when told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(_loop.time, "perf_counter", lambda: self.now)


def test_seconds_are_those_of_training_alone(begin, tmp_path, monkeypatch):
    clock = FakeTime(monkeypatch)
    with begin("--steps 3") as run:
        clock.now += 1000  # loading data
        for _ in run.steps():
            clock.now += 1
            with run.untimed():
                clock.now += 50
                with run.untimed():
                    clock.now += 50
            clock.now += 0.5
        clock.now += 2000  # final evaluation
        assert run.seconds == 4.5
        run.finish("rmse", 1.0)
    assert metrics(tmp_path)["seconds"] == 4.5


def test_the_clock_stops_when_the_loop_is_left_early(begin, monkeypatch):
    clock = FakeTime(monkeypatch)
    with begin() as run:
        for step in run.steps():
            clock.now += 1
            if step == 2:
                break
        clock.now += 1000
        assert run.seconds == 3 and run.steps_done == 3
        run.finish("rmse", 1.0)
        assert run.seconds == 3


def test_an_error_in_an_untimed_block_lets_the_clock_go_on(begin, monkeypatch):
    clock = FakeTime(monkeypatch)
    with begin("--steps 2") as run:
        for _ in run.steps():
            with pytest.raises(ZeroDivisionError), run.untimed():
                clock.now += 10
                raise ZeroDivisionError
            clock.now += 1
    assert run.seconds == 2


def test_compiling_a_kernel_is_no_training(begin):
    @numba.njit
    def slow_to_compile(x):
        return (x + 1).sum()

    with begin("--steps 1") as run:
        for _ in run.steps():
            began = time.perf_counter()
            slow_to_compile(np.ones(3))
            took = time.perf_counter() - began
    assert took > 0.05
    assert run.seconds < 0.5 * took


# -- the progress bar -------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("installed", [True, False], ids=["tqdm", "no tqdm"])
def test_the_bar_counts_the_steps_and_shows_the_notes(begin, monkeypatch, capsys, installed):
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(_run, "_REDRAW", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    with begin("--steps 3") as run:
        for step in run.steps():
            run.note(loss=np.float32(1.23456))
            if step == 1:
                run.say("a sample")
        run.finish("rmse", 1.0)
    drawn = sys.stderr.getvalue()
    assert "fake" in drawn and "1.23" in drawn and "1.2345" not in drawn
    assert ("3/3" if installed else "3 of 3 steps") in drawn
    assert drawn.rstrip(" \r").endswith("\n")
    assert capsys.readouterr().out.startswith("a sample\nrmse 1 after 3 steps")


@pytest.mark.parametrize("installed", [True, False], ids=["tqdm", "no tqdm"])
def test_the_bar_shows_loss_result_norm_share_of_clipped_steps_and_time_left(
    begin, monkeypatch, installed
):
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(_run, "_REDRAW", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "140")
    norms = [0.5, 3.0, 4.0, 0.25]
    with begin() as run:  # 50 steps
        run.keep()
        for step in run.steps():
            if step == 4:
                break
            report = ClipReport(norms[step], 1.0, 1.0, norms[step] > 1)
            run.note(loss=1.5, clipped=report)
            run.test(accuracy=0.875)
            time.sleep(0.05)
        run.finish("rmse", 1.0)
    lines = [line for line in sys.stderr.getvalue().split("\r") if "accuracy" in line]
    for step, share in enumerate(["0%", "50%", "67%", "50%"]):
        count = f" {step + 1}/50" if installed else f" {step + 1} of 50"
        line = next(line for line in lines if count in line)
        for shown in ("loss", "1.5", "test accuracy", "0.875", f"{norms[step]:.3g}", share):
            assert shown in line, (shown, line)
        assert re.search(r"<\d\d:\d\d" if installed else r"\d+ s left", line), line


def test_a_resumed_bar_starts_where_the_run_was_and_guesses_from_there(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = [0.0]
    monkeypatch.setattr(_loop.time, "monotonic", lambda: now[0])
    counter = _loop._Counter("fake", 1000, 900)
    now[0], counter.n = 10.0, 950  # 50 steps in ten seconds
    counter.refresh()
    assert "950 of 1,000 steps, 10 s left" in sys.stderr.getvalue()


def test_the_plain_counter_never_wraps(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    counter = _loop._Counter("fake", 1000)
    counter.n = 500
    counter.set_postfix({"loss": 1.0, "perplexity": 2.0, "rate": 3.0})
    counter.refresh()
    counter.clear()
    assert {len(line) for line in sys.stderr.getvalue().split("\r") if line} == {29}
