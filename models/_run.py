"""What all models share around their training loop, and nothing of the loop itself.

    def main(argv=None):
        with start("char_lm", __doc__, argv, steps=7001, smoke_steps=200) as run:
            weights = init.uniform(..., generator=run.generator("weights"))
            for step in run.steps():
                ...  # forward, loss, backward, clip, step, detach
                run.note(loss=loss.item())
                if step % 1000 == 0:
                    with run.untimed():
                        run.say(sample(...))
            run.finish("validation_perplexity", value, figures={"clipping": figure})

Bad arguments and bad data end in one line on stderr and exit code 2.  Ctrl-C ends the loop
after the step under way; the program goes on behind it, writes what was reached, and exits
with code 130.  A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numba
import numpy as np

import minigrad
from minigrad import kernels, plot
from minigrad.errors import MinigradError
from minigrad.files import replacing

from ._loop import Stopwatch, on_ctrl_c, pause_while_compiling, progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes: as argparse has it, as shells have it
_REDRAW = 0.1  # seconds between two drawings of the progress bar


def start(
    name: str,
    description: str | None,
    argv: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], Any] | None = None,
    *,
    steps: int,
    smoke_steps: int,
) -> Run:
    """Read the arguments and prepare a run, to be used in a ``with`` block.

    name: of the model's module.  description: what ``--help`` explains, the module's
    docstring.  argv: the arguments (None: those of the process).  options: called with the
    parser to add the model's own.  steps: how many by default; smoke_steps: with --smoke.
    Exits with code 2 and one line if an argument is bad or OUT cannot be written.
    """
    parser = _Parser(
        prog=f"python -m models.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N",
        help=f"training steps (default: {steps}, with --smoke {smoke_steps})",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N",
        help="of everything random (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("runs", name), metavar="FOLDER",
        help="for figures and metrics.json (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--smoke", action="store_true", help="a short run that only shows that all works"
    )
    parser.add_argument(
        "--kernels", choices=["numba", "numpy", "check"], default="numba",
        help="compiled, their readable NumPy twins, or both compared (default: %(default)s)",
    )  # fmt: skip
    if options is not None:
        options(parser)
    args = parser.parse_args(argv)
    if args.steps is None:
        args.steps = smoke_steps if args.smoke else steps
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.out):
            pass  # better to hear now than after training that nothing can be written
    except OSError as error:
        parser.error(f"argument --out: cannot write to {args.out}: {error.strerror}")
    return Run(name, args)


def whole_number(least: int) -> Callable[[str], int]:
    """A ``type=`` for arguments: an integer of at least ``least``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {least}, got {text!r}"
            )
        return value

    return read


def real_number(above: float, most: float = math.inf) -> Callable[[str], float]:
    """A ``type=`` for arguments: a finite number larger than ``above`` and at most ``most``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (above < value <= most and math.isfinite(value)):
            limit = f" and at most {most:g}" if math.isfinite(most) else ""
            raise argparse.ArgumentTypeError(
                f"must be a number larger than {above:g}{limit}, got {text!r}"
            )
        return value

    return read


class Run:
    """One run of a model.  args: the parsed arguments; out: the folder for its files."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name = name
        self.args = args
        self.out: Path = args.out
        self.interrupted = False
        self.steps_done = 0
        self._steps_planned = 0
        self._stopwatch = Stopwatch()
        self._undo = ExitStack()  # what the end of the with block takes back
        self._loop: Callable[[], Any] = lambda: None  # weak reference to the generator
        self._bar: Any = None
        self._notes: dict[str, Any] = {}
        self._warned: set[str] = set()

    def __enter__(self) -> Run:
        self._undo.enter_context(kernels.use(self.args.kernels))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self._end_loop()
        self._undo.close()
        if isinstance(error, (MinigradError, OSError)):
            _complain(self.name, f"error: {_spell(error)}")
            raise SystemExit(BAD_INPUT) from error
        if isinstance(error, KeyboardInterrupt):
            _complain(self.name, "interrupted, nothing more is written")
            raise SystemExit(INTERRUPTED) from error
        if error is None and self.interrupted:
            raise SystemExit(INTERRUPTED)

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose ("weights", "samples"), set by --seed and its name.

        What is drawn for one purpose does not change what is drawn for another.
        """
        return np.random.default_rng([self.args.seed, *purpose.encode()])

    def steps(self, total: int | None = None) -> Iterator[int]:
        """Count 0, 1, 2 ... up to ``total`` (None: --steps), with a progress bar.

        The stopwatch runs while the loop does.  Ends early after Ctrl-C.
        """
        total = self.args.steps if total is None else total
        if not self._steps_planned:
            self._undo.enter_context(on_ctrl_c(self._interrupt))
        self._steps_planned += total
        loop = self._count(total)
        self._loop = weakref.ref(loop)  # a strong one would keep a loop that was left by break
        return loop

    def _interrupt(self) -> None:
        self.interrupted = True

    def _count(self, total: int) -> Iterator[int]:
        self._bar = progress_bar(self.name, total)
        clock, redraw, done = self._stopwatch, 0.0, 0
        try:
            with pause_while_compiling(clock), clock.running():
                for step in range(total):
                    if self.interrupted:
                        break
                    done += 1
                    self.steps_done += 1
                    yield step
                    if self._bar is not None and time.monotonic() >= redraw:
                        with clock.paused():
                            self._draw(done)
                        redraw = time.monotonic() + _REDRAW
        finally:
            if self._bar is not None:
                self._draw(done)
                self._bar.close()
                self._bar = None

    def _end_loop(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.close()

    def note(self, **values: Any) -> None:
        """Show numbers beside the progress bar, as ``loss=1.52``."""
        self._notes.update(values)

    def _draw(self, done: int) -> None:
        self._bar.n = done
        self._bar.set_postfix(self._notes, refresh=False)
        self._bar.refresh()

    def say(self, text: str = "") -> None:
        """Print to stdout, without a collision with the progress bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """``with run.untimed():`` for what is not training: evaluation, samples."""
        with self._stopwatch.paused():
            yield

    @contextmanager
    def lesson(self) -> Iterator[None]:
        """``with run.lesson():`` for what is wrong on purpose.

        A warning that comes up in the block is printed as part of the lesson, once in a run.
        """

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if str(message) not in self._warned:
                self._warned.add(str(message))
                self.say(f"{category.__name__}: {message}")

        with warnings.catch_warnings():
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            warnings.showwarning = show
            yield

    @property
    def seconds(self) -> float:
        """Seconds spent in training so far; neither compiling nor untimed blocks count."""
        return self._stopwatch.seconds

    def finish(
        self,
        metric: str,
        value: float,
        figures: Mapping[str, Figure] | None = None,
        **extra: Any,
    ) -> None:
        """Write OUT/NAME.png for every figure and OUT/metrics.json, and say where they are.

        metric, value: the document's own measure.  extra: further entries of metrics.json;
        numbers that are not finite become null.  Raises OSError if a file cannot be written.
        """
        self._end_loop()
        figures = figures or {}
        for name, figure in figures.items():
            plot.save(figure, self.out / f"{name}.png")
        metrics = {
            "model": self.name,
            "seed": self.args.seed,
            "steps": self.steps_done,
            "metric": {"name": metric, "value": value},
            "seconds": self.seconds,
            "versions": versions(),
            "threads": minigrad.get_num_threads(),
            "kernels": self.args.kernels,
            "interrupted": self.interrupted,
            **extra,
        }
        with replacing(self.out / "metrics.json") as file:
            file.write((json.dumps(_plain(metrics), indent=2, allow_nan=False) + "\n").encode())
        if self.interrupted:
            _complain(
                self.name,
                f"interrupted after {self.steps_done:,} of {self._steps_planned:,} steps; what was "
                f"reached is written (exit code {INTERRUPTED})",
            )
        self.say(
            f"{metric} {value:.4g} after {self.steps_done:,} steps, "
            f"{self.seconds:.1f} s of training"
        )
        files = ", ".join([*(f"{name}.png" for name in figures), "metrics.json"])
        self.say(f"written to {self.out}: {files}")


def versions() -> dict[str, str]:
    """What a result depends on besides the seed."""
    return {
        "minigrad": minigrad.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        _complain(self.prog.rpartition(".")[2], f"error: {message} (--help explains)")
        raise SystemExit(BAD_INPUT)


def _complain(name: str, message: str) -> None:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _spell(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _plain(value: Any) -> Any:
    """``value`` made of what JSON knows: arrays as lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):  # np.float64 too
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # arrays, NumPy's numbers, tensors
        return _plain(value.tolist())
    return str(value) if isinstance(value, Path) else value
