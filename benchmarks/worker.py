"""A process that does what it is asked, so that libraries that disturb each other can take turns.

Every contender runs in a process of its own: with its own number of threads, its own environment,
its own memory.  The parent says what to do and waits for the answer; who waits for work sleeps.

    with Worker("benchmarks.peers.work:Work", {"case": "char_lm", ...}) as worker:
        times = worker.ask("turn", seconds=0.1)

In the process, the class after the colon is made with the arguments, and its methods are called.
Arguments and answers go through a pipe, one line of JSON each.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]  # of the clone: benchmarks/ is not installed
LIMIT = 600.0  # seconds an answer may take unless said otherwise


class WorkerError(Exception):
    """A worker failed; the message is the last line of what it said."""


class Missing(WorkerError):
    """A library that a worker needs is not installed."""


class TooSlow(WorkerError):
    """A worker did not answer in time, and has been stopped."""


class Worker:
    """A process with an object in it; `ask` calls its methods.

    target: "module:class"; arguments: of the class.  environment: what it finds besides this
    process's own.  limit: seconds until the object must be there.
    Raises Missing, TooSlow, or WorkerError.
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        limit: float = LIMIT,
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")  # whatever libraries have to say
        self._pending = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", target],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env=os.environ | dict(environment or {}), cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        try:
            self.ask("", limit, **arguments)
        except WorkerError:
            self.close()
            raise

    def ask(self, method: str, limit: float = LIMIT, **arguments: Any) -> Any:
        """Call a method of the object and return what it returns."""
        assert self._process.stdin is not None
        line = json.dumps({"method": method, "arguments": arguments}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"has ended: {self._last_words()}") from error
        answer = json.loads(self._read_line(limit))
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["result"]

    def _read_line(self, limit: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + limit
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            if not ready:
                self.close()
                raise TooSlow(f"no answer within {limit:.0f} s")
            piece = os.read(pipe, 1 << 16)
            if not piece:
                self._process.wait()
                raise WorkerError(f"ended with {self._process.returncode}: {self._last_words()}")
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._said.seek(0)
        return (self._said.read().strip().splitlines() or ["no message"])[-1]

    def cpu_seconds(self) -> float:
        """Processor time used so far by all threads of the process; nan where nobody can tell."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return float("nan")
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process, whatever it is doing, and those that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)  # a group of its own, see start_new_session
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def idle_share(workers: Mapping[str, Worker], seconds: float = 0.5) -> dict[str, float]:
    """Share of a core that each worker uses while nobody asks it anything."""
    time.sleep(0.2)  # threads that look out for work for a while give up
    before = {name: worker.cpu_seconds() for name, worker in workers.items()}
    time.sleep(seconds)
    return {name: (workers[name].cpu_seconds() - used) / seconds for name, used in before.items()}


# -- in the process -----------------------------------------------------------------------------


def serve(target: str) -> None:
    """Answer what comes on standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    made: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if made is None:
                module, _, name = target.partition(":")
                made = getattr(importlib.import_module(module), name)(**request["arguments"])
                answer: dict[str, Any] = {"result": None}
            else:
                result = getattr(made, request["method"])(**request["arguments"])
                answer = {"result": result}
        except ImportError as error:
            answer = {"missing": str(error)}
        except Exception as error:
            traceback.print_exc()
            first = (str(error).strip().splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {first}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The process of a worker; returns 0."""
    serve((arguments or sys.argv[1:])[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
