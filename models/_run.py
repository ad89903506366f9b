"""What all models share around their training loop, and nothing of the loop itself.

    def main(argv=None):
        with start("char_lm", __doc__, argv, steps=7001, smoke_steps=200) as run:
            weights = init.uniform(..., generator=run.generator("weights"))
            run.keep(model=model, optimizer=optimizer, batches=batches, losses=losses)
            state = run.carried(None)  # None, or where --resume goes on
            for step in run.steps():
                ...  # forward, loss, backward, clip, step
                state = run.carry(nn.detach(state))
                run.note(loss=loss.item(), clipped=clipped)
                if step % 1000 == 0:
                    with run.untimed():
                        run.test(perplexity=perplexity(...))
                        run.say(sample(...), "samples")
            run.finish("validation_perplexity", value, figures={"clipping": figure})

Bad arguments and bad data end in one line on stderr and exit code 2.  Ctrl-C ends the loop
after the step under way; the program goes on behind it, writes what was reached, and exits
with code 130.  A second Ctrl-C ends it at once.

Whatever ended a run, --resume goes on with it, from the newest checkpoint in OUT, to the same
bits as if it had not ended.  --tensorboard DIR writes what TensorBoard shows.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

import minigrad
from minigrad import kernels, plot
from minigrad.errors import MinigradError
from minigrad.files import replacing

from ._arguments import BAD_INPUT, complain, read
from ._board import Board, NoBoard
from ._loop import Stopwatch, on_ctrl_c, pause_while_compiling, progress_bar
from ._saving import Saver

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERRUPTED = 130  # exit code: as shells have it
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
    return Run(name, read(name, description, argv, options, steps, smoke_steps))


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
        self._clips = [0, 0]  # steps of this part: clipped, and all that said so
        self._warned: set[str] = set()
        self._saver = Saver(name, args, self.say)
        folder = args.tensorboard
        self._board = Board(folder) if folder is not None else NoBoard()

    def __enter__(self) -> Run:
        self._undo.enter_context(kernels.use(self.args.kernels))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._saver.forget()
        self._end_loop()
        self._undo.close()
        self._board.close()
        if isinstance(error, (MinigradError, OSError)):
            complain(self.name, f"error: {_spell(error)}")
            raise SystemExit(BAD_INPUT) from error
        if isinstance(error, KeyboardInterrupt):
            complain(self.name, "interrupted, nothing more is written")
            raise SystemExit(INTERRUPTED) from error
        if error is None and self.interrupted:
            raise SystemExit(INTERRUPTED)

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose ("weights", "samples"), set by --seed and its name.

        What is drawn for one purpose does not change what is drawn for another.
        """
        generator = np.random.default_rng([self.args.seed, *purpose.encode()])
        self._saver.register(purpose, generator)
        return generator

    def keep(self, *records: type, name: str = "", **objects: Any) -> None:
        """Say what the next loop depends on, and where its results go; --resume restores it.

        objects: as for ``checkpoint.load``: networks, optimisers, batches, lists, recorders.
        The generators made since the loop before are kept by themselves.  records: classes of
        named tuples among them.  name: of the part, where a run has several.
        Raises CheckpointError if the checkpoint does not fit.
        """
        self._clips = [0, 0]
        self._saver.keep(name, records, {"clips": self._clips, **objects})
        self._board.begin(name, objects, self._saver.first)

    def carried(self, *default: Any) -> Any:
        """What :meth:`carry` had last when the checkpoint was made; ``default`` at first."""
        values = default if self._saver.carried is None else self._saver.carried
        self._saver.carried = values
        return values[0] if len(values) == 1 else values

    def carry(self, *values: Any) -> Any:
        """Keep what goes on into the next step, if that is a variable of the loop's own.

        Returns the values, so that ``state = run.carry(state.detach())`` can be written.
        """
        self._saver.carried = values
        return values[0] if len(values) == 1 else values

    def steps(self, total: int | None = None) -> Iterator[int]:
        """Count 0, 1, 2 ... up to ``total`` (None: --steps), with a progress bar.

        After --resume it counts on from where the checkpoint was made.  The stopwatch runs
        while the loop does.  Ends early after Ctrl-C.
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
        saver, board = self._saver, self._board
        done = saver.first
        self.steps_done += done
        self._bar = progress_bar(self.name, total, done)
        clock, redraw = self._stopwatch, 0.0
        try:
            with pause_while_compiling(clock), clock.running():
                for step in range(done, total if not saver.ended else done):
                    to_save, to_show = saver.due(step, total), board.due(step, total)
                    if to_save or to_show or self.interrupted:
                        with clock.paused():
                            if to_show:
                                board.between(step)
                            saver.between(step, self.steps_done, self.seconds, self.interrupted)
                    if self.interrupted:
                        break
                    done += 1
                    self.steps_done += 1
                    yield step
                    if self._bar is not None and time.monotonic() >= redraw:
                        with clock.paused():
                            self._draw(done)
                        redraw = time.monotonic() + _REDRAW
        except GeneratorExit:
            saver.left(step)
            raise
        finally:
            board.between(done)
            if self._bar is not None:
                self._draw(done)
                self._bar.close()
                self._bar = None

    def _end_loop(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.close()

    def note(self, **values: Any) -> None:
        """Show numbers of this step beside the progress bar, and as TensorBoard's run "train".

        clipped: the report of ``clip_grad_norm_``, shown as global norm and share of clipped
        steps.  Text is shown too.
        """
        report = values.pop("clipped", None)
        if report is not None:
            self._clips[0] += report.clipped
            self._clips[1] += 1
            values["norm"] = report.before
            values["clipped"] = self._clips[0] / self._clips[1]
        self._notes.update(values)
        self._board.scalars("train", values)

    def test(self, **values: float) -> None:
        """Show results on data that are not trained on, and as TensorBoard's run "test".

        The first of them decides which checkpoint is the best: more is better for what begins
        with "accuracy" or "exact", less for everything else.
        """
        self._notes.update({f"test {name}": value for name, value in values.items()})
        self._saver.measured(values)
        self._board.scalars("test", values)

    def _draw(self, done: int) -> None:
        self._bar.n = done
        notes = dict(self._notes)
        if "clipped" in notes:
            notes["clipped"] = f"{notes['clipped']:.0%}"
        self._bar.set_postfix(notes, refresh=False)
        self._bar.refresh()

    def say(self, text: str = "", sample: str = "") -> None:
        """Print to stdout, without a collision with the progress bar.

        sample: the name under which TensorBoard shows the text, too.
        """
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)
        if self._bar is not None:
            self._bar.refresh()
        if sample:
            self._board.text(sample, text)

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
        return self._saver.seconds + self._stopwatch.seconds

    def finish(
        self,
        metric: str,
        value: float,
        figures: Mapping[str, Figure] | None = None,
        embeddings: Mapping[str, tuple[Any, Sequence[Any]]] | None = None,
        **extra: Any,
    ) -> None:
        """Write OUT/NAME.png for every figure and OUT/metrics.json, and say where they are.

        The networks that were kept go into OUT/weights.npz, for ``checkpoint.load``.
        metric, value: the document's own measure.  embeddings: points (N, D) and their labels
        by name, for TensorBoard.  extra: further entries of metrics.json; numbers that are not
        finite become null.  Raises OSError if a file cannot be written.
        """
        self._end_loop()
        figures = figures or {}
        self._board.figures(figures)
        for name, (points, labels) in (embeddings or {}).items():
            self._board.embedding(name, points, labels)
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
            complain(
                self.name,
                f"interrupted after {self.steps_done:,} of {self._steps_planned:,} steps; what was "
                f"reached is written (exit code {INTERRUPTED})",
            )
        self.say(
            f"{metric} {value:.4g} after {self.steps_done:,} steps, "
            f"{self.seconds:.1f} s of training"
        )
        names = [f"{name}.png" for name in figures]
        names += ["weights.npz"] if self._saver.save_weights(self.out / "weights.npz") else []
        files = ", ".join([*names, "metrics.json"])
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
