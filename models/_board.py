"""--tensorboard DIR: what TensorBoard shows of a run.

Training and test are two runs of one chart, DIR/train and DIR/test, as in "TensorFlow notes"
(2018): a number of the same name has a curve in either.  A model that trains several networks
one after the other has both for each, DIR/PART/train.  DIR/report has what is drawn in the end.

tensorboardX writes the files (``pip install minigrad[train]``); ``tensorboard --logdir DIR``,
another package, shows them.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import Tensor, watch
from minigrad.nn import Module

from ._saving import networks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 1000  # of a curve, at most; TensorBoard shows no more
_HISTOGRAMS = 20  # of each parameter
_ROWS = 2000  # of an embedding


class NoBoard:
    """Shows nothing; what a run has without --tensorboard."""

    def begin(self, name: str, objects: Mapping[str, Any], first: int) -> None:
        """A part of the run begins, at step ``first``."""

    def due(self, step: int, total: int) -> bool:
        """Whether :meth:`between` is to be called before ``step`` of ``total``."""
        return False

    def between(self, step: int) -> None:
        """Histograms of the parameters and of their gradients in the step before."""

    def scalars(self, run: str, values: Mapping[str, Any]) -> None:
        """Points of the curves of one run, "train" or "test"; text is left out."""

    def text(self, name: str, text: str) -> None:
        """A sample of what the model writes."""

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """The pictures, as images."""

    def embedding(self, name: str, points: Any, labels: Sequence[Any]) -> None:
        """Points (N, D) for the projector, each with a label."""

    def close(self) -> None:
        """Write what is waiting."""


class Board(NoBoard):
    """Writes TensorBoard's files into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._name = ""  # of the part
        self._networks: dict[str, Module] = {}
        self._step, self._first, self._total = 0, 0, 1
        self._written: dict[tuple[str, str], int] = {}  # run and curve -> step of its last point
        self._backward: Any = None  # Tensor's own, while the first call of it is waited for

    def begin(self, name: str, objects: Mapping[str, Any], first: int) -> None:
        """A part of the run begins; its graph is that of its first loss."""
        self._stop_waiting()
        self._name, self._first, self._step = name, first, first
        self._written.clear()
        self._networks = networks_of(objects)
        self._wait_for_backward()

    def _writer(self, run: str) -> Any:
        """That of DIR/run, or DIR/PART/run; it hides what an earlier run left from here on."""
        from tensorboardX import SummaryWriter

        path = "/".join(part for part in (self._name if run != "report" else "", run) if part)
        if path not in self._writers:
            first = 0 if run == "report" else self._first
            folder = self._folder / path
            # A file's name is a second and a host: a run that goes on within that second would
            # write over the file of the run before it.  TensorBoard reads files by their names.
            number = sum(1 for _ in folder.glob("*.tfevents.*"))
            self._writers[path] = SummaryWriter(
                str(folder), purge_step=first, filename_suffix=f".{number:04d}"
            )
        return self._writers[path]

    # -- while it trains ----------------------------------------------------------------------

    def due(self, step: int, total: int) -> bool:
        """Whether histograms are to be written before ``step`` of ``total``."""
        self._step, self._total = step, total
        return step > self._first and step % max(1, total // _HISTOGRAMS) == 0

    def between(self, step: int) -> None:
        """Histograms of the parameters and of their gradients in the step before."""
        for name, network in self._networks.items():
            for key, parameter in network.named_parameters():
                self._histogram(f"weights/{name}.{key}", parameter.array, step)
                if parameter.grad is not None:
                    self._histogram(f"gradients/{name}.{key}", parameter.grad.array, step)

    def _histogram(self, name: str, array: np.ndarray, step: int) -> None:
        finite = array[np.isfinite(array)]
        if finite.size:
            self._writer("train").add_histogram(name, finite, step)

    def scalars(self, run: str, values: Mapping[str, Any]) -> None:
        """Points of the curves of one run; of curves with very many points a part."""
        every = max(1, self._total // _POINTS)
        for name, value in values.items():
            last = self._written.get((run, name))
            if isinstance(value, str) or (last is not None and self._step < last + every):
                continue
            self._written[run, name] = self._step
            self._writer(run).add_scalar(name, float(value), self._step)

    def text(self, name: str, text: str) -> None:
        """A sample of what the model writes, line by line."""
        lines = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown: as it stands
        self._writer("train").add_text(name, lines, self._step)

    # -- the graph ----------------------------------------------------------------------------

    def _wait_for_backward(self) -> None:
        """Draw the graph of the first loss that is walked: its loop does not have to say so."""
        self._backward = original = Tensor.backward

        def backward(loss: Tensor, *args: Any, **options: Any) -> None:
            self._stop_waiting()
            self._draw(loss)
            original(loss, *args, **options)

        Tensor.backward = backward

    def _stop_waiting(self) -> None:
        if self._backward is not None:
            Tensor.backward, self._backward = self._backward, None

    def _draw(self, loss: Tensor) -> None:
        from tensorboardX.proto.event_pb2 import Event

        for network in self._networks.values():
            list(network.named_parameters())  # which gives them their names
        graph = graph_of(watch.trace(loss))
        self._writer("train").file_writer.add_event(Event(graph_def=graph.SerializeToString()))

    # -- in the end ---------------------------------------------------------------------------

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """The pictures, as images."""
        from matplotlib.image import imread

        for name, figure in figures.items():
            file = io.BytesIO()
            figure.savefig(file, format="png")
            file.seek(0)
            pixels = imread(file)[..., :3]  # (H, W, 3) float32, 0 to 1
            self._writer("report").add_image(name, pixels, self._step, dataformats="HWC")

    def embedding(self, name: str, points: Any, labels: Sequence[Any]) -> None:
        """Points (N, D) for the projector, each with a label; the first 2,000."""
        points = np.asarray(points)[:_ROWS]
        writer = self._writer("report")
        if not any(each.startswith("embedding ") for each in self._writers):  # of an earlier run
            (self._folder / "report" / "projector_config.pbtxt").unlink(missing_ok=True)
        self._writers[f"embedding {name}"] = writer
        shutil.rmtree(self._folder / "report" / "00000" / name, ignore_errors=True)
        writer.add_embedding(points, [str(label) for label in labels[: len(points)]], tag=name)

    def close(self) -> None:
        """Write what is waiting."""
        self._stop_waiting()
        for writer in self._writers.values():
            writer.close()


def graph_of(trace: watch.Trace) -> Any:
    """A trace as TensorFlow's GraphDef: ops in the scopes of their layers and time steps."""
    from tensorboardX.proto.attr_value_pb2 import AttrValue
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.node_def_pb2 import NodeDef
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

    def shapes(found: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        each = [
            TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
            for shape in found
        ]
        return {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=each))}

    nodes: dict[str, Any] = {}
    names: list[str] = []
    for number, call in enumerate(trace.calls):
        scope = [*call.layer.split("."), *([f"step{call.t}"] if call.t is not None else [])]
        name = "/".join(_plain(part) for part in [*scope, f"{call.op}_{number}"] if part)
        parameters = [
            "/".join(_plain(part) for part in [*call.layer.split("."), leaf] if part)
            for leaf in call.leaves
            if not leaf.startswith("(")  # the shape of an array
        ]
        for parameter in parameters:
            nodes.setdefault(parameter, NodeDef(name=parameter, op="Parameter"))
        inputs = [names[place] for place in call.inputs] + parameters
        nodes[name] = NodeDef(name=name, op=call.op, input=inputs, attr=shapes(call.shapes))
        names.append(name)
    return GraphDef(node=list(nodes.values()))


def _plain(text: str) -> str:
    """``text`` with what TensorBoard allows in the name of a node."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", text).lstrip("_") or "x"
