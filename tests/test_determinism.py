"""The same seed gives the same bits: on one thread or two, and with other threads at work.

BLAS is another matter: what NumPy hands to it (products of three axes and more, einsum) may be
summed in another order when OPENBLAS_NUM_THREADS is another number, so that is 1 here.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import seq2seq

ROOT = Path(__file__).parents[1]
STEPS = 20


def recurrent(seed):
    """An LSTM of two layers with dropout, clipped, its state carried on."""
    rng = mg.manual_seed(seed)
    lstm = nn.Stacked([nn.LSTM(16, 64, generator=rng), nn.LSTM(64, 64, generator=rng)])
    head, dropout = nn.Linear(64, 16, generator=rng), nn.Dropout(0.3, generator=rng)
    parameters, state = [*lstm.parameters(), *head.parameters()], None
    optimizer = optim.Adam(parameters, lr=0.01)

    def step():
        nonlocal state
        ids = rng.integers(16, size=(64, 12))
        outputs, state = lstm(ids, state)
        loss = mg.cross_entropy(head(dropout(outputs)), np.roll(ids, 2, axis=1))
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        state = nn.detach(state)
        return loss

    return step, parameters


def convolutional(seed):
    """Two convolutions with batch norm and pooling."""
    rng = mg.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding="same", activation="relu", pool=2, generator=rng),
        nn.BatchNorm(16), nn.Conv2d(16, 16, 3, padding="same", generator=rng), nn.GELU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10, generator=rng),
    )  # fmt: skip
    optimizer = optim.Momentum(model.parameters(), lr=0.01)

    def step():
        x = rng.standard_normal((24, 16, 16, 1), dtype=np.float32)
        loss = mg.cross_entropy(model(x), rng.integers(10, size=24))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, [*model.parameters(), *(buffer for _, buffer in model.named_buffers())]


def dense(seed):
    """Three wide layers with layer norm and dropout."""
    rng = mg.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(128, 256, generator=rng), nn.LayerNorm(256), nn.ELU(),
        nn.Dropout(0.5, generator=rng), nn.Linear(256, 256, generator=rng), nn.Softplus(),
        nn.Linear(256, 1, generator=rng),
    )  # fmt: skip
    optimizer = optim.RMSProp(model.parameters(), lr=0.001)

    def step():
        x = rng.standard_normal((512, 128), dtype=np.float32)
        loss = mg.mse_loss(model(mg.tensor(x)), np.tanh(x[:, :1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, model.parameters()


def attending(seed):
    """Additive attention, whose products of three axes NumPy gives to BLAS."""
    rng = mg.manual_seed(seed)
    attention = seq2seq.Bahdanau(32, 24, 40, generator=rng)
    optimizer = optim.SGD(attention.parameters(), lr=0.1)

    def step():
        memory = mg.tensor(rng.standard_normal((32, 20, 40), dtype=np.float32))
        query = mg.tensor(rng.standard_normal((32, 12, 24), dtype=np.float32))
        context, _ = attention(query, attention.memory(memory))
        loss = mg.square(context).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, attention.parameters()


MODELS = {"recurrent": recurrent, "convolutional": convolutional, "dense": dense,
          "attending": attending}  # fmt: skip


def bits(name, steps=STEPS, seed=0):
    """What a training ends with, bit for bit: all losses and all parameters."""
    step, parameters = MODELS[name](seed)
    losses = [step().array.tobytes() for _ in range(steps)]
    return b"".join([*losses, *(p.array.tobytes() for p in parameters)])


# -- one thread or two, in processes of their own --------------------------------------------------

PROGRAM = """
import hashlib, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("trainings", sys.argv[1])
trainings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trainings)
from minigrad.kernels import threads
digests = {name: hashlib.sha256(trainings.bits(name)).hexdigest() for name in trainings.MODELS}
print(json.dumps({"digests": digests, "helpers": len(threads._team.workers)}))
"""


@pytest.fixture(scope="module")
def processes():
    """Threads -> what a process with so many found."""
    found = {}
    for threads in (1, 2):
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "MINIGRAD_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-c", PROGRAM, __file__]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert out.returncode == 0, out.stderr
        found[threads] = json.loads(out.stdout)
    return found


def test_two_threads_do_take_part(processes):
    assert (processes[1]["helpers"], processes[2]["helpers"]) == (0, 1)


@pytest.mark.parametrize("name", MODELS)
def test_one_thread_or_two(processes, name):
    assert processes[1]["digests"][name] == processes[2]["digests"][name]


def test_another_seed_gives_other_bits():
    assert bits("dense", 2) != bits("dense", 2, seed=1)
    assert bits("dense", 2) == bits("dense", 2)


# -- the run that compiles, and those that load what it kept --------------------------------------

LAYER_NORM = """
import hashlib
import numpy as np
import minigrad as mg
rng = mg.manual_seed(0)
arrays = rng.standard_normal((64, 256), dtype=np.float32), *rng.random((2, 256), dtype=np.float32)
x, gamma, beta = (mg.tensor(a, requires_grad=True) for a in arrays)
mg.square(mg.layer_norm(x, gamma, beta)).sum().backward()
print(hashlib.sha256(b"".join(t.grad.array.tobytes() for t in (x, gamma, beta))).hexdigest())
"""


def test_the_run_that_compiles_gives_the_bits_of_the_next(tmp_path):
    """Loops that a kernel calls are compiled by themselves as well, and round differently there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", LAYER_NORM], env=environment, capture_output=True, text=True,
            timeout=300, check=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert ["compiling" in run.stderr for run in runs] == [True, False]
    assert runs[0].stdout == runs[1].stdout


# -- several Python threads at once ----------------------------------------------------------------


def at_once(works):
    """Run functions side by side, beginning together; what they returned, or their error."""
    results, begin = [None] * len(works), threading.Barrier(len(works))

    def run(place):
        begin.wait()
        try:
            results[place] = works[place]()
        except BaseException as error:
            results[place] = error

    running = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return results


@pytest.fixture
def two_threads():
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    yield
    mg.set_num_threads(before)


def test_trainings_side_by_side(two_threads):
    """Each Python thread trains a model of its own, as if it were alone."""
    names = ["recurrent", "dense", "convolutional", "recurrent", "dense"]
    alone = [bits(name, 6, seed) for seed, name in enumerate(names)]
    works = [lambda n=n, s=s: bits(n, 6, s) for s, n in enumerate(names)]
    for found, expected in zip(at_once(works), alone, strict=True):
        assert found == expected


def inputs(seed):
    return np.random.default_rng(seed).standard_normal((16, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("capture", [False, True])
def test_shared_parameters_and_a_shared_captured_function(two_threads, capture):
    """Gradients of the inputs, through one model that all threads read."""
    rng = mg.manual_seed(0)
    lstm, head = nn.LSTM(12, 32, generator=rng), nn.Linear(32, 5, generator=rng)
    for parameter in [*lstm.parameters(), *head.parameters()]:
        parameter.requires_grad_(False)

    goal = np.zeros((16, 8, 5), np.float32)

    def loss_of(x):
        outputs, _ = lstm(x)
        return mg.mse_loss(head(outputs), goal)

    function = mg.capture(loss_of) if capture else loss_of

    def gradients(seeds, function):
        found = []
        for seed in seeds:
            x = mg.tensor(inputs(seed), requires_grad=True)
            loss = function(x)
            loss.backward()
            found += [loss.array.tobytes(), x.grad.array.tobytes()]
        return found

    parts = [range(k, 200, 4) for k in range(4)]
    alone = [gradients(part, loss_of) for part in parts]
    for found, expected in zip(
        at_once([lambda p=p: gradients(p, function) for p in parts]), alone, strict=True
    ):
        assert found == expected
    if capture:  # and replayed on buffers, of which there is one set for all threads
        (kind,) = function._kinds.values()
        assert kind.rerun.works


def test_no_grad_and_anomaly_mode_of_one_thread_are_not_those_of_another(two_threads):
    inside, leave = threading.Event(), threading.Event()

    def within():
        with mg.no_grad(), mg.detect_anomaly():
            inside.set()
            assert leave.wait(60)
            return mg.is_grad_enabled()

    def without():
        assert inside.wait(60)
        try:
            x = mg.tensor([0.0], requires_grad=True)
            with np.errstate(all="ignore"):
                y = mg.log(x)
            return y.requires_grad and bool(np.isinf(y.item()))
        finally:
            leave.set()

    assert at_once([within, without]) == [False, True]
