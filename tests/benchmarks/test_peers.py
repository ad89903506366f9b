"""Who takes part in a case, who is left out and why, and the tables; workers are made up."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.peers import __main__ as program
from benchmarks.peers import contenders, driver, numpy_updates, table, work
from benchmarks.peers.gauge import Gauge
from benchmarks.worker import Missing, TooSlow, WorkerError


def _case(name):
    return importlib.import_module(f"benchmarks.peers.{name}")


@pytest.mark.parametrize("name", program.CASES)
def test_cases_are_complete(name):
    case = _case(name)
    rng = np.random.default_rng(0)
    weights, batches = case.draw_weights(rng), case.draw_batches(rng, 2)
    assert all(value.dtype == np.float32 for value in weights.values())
    assert isinstance(batches[0], tuple) or name == "char_lm"
    assert {"minigrad", "PyTorch eager", "JAX jit"} <= case.MAKERS.keys()
    assert case.FLOPS > 0 and case.JAX_THREADS in (None, 1)


def test_contenders_of_a_case():
    found = contenders.find("char_lm", _case("char_lm"), 2)
    assert {"minigrad", "minigrad, captured", "minigrad, 1 thread", "minigrad, captured, 1 thread",
            "PyTorch eager, 1 thread", "PyTorch eager, 2 threads", "PyTorch compiled, 2 threads",
            "JAX jit", "TensorFlow graph", "TensorFlow XLA",
            "autograd"} <= found.keys()  # fmt: skip
    assert next(iter(found)) == driver.REFERENCE
    assert found["PyTorch eager, 1 thread"].environment["OMP_NUM_THREADS"] == "1"
    assert found["JAX jit"].environment["PJRT_NPROC"] == "1"
    assert found["minigrad, captured, 1 thread"].environment == {"MINIGRAD_NUM_THREADS": "1"}
    assert not found["minigrad, captured"].environment
    alone = contenders.find("char_lm", _case("char_lm"), 1)
    assert not any("threads" in name for name in alone) and "minigrad, 1 thread" not in alone


def test_what_the_environment_says_of_xla_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    monkeypatch.setenv("PJRT_NPROC", "2")
    assert contenders.xla_environment(1) == {}


def test_every_peer_module_knows_only_cases():
    for name in contenders.PEERS:
        peer = importlib.import_module(f"benchmarks.peers.{name}")
        assert peer.MAKERS.keys() <= set(program.CASES), name


def test_cold_contenders_have_caches_of_their_own(tmp_path):
    found = contenders.find("char_lm", _case("char_lm"), 2)
    cold = [driver.without_caches(contender, str(tmp_path)) for contender in found.values()]
    assert len({contender.environment["NUMBA_CACHE_DIR"] for contender in cold}) == len(found)
    for before, after in zip(found.values(), cold):
        assert before.environment.items() <= after.environment.items()
        assert before.maker is after.maker


def test_disagreement():
    assert driver.disagreement([1, 2], [1, 2.0001]) is None
    assert "step 2" in driver.disagreement([1, 2], [1, 2.001])
    assert "step 1" in driver.disagreement([np.nan], [1])


class _Worker:
    """A worker with given times and losses, or one that fails when asked `fails_at`."""

    open = 0

    def __init__(self, seconds=1.0, losses=(2.0, 1.0), fails_at=None):
        self.seconds, self.losses, self.fails_at = seconds, losses, fails_at
        self.turns = 0
        _Worker.open += 1

    def ask(self, method, limit=0, **arguments):
        if method == self.fails_at:
            raise WorkerError("no")
        self.turns += method == "turn"
        return {
            "check": {"losses": list(self.losses),
                      "seconds": {"import": 1.0, "build": 0.5, "first_step": 3.0}},
            "warm_up": 0.1, "turn": [self.seconds, 7], "last_loss": 0.5,
            "memory": {"before": 100.0, "peak": 140.0},
        }[method]  # fmt: skip

    def cpu_seconds(self):
        return 0.0

    def close(self):
        _Worker.open -= 1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class _Gauge(_Worker):
    """Cores that reach 100, 200, ... operations a second from round to round."""

    def ask(self, method, limit=0):
        assert method == "turn"
        self.turns += 1
        return 100.0 * self.turns


OPTIONS = SimpleNamespace(threads=2, rounds=5, limit=10, memory=True, contenders=None, caches=None)


@pytest.fixture
def run(monkeypatch):
    """run(name=worker or error, ...) -> code and result of a case with these contenders."""

    def run_(**made):
        entries = {name: contenders.Contender(name, "minigrad" if name == "minigrad" else name,
                                              lambda weights: None) for name in made}  # fmt: skip

        def opened(case, contender, threads, limit):
            value = made[contender.name]
            if isinstance(value, Exception):
                raise value
            return _Worker(**value)

        monkeypatch.setattr(driver, "find", lambda *a: entries)
        monkeypatch.setattr(driver, "open_worker", opened)
        return driver.run("char_lm", OPTIONS)

    monkeypatch.setattr(driver, "open_gauge", lambda threads: _Gauge())
    monkeypatch.setattr(driver, "BREATH", 0)
    monkeypatch.setattr(driver.timing, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(driver.worker, "idle_share", lambda workers: dict.fromkeys(workers, 0.0))
    yield run_
    assert _Worker.open == 0, "a worker was left running"


def test_a_case_is_measured(run):
    code, found = run(minigrad={"seconds": 1.0}, fast={"seconds": 2.0}, slow={"seconds": 3.0})
    assert code == 0 and found["best_peer"] == "fast" and not found["left_out"]
    by_name = {row["name"]: row for row in found["contenders"]}
    assert by_name["minigrad"]["ratio"] == (0.5, 0.5, 0.5)
    assert by_name["slow"]["turns"] == [3e6] * 5 and by_name["slow"]["calls"] == 35
    assert by_name["fast"]["compile_seconds"] == 1.0  # 3 for the first step, 2 for any
    assert by_name["fast"]["to_first_step_seconds"] == 4.5
    assert table.step_megabytes(by_name["fast"]["memory"]) == 40
    assert found["product"] == (200, 300, 400)
    step = found["flops"]  # of a second each
    assert by_name["minigrad"]["share"] == pytest.approx((step / 400, step / 300, step / 200))
    text = table.table(found)
    assert text.splitlines()[1].startswith("minigrad") and "fastest peer" in text
    assert "in these rounds, minigrad" in text


def test_the_gauge_measures_a_product():
    assert 1e8 < Gauge(1).turn() < 1e13


def test_other_losses_are_left_out_and_counted_as_failure(run):
    code, found = run(minigrad={}, right={}, wrong={"losses": (2.0, 1.01)})
    assert code == 2 and "wrong" in found["left_out"]
    assert "other work" in found["left_out"]["wrong"]
    assert [row["name"] for row in found["contenders"]] == ["minigrad", "right"]


def test_missing_and_too_slow_are_named_and_no_failure(run):
    code, found = run(minigrad={}, there={}, gone=Missing("No module named 'gone'"),
                      slow=TooSlow("no answer within 10 s"))  # fmt: skip
    assert code == 0
    assert found["left_out"] == {
        "gone": "missing: No module named 'gone'", "slow": "too slow: no answer within 10 s",
    }  # fmt: skip
    assert "left out: gone" in table.table(found)


def test_a_crash_is_a_failure(run):
    code, found = run(minigrad={}, there={}, broken={"fails_at": "turn"})
    assert code == 2 and found["left_out"]["broken"].startswith("in round 1")


def test_who_is_far_behind_rests(run):
    _, found = run(minigrad={"seconds": 1.0}, near={"seconds": 2.0}, far={"seconds": 100.0})
    turns = {row["name"]: len(row["turns"]) for row in found["contenders"]}
    assert turns == {"minigrad": 5, "near": 5, "far": driver.FEW_ROUNDS}


def test_nobody_to_time(run):
    code, found = run(minigrad=Missing("nothing"))
    assert (code, found) == (2, {})


def test_work_takes_its_steps(monkeypatch):
    """The object that a worker holds, with minigrad's step of the smallest case."""
    steps = work.Work("linear_regression", "minigrad", 1)
    checked = steps.check()
    assert len(checked["losses"]) == work.CHECKED_STEPS
    assert {"import", "build", "first_step"} <= checked["seconds"].keys()
    assert steps.warm_up(0.0) > 0
    middle, calls = steps.turn(0.0)
    assert middle > 0 and calls >= 3 and np.isfinite(steps.last_loss())
    memory = steps.memory()
    assert memory["peak"] >= memory["before"] > 1


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam"])
def test_numpy_updates_are_those_of_minigrad(kind):
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    value, grads = rng.standard_normal(7).astype(np.float32), rng.standard_normal((3, 7))
    parameter = nn.Parameter(value.copy())
    ours = {"sgd": optim.SGD, "adagrad": optim.Adagrad, "adam": optim.Adam}[kind]
    optimizer, params = ours([parameter], lr=0.1), {"p": value.copy()}
    update = numpy_updates.rule(params, kind, 0.1)
    for g in grads.astype(np.float32):
        parameter.grad = mg.tensor(g)
        optimizer.step()
        update({"p": g.copy()})
    np.testing.assert_allclose(params["p"], parameter.numpy(), rtol=1e-5, atol=1e-6)


def test_clipping_by_the_global_norm():
    grads = {"a": np.array([3.0, 0.0], np.float32), "b": np.array([4.0], np.float32)}
    numpy_updates.clip(grads, 1.0)
    np.testing.assert_allclose([*grads["a"], *grads["b"]], [0.6, 0, 0.8], rtol=1e-6)
    numpy_updates.clip(grads, 2.0)
    np.testing.assert_allclose(grads["b"], [0.8], rtol=1e-6)
