"""fpga-squeeze weights: another trained model of the same architecture as an image for a machine that was exported with a load port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze import pipeline
from fpga_squeeze.config import load_config
from fpga_squeeze.emit.load_image import check_other_model, load_image, load_memories
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.pipeline import Progress, no_progress
from fpga_squeeze.quantize.qgraph import QuantGraph


@dataclass(frozen=True, eq=False)
class NewWeights:
    """The image written to `file`, `bytes` long, and the quantized model in it.

    The unit of a class sum is 2**-sum_frac; that of the model the machine was exported with is 2**-machine_sum_frac.
    """

    file: Path
    bytes: int
    qgraph: QuantGraph
    sum_frac: int
    machine_sum_frac: int

    def to_json(self) -> dict[str, object]:
        """{"file", "bytes", "sum_frac", "machine_sum_frac"}."""
        return {"file": str(self.file), "bytes": self.bytes, "sum_frac": self.sum_frac, "machine_sum_frac": self.machine_sum_frac}

    def text(self) -> str:
        """What a person reads."""
        scale = "" if self.sum_frac == self.machine_sum_frac else f" Class sums now count in units of 2^{-self.sum_frac}, not 2^{-self.machine_sum_frac}."
        return f"Wrote {self.bytes:,} bytes to {self.file}; send them to s_load_axis, between any two frames.{scale}"


@dataclass(frozen=True, eq=False)
class OtherModel:
    """Another trained model, quantized for the machine of an export and checked against it."""

    machine: pipeline.Export
    plan: FoldPlan
    qgraph: QuantGraph


def quantize_for(out: Path, model: Path, calibration: str | None, progress: Progress = no_progress) -> OtherModel:
    """Quantize `model` with the options that the machine in `out` was exported with and check that this machine computes it exactly.

    Raises:
        InputError: no export with a load port there, a bad model or images, or a model that the machine cannot take.
    """
    opened = pipeline.open_export(out)
    plan = pipeline.open_plan(opened)
    if not load_memories(plan):
        raise InputError(f"{out}: its weights are in the bitstream, nothing can be loaded; export with --weights loaded for a machine that takes new ones")
    qgraph = pipeline.quantize_model(model, calibration, load_config(out / "model/build.toml"), progress).qgraph
    check_other_model(opened.qgraph, plan, qgraph)
    return OtherModel(opened, plan, qgraph)


def make_weights(out: Path, model: Path, calibration: str | None, target: Path, progress: Progress = no_progress) -> NewWeights:
    """Quantize `model` with the options that the machine in `out` was exported with, check that this machine computes it exactly, write its image.

    Raises:
        InputError: no export with a load port there, a bad model or images, a model that the machine cannot take, or `target` cannot be written.
    """
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise InputError(f"-o {target}: a file in an existing folder was expected")
    other = quantize_for(out, model, calibration, progress)
    qgraph, machine = other.qgraph, other.machine.qgraph
    image = load_image(qgraph, other.plan, machine)
    try:
        target.write_bytes(image)
    except OSError as error:
        raise InputError(f"-o {target}: cannot be written ({error.strerror})") from error
    fracs = (g[g.output].fmt.frac for g in (qgraph, machine))
    return NewWeights(target, len(image), qgraph, *fracs)
