"""Workers: questions, answers, failures, time limits, and nothing done while waiting."""

import os
import time

import pytest

from benchmarks import worker
from benchmarks.worker import Missing, TooSlow, Worker, WorkerError

HERE = "tests.benchmarks.test_worker:Object"


class Object:
    """What the tests' workers hold."""

    def __init__(self, start=0, fail=""):
        if fail == "import":
            raise ImportError("No module named 'nowhere'")
        if fail == "exit":
            os._exit(3)
        self.value = start

    def add(self, number):
        print("this is no answer")
        self.value += number
        return self.value

    def fail(self):
        raise ValueError("wrong on purpose\nsecond line")

    def sleep(self, seconds):
        time.sleep(seconds)

    def environment(self, name):
        return os.environ.get(name)


def test_questions_and_answers():
    with Worker(HERE, {"start": 5}, {"MINIGRAD_TEST": "yes"}, limit=60) as object_:
        assert object_.ask("add", 60, number=2) == 7
        assert object_.ask("environment", 60, name="MINIGRAD_TEST") == "yes"
        with pytest.raises(WorkerError, match="ValueError: wrong on purpose$"):
            object_.ask("fail", 60)
        assert object_.ask("add", 60, number=1) == 8  # it goes on
        assert worker.idle_share({"it": object_}, seconds=0.2)["it"] < 0.2
        with pytest.raises(TooSlow, match="no answer"):
            object_.ask("sleep", 0.2, seconds=60)
        assert object_._process.poll() is not None


def test_what_is_missing_and_what_dies():
    with pytest.raises(Missing, match="nowhere"):
        Worker(HERE, {"fail": "import"}, limit=60)
    with pytest.raises(WorkerError, match="ended with 3"):
        Worker(HERE, {"fail": "exit"}, limit=60)
