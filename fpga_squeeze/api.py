"""The Python interface: what the command line does, as functions and one class. Same checks, same files, same exceptions (errors.py)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze import jobs, pipeline
from fpga_squeeze.config import ExportConfig, load_config
from fpga_squeeze.emit.writer import read_manifest
from fpga_squeeze.errors import FpgaSqueezeError, InputError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.ir import Graph
from fpga_squeeze.jobs import EvaluationReport, Prediction
from fpga_squeeze.load.arrays import ImageLike, batch_pixels, picture_pixels
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.pipeline import Progress, no_progress
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.layer_trace import LayerError, trace_layers
from fpga_squeeze.verify.checks import Verification, VerifyOptions

if TYPE_CHECKING:
    import torch

PathLike = str | os.PathLike[str]
DEFAULT_OUT = "hls_out/squeezenet"


class ExportOptions(TypedDict, total=False):
    """Keyword options of `export`: the fields of `ExportConfig`, which says what each means. The tables,
    `layer_bits`, `layer_codebooks` and `layer_act_bits`, may also be dictionaries."""

    arch: str
    input_size: int
    ceil_mode: bool
    conv10_padding: int
    preprocess: str
    weight_bits: int
    act_bits: int
    layer_bits: Mapping[str, int] | tuple[tuple[str, int], ...]
    weight_budget: str
    max_drop: float
    quantizer: str
    codebook_bits: int
    layer_codebooks: Mapping[str, int] | tuple[tuple[str, int], ...]
    layer_act_bits: Mapping[str, int] | tuple[tuple[str, int], ...]
    budget: str
    device: str
    target_fps: float
    clock_mhz: float
    max_dsp: int
    utilisation: float
    weights: str
    weight_storage: str
    folding: PathLike
    golden_frames: int
    top: str
    rtl_top_k: int
    onnx_dialect: str


class CheckOptions(TypedDict, total=False):
    """Keyword options of `Design.verify`: the fields of `VerifyOptions`."""

    hls: bool
    rtl: bool
    frames: int
    hls_include: Path
    cxx: str
    simulator: str
    stalls: str
    waves: bool
    rtl_dir: Path
    onnx: bool


def export(
    model: PathLike | torch.nn.Module,
    out: PathLike = DEFAULT_OUT,
    *,
    calibration: PathLike | Sequence[PathLike] | NDArray[np.uint8],
    config: ExportConfig | PathLike | None = None,
    force: bool = False,
    progress: Progress = no_progress,
    **options: Unpack[ExportOptions],
) -> Design:
    """Quantize `model`, fit it on chip and write the accelerator to `out`; as `fpga-squeeze export`.

    Args:
        model: a file of trained weights, or a torch module, whose state dict is taken.
        out: the output folder; an earlier export there is replaced. Nothing is written unless every check passed.
        calibration: what number formats are chosen on: a folder of images, image files, pictures uint8 (N, C, H, W) or (N, H, W, C) in RGB order
            (100 are plenty), or the word "random".
        config: options to begin with, an ExportConfig or a build.toml. force: write into a non-empty folder that is no earlier export.
        progress: called with (step, done, total); total 0 means of unknown length.
        options: see ExportOptions.
    Raises:
        InputError: a bad model, image, option or output folder. CheckFailedError: over the memory budget, or the device or the goal is out of reach.
    """
    base = config if isinstance(config, ExportConfig) else load_config(Path(config)) if config is not None else ExportConfig()
    chosen = base.updated(**_checked(options))
    images = _calibration(calibration)
    if isinstance(model, str | os.PathLike):
        pipeline.export(Path(model), Path(out), images, chosen, force, progress)
    else:
        _export_module(model, Path(out), images, chosen, force, progress)
    return open(out)


def open(out: PathLike) -> Design:
    """An existing export folder as a Design. Raises InputError when none is there or it is damaged."""
    return Design(pipeline.open_export(Path(out)))


class Design:
    """An exported accelerator: its folder, its integer network, its machine, and everything that can be asked of it."""

    def __init__(self, opened: pipeline.Export) -> None:
        self._opened = opened

    def __repr__(self) -> str:
        return f"<fpga_squeeze.Design {self.path}: {self.classes} classes, {self.plan.multipliers} multipliers, {self.plan.interval_cycles} cycles a frame>"

    @property
    def path(self) -> Path:
        """The export folder."""
        return self._opened.out

    @property
    def qgraph(self) -> QuantGraph:
        """The quantized network: every integer that the hardware holds."""
        return self._opened.qgraph

    @property
    def float_graph(self) -> Graph:
        """The float network that it stands for, preprocessing folded in (takes raw pixels)."""
        return self._opened.float_graph

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes pixels."""
        return self._opened.preprocess

    @cached_property
    def plan(self) -> FoldPlan:
        """The machine: stages, folds, links and FIFO depths."""
        return pipeline.open_plan(self._opened)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return jobs.classes_of(self._opened)

    @property
    def report(self) -> dict[str, Any]:
        """Every report by name, as `fpga-squeeze report --json` prints them; None where a step has not run. Read afresh each time."""
        return jobs.report(self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: tool version, options, what was assumed, and a digest of every file. Raises InputError when it is gone."""
        body = read_manifest(self.path)
        if body is None:
            raise InputError(f"{self.path}: a folder written by an export was expected, no manifest.json of one is there")
        return body

    @cached_property
    def simulator(self) -> FastSimulator:
        """The bit-accurate simulator: `run` gives class sums, `trace` every node's integers."""
        return FastSimulator(self.qgraph)

    def pixels(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.uint8]:
        """What the hardware takes: uint8 (N, C, size, size). A single picture gives N = 1."""
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return batch_pixels(self.preprocess, images)
        return np.stack([picture_pixels(self.preprocess, image) for image in _listed(images)])

    @overload
    def simulate(  # type: ignore[overload-overlap]  # a str is a sequence of str too: the first form wins
        self, images: ImageLike, top_k: int = 5, labels: PathLike | Sequence[str] | None = None
    ) -> Prediction: ...
    @overload
    def simulate(self, images: Sequence[ImageLike], top_k: int = 5, labels: PathLike | Sequence[str] | None = None) -> tuple[Prediction, ...]: ...
    def simulate(
        self, images: ImageLike | Sequence[ImageLike], top_k: int = 5, labels: PathLike | Sequence[str] | None = None
    ) -> Prediction | tuple[Prediction, ...]:
        """Classify with the very integers that the hardware gives.

        Args:
            images: a file, a PIL image or a uint8 array gives one Prediction; a list of them or an array (N, ...) gives a tuple.
            top_k: classes wanted, at most all. labels: a file with one class name a line, or the names.
        Raises:
            InputError: an unreadable picture, `top_k` out of range, or not one name a class.
        """
        several = _listed(images)
        names = [str(x) if isinstance(x, str | os.PathLike) else f"image {i}" for i, x in enumerate(several)]
        found = jobs.classify(self._opened, self.simulator, zip(names, self.pixels(images), strict=True), top_k, self._labels(labels))
        return found[0] if _is_one(images) else found

    def sums(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.int64]:
        """The class sums that leave the chip: int64 (N, classes)."""
        return self.simulator.run(self.pixels(images))

    def evaluate(self, folder: PathLike, labels: PathLike | None = None, limit: int | None = None, progress: Progress = no_progress) -> EvaluationReport:
        """Float and fixed accuracy on labelled images; as `fpga-squeeze evaluate`, and written to report/accuracy.json like there."""
        return jobs.evaluate(self.path, Path(folder), Path(labels) if labels is not None else None, limit, progress)

    def verify(self, progress: Progress = no_progress, **options: Unpack[CheckOptions]) -> Verification:
        """Hold the generated machines against the simulator; as `fpga-squeeze verify`, and written to report/verification.json like there.

        Args:
            options: see CheckOptions; none of `hls`, `rtl` and `onnx` chosen means all of them.
        Raises:
            ToolMissingError: no compiler, headers or simulator. CheckFailedError: the sources do not build. A difference does not raise: look at `.ok`.
        """
        return jobs.verify(self.path, VerifyOptions(**options), progress)

    def layer_trace(self, image: ImageLike | Sequence[ImageLike]) -> tuple[LayerError, ...]:
        """Where float and fixed part on these pictures, layer by layer in stream order."""
        return trace_layers(self.float_graph, self.qgraph, self.pixels(image))

    def _labels(self, labels: PathLike | Sequence[str] | None) -> Sequence[str] | None:
        if labels is None:
            return None
        if isinstance(labels, str | os.PathLike):
            return jobs.read_labels(Path(labels), self.classes)
        if len(labels) != self.classes:
            raise InputError(f"labels: {self.classes} names were expected (one a class), got {len(labels)}")
        return labels


def _is_one(images: ImageLike | Sequence[ImageLike]) -> bool:
    """A file, a PIL image, or an array of less than four dimensions."""
    return images.ndim < 4 if isinstance(images, np.ndarray) else isinstance(images, str) or not isinstance(images, Sequence)


def _listed(images: ImageLike | Sequence[ImageLike]) -> list[Any]:
    several: list[Any] = [images] if _is_one(images) else list(images)  # type: ignore[arg-type]  # only sequences and arrays are left
    if not several:
        raise InputError("images: at least one was expected, the list is empty")
    return several


def _checked(options: ExportOptions) -> dict[str, Any]:
    """Options as ExportConfig takes them; a name it does not know is refused with the names it does."""
    known = [f.name for f in fields(ExportConfig)]
    changes: dict[str, Any] = dict(options)
    unknown = next((name for name in changes if name not in known), None)
    if unknown is not None:
        raise InputError(f"export: unknown option {unknown!r}; known: {', '.join(known)}")
    for key in ("layer_bits", "layer_codebooks", "layer_act_bits"):
        if isinstance(bits := changes.get(key), Mapping):
            changes[key] = tuple(bits.items())
    if changes.get("folding") is not None:
        changes["folding"] = str(changes["folding"])
    return changes


def _calibration(calibration: PathLike | Sequence[PathLike] | NDArray[np.uint8]) -> pipeline.Calibration:
    if isinstance(calibration, np.ndarray):
        return calibration
    if isinstance(calibration, str | os.PathLike):
        return str(calibration)
    return tuple(Path(p) for p in calibration)


def _export_module(
    model: torch.nn.Module, out: Path, calibration: pipeline.Calibration, config: ExportConfig, force: bool, progress: Progress
) -> None:
    """The module's weights through a file of their own, so that they take the same way, with the same checks, as anybody's."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model: a file or a torch.nn.Module was expected, got {type(model).__name__}")
    name = type(model).__name__
    with tempfile.TemporaryDirectory(prefix="fpga-squeeze-") as folder:
        path = Path(folder) / f"{name}.pt"
        torch.save({key: value.detach().cpu() for key, value in model.state_dict().items()}, path)
        try:
            pipeline.export(path, out, calibration, config, force, progress)
        except FpgaSqueezeError as error:
            raise type(error)(str(error).replace(str(path), f"{name}'s state dict")) from error
