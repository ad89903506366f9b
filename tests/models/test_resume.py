"""--resume: a run that was killed at any moment and goes on ends with the bits of one that was not.

The kill test starts real processes, ends them with SIGKILL, and starts them again with --resume
until one gets to its end.  ``test_every_model_resumes`` leaves every model's loop in the middle.
"""

import importlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minigrad import checkpoint
from models import MODELS, _run, _saving

ROOT = Path(_run.__file__).parents[1]
KILLS = 10  # of each model: 20 in all
SHORT = {  # arguments of a short run
    "echo_rnn": ["--steps", "700", "--save-every", "7"],
    "mnist_cnn": ["--smoke", "--steps", "12", "--batch", "4", "--save-every", "2"],
}
SIZE = {"echo_rnn": 100_000, "mnist_cnn": 80_000_000}  # bytes, of a few checkpoints

# The process kills itself: when so many seconds of training have passed, or so many bytes of a
# checkpoint were written.  A parent that waits for a moment would mostly hit the imports.
# Pictures take longer than all the rest: test_every_model_resumes looks at them.
PROGRAM = """
import io, os, random, signal, sys, threading, time
sys.path.insert(0, {root!r})
from models import _loop, _run, {name}
from minigrad import files

_run.plot.save = lambda figure, path: None
{name}.LOOK = {name}.AT_ONCE = 60

def die():
    os.kill(os.getpid(), signal.SIGKILL)

how, amount = {how!r}, {amount!r}
count = _run.Run._count
def counted(self, total):
    if how == "seconds":
        threading.Thread(target=lambda: (time.sleep(amount), die()), daemon=True).start()
    for done, step in enumerate(count(self, total)):
        if how == "step" and done == amount:
            die()
        yield step
_run.Run._count = counted

class Mortal(io.FileIO):
    left = amount
    def write(self, data):
        Mortal.left -= len(data)
        if Mortal.left < 0:
            super().write(bytes(data)[: len(data) // 2])
            die()
        return super().write(data)

if how == "bytes":
    files.open = lambda path, mode: Mortal(path, "w")
elif how in ("replace", "fsync", "unlink"):
    original, calls = getattr(os, how), iter(range(amount))
    def fatal(*args, **options):
        if next(calls, None) is None:
            die()
        return original(*args, **options)
    setattr(os, how, fatal)
{name}.main({argv!r})
"""


def run(name, out, *extra, kill=None):
    """A model in a process of its own; whether it got to its end."""
    argv = ["--out", str(out), *SHORT[name], *extra]
    how, amount = kill or ("", 0)
    program = PROGRAM.format(root=str(ROOT), name=name, how=how, amount=amount, argv=argv)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


def compare(straight, resumed):
    """Weights, numbers and pictures, bit for bit."""
    names, others = (
        {path.name for path in folder.iterdir() if not path.name.endswith(".part")}  # half written
        for folder in (straight, resumed)
    )
    assert names == others >= {"checkpoints", "metrics.json"}
    for name in names & {"weights.npz"}:
        with np.load(straight / name) as a, np.load(resumed / name) as b:
            assert a.files == b.files and len(a.files) > 1
            for key in a.files:
                assert np.asarray(a[key]).tobytes() == np.asarray(b[key]).tobytes(), key
    a, b = (json.loads((folder / "metrics.json").read_text()) for folder in (straight, resumed))
    for metrics in (a, b):
        metrics.pop("seconds")
    assert a == b
    for name in names:
        if name.endswith(".png"):
            assert (straight / name).read_bytes() == (resumed / name).read_bytes(), name


def moments(name, random):
    """Ways to die, at random moments: while training, in a file, between two files."""
    steps = int(SHORT[name][SHORT[name].index("--steps") + 1])
    while True:
        yield "step", int(random.integers(1, steps // 3))
        yield "bytes", int(random.integers(1, SIZE[name]))
        yield "seconds", float(random.uniform(0.01, 0.4))
        yield ("fsync", "replace", "unlink")[random.integers(3)], int(random.integers(6))


def kill_and_resume(name, folder, seed):
    """Kill it ten times, each time going on from where it was; then let it get to its end."""
    straight, killed = folder / "straight", folder / "killed"
    assert run(name, straight)
    kept = checkpoint.Folder(killed / "checkpoints")
    deaths, newest = [], 0
    for kill in itertools.islice(moments(name, np.random.default_rng(seed)), 4 * KILLS):
        if run(name, killed, "--resume", kill=kill):  # it was too quick: begin again
            compare(straight, killed)
            shutil.rmtree(killed)
            newest = 0
            continue
        deaths.append(kill)
        steps = [checkpoint.read(path)["step"] for path in kept.paths]  # all are whole
        assert max(steps, default=0) >= newest, f"{kill} lost the newest checkpoint"
        newest = max(steps, default=0)
        if len(deaths) == KILLS:
            break
    assert len(deaths) == KILLS
    assert run(name, killed, "--resume")
    compare(straight, killed)
    return deaths


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_killed_at_twenty_random_moments_and_resumed(tmp_path):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)  # shown if it fails
    with ThreadPoolExecutor(len(SHORT)) as pool:
        found = [pool.submit(kill_and_resume, name, tmp_path / name, seed) for name in SHORT]
        deaths = [death for each in found for death in each.result()]
    assert len(deaths) == 20
    print(deaths)


class Killed(BaseException):
    """Ends a loop as nothing in it expects."""


def run_here(monkeypatch, name, out, *extra, stop=None):
    """A model in this process, left before the ``stop``-th of its steps; how many it did."""
    done = 0
    count = _run.Run._count

    def counted(self, total):
        nonlocal done
        for step in count(self, total):
            if done == stop:
                raise Killed
            done += 1
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(_run.Run, "_count", counted)
        try:
            importlib.import_module(f"models.{name}").main(["--smoke", "--out", str(out), *extra])
        except Killed:
            pass
    return done


FAST = "linear_regression curve_regression iris_softmax mnist_softmax sine_lstm char_lm".split()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(model.name, marks=() if model.name in FAST else pytest.mark.slow)
        for model in MODELS
    ],
)
def test_every_model_resumes(tmp_path, monkeypatch, name):
    """Left in the middle (of the second of three trainings, say), and gone on with."""
    length = {"echo_rnn": ("700", "50"), "numpy_forward": ("4", "1")}.get(name, ("7", "2"))
    extra = ["--steps", length[0], "--save-every", length[1]]
    straight, left = tmp_path / "straight", tmp_path / "left"
    total = run_here(monkeypatch, name, straight, *extra)
    assert run_here(monkeypatch, name, left, *extra, stop=round(total * 0.6)) == round(total * 0.6)
    assert not (left / "metrics.json").exists()
    assert run_here(monkeypatch, name, left, *extra, "--resume") < total
    compare(straight, left)
    assert run_here(monkeypatch, name, left, *extra, "--resume") < total  # there is little to do
    compare(straight, left)


# -- the saver --------------------------------------------------------------------------------


@pytest.fixture
def begin(tmp_path):
    def begin(arguments="", steps=20):
        argv = ["--out", str(tmp_path), "--steps", str(steps), *arguments.split()]
        return _run.start("fake", "", argv, steps=steps, smoke_steps=1)

    return begin


def walk(run, stop=None, score=None):
    """A random walk, with everything that can be kept; its places."""
    random, places = run.generator("steps"), []
    run.keep(places=places)
    place = run.carried(0.0)
    for step in run.steps():
        if step == stop:
            raise Killed
        place = run.carry(place + random.standard_normal())
        places.append(place)
        if score is not None:
            run.test(loss=score[step])
    run.finish("place", place)
    return places


def steps_saved(tmp_path):
    folder = checkpoint.Folder(tmp_path / "checkpoints")
    return [checkpoint.read(path)["step"] for path in folder.paths]


def test_a_run_without_a_checkpoint_begins_at_the_beginning(begin, capsys):
    with begin() as run:
        wanted = walk(run)
    with begin("--resume --out " + str(run.out / "other")) as run:
        assert walk(run) == wanted
    assert "no checkpoint in" in capsys.readouterr().out


def test_checkpoints_come_every_so_many_steps_and_three_are_kept(begin, tmp_path):
    with pytest.raises(Killed), begin("--save-every 4") as run:
        walk(run, stop=18)
    assert steps_saved(tmp_path) == [8, 12, 16]
    with begin("--save-every 4 --resume") as run:
        assert len(walk(run)) == 20
        assert run.steps_done == 20


def test_the_best_is_kept_too(begin, tmp_path):
    scores = [5.0, 1.0, *[3.0] * 18]
    with pytest.raises(Killed), begin("--save-every 4") as run:
        walk(run, stop=18, score=scores)
    assert steps_saved(tmp_path) == [2, 8, 12, 16]  # 2 steps were done when it was measured
    assert checkpoint.Folder(tmp_path / "checkpoints").best.name == "step-000000002.npz"


def test_by_default_saving_costs_little(begin, tmp_path, monkeypatch):
    """Never before ten seconds, and sixty times what the last one took."""
    now = [0.0]
    monkeypatch.setattr(_saving.time, "monotonic", lambda: now[0])
    save, taken = checkpoint.Folder.save, []

    def slow(self, step, *args, **values):
        taken.append(step)
        now[0] += 0.5
        return save(self, step, *args, **values)

    monkeypatch.setattr(checkpoint.Folder, "save", slow)
    with begin(steps=100) as run:
        run.keep()
        for _ in run.steps():
            now[0] += 1.0
    assert taken == [10, 40, 70]  # 10 s, then 30 s each; the end comes too soon after the last
    assert 0.5 * len(taken) < 0.02 * now[0]


def test_a_new_run_replaces_the_checkpoints_of_an_old_one_when_it_saves(begin, tmp_path):
    with begin("--save-every 4") as run:
        walk(run)
    with pytest.raises(Killed), begin("--save-every 4 --seed 1") as run:
        walk(run, stop=3)
    assert steps_saved(tmp_path) == [8, 12, 16]  # the old ones still
    with pytest.raises(Killed), begin("--save-every 4 --seed 1") as run:
        walk(run, stop=6)
    assert steps_saved(tmp_path) == [4]


@pytest.mark.parametrize("arguments", ["--seed 1", "--kernels numpy", "--smoke"])
def test_a_checkpoint_of_other_arguments_is_refused(begin, tmp_path, capsys, arguments):
    with begin("--save-every 4") as run:
        walk(run)
    before = steps_saved(tmp_path)
    with pytest.raises(SystemExit) as caught, begin(arguments + " --resume") as run:
        walk(run)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and arguments.split()[0] in said
    assert steps_saved(tmp_path) == before


def test_more_steps_than_before_go_on(begin):
    with begin("--save-every 4", steps=20) as run:
        walk(run)
    with begin("--resume", steps=30) as run:
        more = walk(run)
    with begin(steps=30) as run:
        assert walk(run) == more


def test_damage_is_one_line_and_exit_code_2(begin, tmp_path, capsys):
    with begin("--save-every 4") as run:
        walk(run)
    newest = checkpoint.Folder(tmp_path / "checkpoints").newest
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.raises(SystemExit) as caught, begin("--resume") as run:
        walk(run)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and newest.name in said
    checkpoint.save(newest, model="fake")  # whole, but of no run
    with pytest.raises(SystemExit) as caught, begin("--resume") as run:
        walk(run)
    assert caught.value.code == 2 and newest.name in capsys.readouterr().err


def test_ctrl_c_saves_where_it_was(begin, tmp_path):
    with begin() as run:
        wanted = walk(run)
    (tmp_path / "metrics.json").unlink()
    with pytest.raises(SystemExit) as caught, begin() as run:
        random, places = run.generator("steps"), []
        run.keep(places=places)
        place = run.carried(0.0)
        for step in run.steps():
            place = run.carry(place + random.standard_normal())
            places.append(place)
            if step == 6:
                signal.raise_signal(signal.SIGINT)
    assert caught.value.code == 130 and steps_saved(tmp_path)[-1] == 7
    with begin("--resume") as run:
        assert walk(run) == wanted


def test_seconds_of_training_add_up(begin, monkeypatch):
    with pytest.raises(Killed), begin("--save-every 4") as run:
        run.keep()
        for step in run.steps():
            if step == 8:
                before = run.seconds
            if step == 9:
                raise Killed
            time.sleep(0.002)
    with begin("--resume") as run:
        walk_seconds = run.seconds
        run.keep()
        assert walk_seconds == 0 < run.seconds <= before
