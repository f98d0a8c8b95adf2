"""A network as calls of torch's operators (ATen), read from a file: each call is checked against the operator's own schema, brought onto the
Canvas, and kept, so that torch can run the same calls later as an independent check. Only operators of a fixed table are ever called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.aten_ops import CONSTANT_OPS, HANDLERS, Arguments, Tensor
from fpga_squeeze.load.canvas import Canvas
from fpga_squeeze.load.features import BlockedNode, Feature, UnsupportedNode, clean
from fpga_squeeze.load.source import F32, Imported, SourceModel, Tap, refuse

MAX_CALLS = 20_000
MAX_CONSTANT_ELEMENTS = 128_000_000


@dataclass(frozen=True, eq=False)
class _Step:
    """One recorded call: the operator overload, its arguments by name (tensors as _Slot or constants), the slots of its results."""

    operator: Any
    arguments: dict[str, Any]
    results: tuple[str, ...]
    is_tuple: bool


@dataclass(frozen=True)
class _Slot:
    name: str


@dataclass(eq=False)
class Recorder:
    """Takes calls one by one; `finish` gives the import or one error about everything that cannot be built."""

    path: Path
    canvas: Canvas = field(default_factory=Canvas)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: int = 0
    _steps: list[_Step] = field(default_factory=list)
    _taps: list[Tap] = field(default_factory=list)
    _image: Tensor | None = None

    def image(self, channels: int, size: int, name: str) -> Tensor:
        """The network's one input, (1, channels, size, size)."""
        try:
            feature = self.canvas.input((channels, size, size), "NCHW")
        except UnsupportedNode as reason:
            raise InputError(f"{self.path}: the input {clean(name)!r}: {reason}") from reason
        self._image = Tensor(name, feature=feature)
        return self._image

    def call(self, op: str, overload: str | None, positional: Sequence[Any], named: Mapping[str, Any], name: str) -> Any:
        """Record `aten::op`. Gives a Tensor (or a tuple of them, or a number for sizes); on a refusal a Tensor that blocks its readers."""
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise InputError(f"{self.path}: more than {MAX_CALLS} operators; larger networks are not read")
        try:
            return self._call(op, overload, positional, named, name)
        except UnsupportedNode as reason:
            self.refusals.append((f"{clean(op)} {clean(name)!r}", str(reason)))
        except BlockedNode:
            pass
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError, RuntimeError) as error:
            self.refusals.append((f"{clean(op)} {clean(name)!r}", f"arguments of the wrong kind ({type(error).__name__})"))
        return Tensor(name, blocked=True)

    def unknown(self, op: str, name: str, reason: str) -> Tensor:
        """Record something that is no supported operator at all."""
        self.refusals.append((f"{clean(op)} {clean(name)!r}", reason))
        return Tensor(name, blocked=True)

    def _call(self, op: str, overload: str | None, positional: Sequence[Any], named: Mapping[str, Any], name: str) -> Any:
        if op not in HANDLERS and op not in CONSTANT_OPS:
            raise UnsupportedNode("no such operator in the machine or the importer")
        operator, arguments = _bind(op, overload, positional, named)
        tensors = [t for value in arguments.values() for t in (value if isinstance(value, list | tuple) else [value]) if isinstance(t, Tensor)]
        changed = arguments.get("self", arguments.get("input")) if op.endswith("_") else None
        if isinstance(changed, Tensor) and changed.constant is not None:
            raise UnsupportedNode("changes a tensor of the network itself; export the network for inference (model.eval())")
        if op in CONSTANT_OPS and tensors and all(t.constant is not None for t in tensors):
            return self._on_constants(operator, arguments, name)
        if op not in HANDLERS:
            raise UnsupportedNode("not supported on what the image becomes, only on constants")
        result = HANDLERS[op](Arguments(self.canvas, op, _layer_name(arguments, name), arguments))
        if isinstance(result, int):
            return result
        features = result if isinstance(result, tuple) else (result,)
        outputs = tuple(Tensor(name if i == 0 else f"{name}.{i}", feature=f, blocked=f is None) for i, f in enumerate(features))
        self._keep(operator, arguments, outputs, isinstance(result, tuple))
        if isinstance(changed, Tensor):
            changed.feature = outputs[0].feature  # who reads the changed tensor later reads the result
        return outputs if isinstance(result, tuple) else outputs[0]

    def _keep(self, operator: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...], is_tuple: bool) -> None:
        def stored(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.constant if value.constant is not None else _Slot(value.slot)
            return [stored(v) for v in value] if isinstance(value, list | tuple) else value

        kept = {key: stored(value) for key, value in arguments.items()}
        for i, output in enumerate(outputs):
            output.slot = f"{len(self._steps)}.{i}"
        self._steps.append(_Step(operator, kept, tuple(o.slot for o in outputs), is_tuple))
        feature = outputs[0].feature
        if feature is not None and feature.tail is None and not any(feature.pads):
            self._taps.append(Tap(outputs[0].slot, feature))

    def _on_constants(self, operator: Any, arguments: dict[str, Any], name: str) -> Tensor:
        values = {key: value.constant if isinstance(value, Tensor) else value for key, value in arguments.items()}
        shapes = [v.shape for v in values.values() if isinstance(v, torch.Tensor)]
        if len(shapes) > 1 and prod(np.broadcast_shapes(*(tuple(s) for s in shapes))) > MAX_CONSTANT_ELEMENTS:
            raise UnsupportedNode("makes too large a constant")
        origin = next(value.origin for value in arguments.values() if isinstance(value, Tensor))
        with torch.inference_mode():
            return Tensor(name, constant=operator(**values), origin=origin)

    def finish(self, output: Any, runner: str) -> Imported:
        """Raises InputError with every refusal, or when `output` is no vector of class scores."""
        if self.refusals:
            raise refuse(self.path, self.calls, self.refusals)
        if isinstance(output, list | tuple) and len(output) == 1:
            output = output[0]
        if not isinstance(output, Tensor) or output.feature is None:
            many = f"{len(output)} values" if isinstance(output, list | tuple) else "something else"
            raise InputError(f"{self.path}: the network gives {many}; one tensor, the class scores, was expected")
        assert self._image is not None and self._image.feature is not None
        try:
            graph = self.canvas.finish(output.feature)
        except UnsupportedNode as reason:
            raise InputError(f"{self.path}: {reason}") from reason
        if output.feature.tail is not None:
            self.notes.append(f"{output.feature.tail} at the end is left out: it does not change the ranking of the classes")
        taps = tuple(t for t in self._taps if t.feature.node in graph.by_name)
        image = Feature("image", self._image.feature.shape, self._image.feature.dims, self._image.feature.order)
        return Imported(graph, SourceModel(runner, image, taps, self.evaluate), tuple(self.notes))

    def evaluate(self, image: F32, wanted: Sequence[str]) -> dict[str, F32]:
        """Run the recorded calls by torch on (1, C, H, W) and give the tensors `wanted`, copied as they are made."""
        assert self._image is not None
        # a clone: recorded calls may change their input in place
        values: dict[str, Any] = {self._image.slot: torch.from_numpy(image).clone()}
        found: dict[str, F32] = {}

        def load(value: Any) -> Any:
            if isinstance(value, _Slot):
                return values[value.name]
            return [load(v) for v in value] if isinstance(value, list) else value

        with torch.inference_mode():
            for step in self._steps:
                made = step.operator(**{key: load(value) for key, value in step.arguments.items()})
                for slot, tensor in zip(step.results, made if step.is_tuple else (made,), strict=True):
                    values[slot] = tensor
                    if slot in wanted:
                        found[slot] = np.array(tensor.to(torch.float32).numpy(), copy=True)
        return found


def _bind(op: str, overload: str | None, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The operator overload whose schema takes these arguments, and all of them by name, defaults included."""
    packet = getattr(torch.ops.aten, op)
    names = [overload] if overload is not None else sorted(packet.overloads(), key=lambda n: (n != "default", n != "Tensor", n))
    for candidate in names:
        if candidate not in packet.overloads():
            break
        schema = getattr(packet, candidate)._schema
        arguments: dict[str, Any] = {}
        given = list(positional)
        for a in schema.arguments:
            if given and not a.kwarg_only:
                arguments[a.name] = given.pop(0)
            elif a.name in named:
                arguments[a.name] = named[a.name]
            elif a.has_default_value():
                arguments[a.name] = a.default_value
            else:
                break
            if not _fits(arguments[a.name], str(a.type)):
                break
        else:
            if not given and not set(named) - set(arguments):
                return getattr(packet, candidate), arguments
    raise UnsupportedNode("its arguments fit no version of the operator")


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return kind.startswith(("Optional", "NoneType")) or kind in ("Any",)
    kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
    if kind == "Tensor":
        return isinstance(value, Tensor)
    if kind.startswith("List[Tensor") or kind.startswith("List[Optional[Tensor"):
        return isinstance(value, list | tuple) and all(isinstance(v, Tensor) for v in value)
    if kind.startswith("List["):
        number = (int, float) if "float" in kind else int
        return isinstance(value, list | tuple) and all(isinstance(v, number) and not isinstance(v, bool) for v in value)
    simple: dict[str, Any] = {"bool": bool, "str": str, "float": (int, float), "number": (int, float), "int": int}
    if kind in simple:
        return isinstance(value, simple[kind]) and (kind == "bool" or not isinstance(value, bool) or kind == "number")
    return not isinstance(value, Tensor)


def _layer_name(arguments: dict[str, Any], name: str) -> str:
    """The module path that the weights' name gives away, else `name`."""
    for key in ("weight", "mat2", "other"):
        value = arguments.get(key)
        if isinstance(value, Tensor) and value.origin.endswith(".weight"):
            return value.origin.removesuffix(".weight")
    return name
