"""The arguments of all models, and what is said of bad ones."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

BAD_INPUT = 2  # exit code, as argparse has it


def read(
    name: str,
    description: str | None,
    argv: Sequence[str] | None,
    options: Callable[[argparse.ArgumentParser], Any] | None,
    steps: int,
    smoke_steps: int,
) -> argparse.Namespace:
    """The arguments of a run, as ``start`` in ``_run.py`` describes them.

    Exits with code 2 and one line if one is bad or OUT cannot be written.
    """
    parser = Parser(
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
    parser.add_argument(
        "--resume", action="store_true",
        help="go on from OUT's newest checkpoint; from the beginning if there is none",
    )  # fmt: skip
    parser.add_argument(
        "--save-every", type=whole_number(1), metavar="N",
        help="steps between two checkpoints (default: as often as takes under 2%% of the time)",
    )  # fmt: skip
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="a folder to write TensorBoard's files to"
    )
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
    if args.tensorboard is not None and find_spec("tensorboardX") is None:
        parser.error("argument --tensorboard: needs tensorboardX; pip install 'minigrad[train]'")
    return args


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


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        complain(self.prog.rpartition(".")[2], f"error: {message} (--help explains)")
        raise SystemExit(BAD_INPUT)


def complain(name: str, message: str) -> None:
    """One line on stderr."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)
