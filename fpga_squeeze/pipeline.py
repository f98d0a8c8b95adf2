"""The one way through: load -> passes -> calibrate -> quantize -> fold -> memory gate -> golden data -> emit -> write."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze import passes
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit import golden, hls, rtl, writer
from fpga_squeeze.emit.hls_context import HlsOptions
from fpga_squeeze.emit.rtl_context import RtlOptions
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware import devices, folding
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.hardware.search import Found, Goal, check_plan, search
from fpga_squeeze.ir import Graph, has_caps
from fpga_squeeze.load.images import ImageSet, list_images, load_files
from fpga_squeeze.load.model import LoadedModel, LoadOptions, load_model
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.quantize import store
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.prescribed import quantize_prescribed
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.report import budget as budget_report
from fpga_squeeze.report import performance as performance_report
from fpga_squeeze.report import resources as resources_report
from fpga_squeeze.simulate.evaluate import layer_sqnr
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.source_check import check_quantized_source, check_source

Pixels = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Called with (step, done, total); total 0 means "of unknown length"."""

RANDOM = "random"
RANDOM_IMAGES = 16
SQNR_IMAGES = 8
CALIBRATION_LIMIT = 500


def no_progress(step: str, done: int, total: int) -> None:
    """The silent progress callback."""


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What an export made, for the caller to print."""

    loaded: LoadedModel
    qgraph: QuantGraph
    plan: FoldPlan
    budget: budget_report.MemoryBudget
    performance: performance_report.Performance
    resources: resources_report.ResourceReport
    images: ImageSet
    files: int
    out: Path


@dataclass(frozen=True, eq=False)
class Quantized:
    """A trained model in fixed point: `graph` is the float network it stands for, `images` what it was calibrated on."""

    loaded: LoadedModel
    graph: Graph
    qgraph: QuantGraph
    images: ImageSet


@dataclass(frozen=True, eq=False)
class Export:
    """An export folder read back: enough to simulate and evaluate without the original model."""

    out: Path
    qgraph: QuantGraph
    float_graph: Graph
    preprocess: Preprocess


def export(
    model: Path,
    out: Path,
    calibration: str | None,
    config: ExportConfig,
    force: bool = False,
    progress: Progress = no_progress,
) -> ExportResult:
    """The main job: a trained model becomes an output folder. Nothing is written unless every check passed.

    Args:
        model: state dict, ONNX, torch.export program or TorchScript archive. `out`: output folder. `calibration`: folder of images, or "random" by name.
    Raises:
        InputError: bad model, images, options or output folder. CheckFailedError: over the memory budget or the device.
    """
    device = devices.find_device(config.device) if config.device else None
    budget_bytes = budget_report.parse_size(config.budget)
    writer.check_writable(out, force)

    quantized = quantize_model(model, calibration, config, progress)
    loaded, graph, qgraph, images = quantized.loaded, quantized.graph, quantized.qgraph, quantized.images

    progress("fold", 0, 0)
    found = choose_plan(qgraph, config, device)
    plan = found.plan
    budget = budget_report.memory_budget(plan, qgraph, budget_bytes, device)
    budget_report.check_budget(budget, plan, qgraph)
    performance = performance_report.performance(plan, qgraph, device, found.bound_cycles)
    resources = resources_report.resources(found, device)

    progress("golden data", 0, 0)
    frames = images.pixels[: config.golden_frames]
    traces = FastSimulator(qgraph).trace(frames)
    sqnr = layer_sqnr(graph, qgraph, images.pixels[:SQNR_IMAGES])

    progress("emit", 0, 0)
    files: dict[str, bytes] = {}
    files.update(_model_files(graph, qgraph, plan, loaded, config))
    files.update(golden.golden_files(qgraph, plan, frames, traces))
    files.update(hls.emit_hls(qgraph, plan, hls_options(config, device)))
    files.update(rtl.emit_rtl(qgraph, plan, rtl_options(config, device)))
    files["report/memory_budget.json"] = _json(budget.to_json())
    files["report/memory_budget.md"] = budget.to_markdown().encode()
    files["report/performance.json"] = _json(performance.to_json())
    files["report/resources.json"] = _json(resources.to_json())
    files["report/layers.json"] = _json({"images": min(SQNR_IMAGES, len(images.files)), "layers": [row.to_json() for row in sqnr]})
    writer.write_project(out, files, _manifest_options(model, loaded, images, config), force)
    return ExportResult(loaded, qgraph, plan, budget, performance, resources, images, len(files) + 1, out)


def quantize_model(model: Path, calibration: str | None, config: ExportConfig, progress: Progress = no_progress) -> Quantized:
    """load -> check against the file's own network, where it holds one -> passes -> calibrate -> quantize.

    A model that prescribes its formats is quantized as it says; images then serve as test frames only.

    Raises:
        InputError: bad model, images or options, no calibration images named for a model that needs them, or an import that differs from its source.
    """
    loaded = load_model(model, load_options(config))
    graph = passes.lower(loaded.graph, loaded.preprocess)
    if loaded.prescribed is not None:
        _check_no_widths(model, config)
    elif calibration is None:
        raise InputError("--calibration: a folder of images the network was trained for was expected; give one (100 are plenty), or `random` by name")
    images = _calibration_images(calibration or RANDOM, loaded.preprocess, progress)
    if loaded.prescribed is not None:
        qgraph = quantize_prescribed(graph, loaded.prescribed)
        return Quantized(_checked(loaded, images, progress, qgraph), graph, qgraph, images)
    loaded = _checked(loaded, images, progress)
    # Caps fall on the largest integer of their tensors, so the scales depend on the width.
    act_bits = config.act_bits if has_caps(graph) else 8
    calibrated = calibrate(graph, images.pixels, progress=lambda done, total: progress("calibrate", done, total), act_bits=act_bits)
    progress("quantize", 0, 0)
    # The same function with equalized channels: what the fixed-point tensors are compared with.
    graph = calibrated.graph
    return Quantized(loaded, graph, quantize(graph, calibrated, QuantOptions(config.weight_bits, config.act_bits, config.layer_bits)), images)


def _checked(loaded: LoadedModel, images: ImageSet, progress: Progress, qgraph: QuantGraph | None = None) -> LoadedModel:
    """The model with one more line: that the import equals its source. `qgraph`: of a model that brings its formats along."""
    if loaded.source is None:
        return loaded
    progress("check the import", 0, 0)
    if qgraph is None:
        checked = check_source(loaded.graph, loaded.source, loaded.preprocess, images.pixels)
    else:
        checked = check_quantized_source(qgraph, loaded.source, loaded.preprocess, images.pixels)
    return replace(loaded, assumptions=(*loaded.assumptions, checked.describe()))


def _check_no_widths(model: Path, config: ExportConfig) -> None:
    default = ExportConfig()
    for option, given, usual in (
        ("--weight-bits", config.weight_bits, default.weight_bits),
        ("--act-bits", config.act_bits, default.act_bits),
        ("--layer-bits", config.layer_bits, default.layer_bits),
    ):
        if given != usual:
            raise InputError(f"{option}: {model.name} brings its number formats along, which are taken as they are; leave the option out")


def choose_plan(qgraph: QuantGraph, config: ExportConfig, device: Device | None) -> Found:
    """The plan of --folding, held to the same limits as a searched one, or the search's.

    Raises:
        InputError: a folding.json that cannot be read or is not legal. CheckFailedError: the goal cannot be met, or the given plan breaks a limit.
    """
    goal = Goal(config.clock_mhz, config.target_fps, config.max_dsp, config.utilisation, config.weights)
    if config.folding is None:
        return search(qgraph, goal, device)
    try:
        text = Path(config.folding).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--folding {config.folding}: cannot be read ({error}); the folding.json of an export was expected") from error
    return check_plan(folding.folding_from_json(text, qgraph), goal, device)


def load_options(config: ExportConfig) -> LoadOptions:
    """The part of the options that the front end reads."""
    return LoadOptions(config.arch, config.input_size, config.ceil_mode, config.conv10_padding, config.preprocess)


def hls_options(config: ExportConfig, device: Device | None) -> HlsOptions:
    """The part of the options that the HLS emitter reads: without a device its default part stands in the Vitis scripts."""
    return HlsOptions(top=config.top, part=device.part) if device else HlsOptions(top=config.top)


def rtl_options(config: ExportConfig, device: Device | None) -> RtlOptions:
    """The part of the options that the RTL emitter reads."""
    return RtlOptions(top=config.top, top_k=config.rtl_top_k, part=device.part) if device else RtlOptions(top=config.top, top_k=config.rtl_top_k)


def open_export(out: Path) -> Export:
    """Read back an export folder.

    Raises:
        InputError: no export there, or a file of it is missing or damaged.
    """
    if writer.read_manifest(out) is None:
        raise InputError(f"{out}: a folder written by `fpga-squeeze export` was expected, no manifest.json of one is there")
    try:
        preprocess = Preprocess.from_json((out / "model/preprocess.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{out}/model/preprocess.json: cannot be read ({error.strerror}); export again") from error
    return Export(out, store.from_files(out / "model"), store.float_from_files(out / "model"), preprocess)


def open_plan(opened: Export) -> FoldPlan:
    """The FoldPlan of an export, rebuilt from model/folding.json and checked against its graph."""
    path = opened.out / "model/folding.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); export again") from error
    return folding.folding_from_json(text, opened.qgraph)


def _calibration_images(calibration: str, preprocess: Preprocess, progress: Progress) -> ImageSet:
    if calibration == RANDOM:
        rng = np.random.default_rng(0)
        shape = (RANDOM_IMAGES, preprocess.channels, preprocess.size, preprocess.size)
        return ImageSet(rng.integers(0, 256, size=shape, dtype=np.uint8), (), ())
    folder = Path(calibration)
    if not folder.is_dir():
        raise InputError(f"--calibration {calibration}: a folder of JPEG or PNG images was expected, no folder is there (or `random` by name)")
    files = list_images(folder)
    if len(files) > CALIBRATION_LIMIT:  # evenly spread, so that a folder sorted by class is not seen by its first classes only
        chosen = np.linspace(0, len(files) - 1, CALIBRATION_LIMIT).round().astype(int)
        files = tuple(files[i] for i in chosen)
    return load_files(files, preprocess, progress=lambda done, total: progress("read images", done, total))


def _model_files(graph: Graph, qgraph: QuantGraph, plan: FoldPlan, loaded: LoadedModel, config: ExportConfig) -> dict[str, bytes]:
    files = {f"model/{name}": content for name, content in {**store.to_files(qgraph), **store.float_to_files(graph)}.items()}
    files["model/folding.json"] = folding.folding_to_json(plan).encode()
    files["model/preprocess.json"] = loaded.preprocess.to_json().encode()
    own = "folding.json" if config.folding else None
    resolved = replace(config, arch=loaded.arch, input_size=loaded.preprocess.size, preprocess="preprocess.json", folding=own)
    files["model/build.toml"] = resolved.to_toml().encode()
    return files


def _manifest_options(model: Path, loaded: LoadedModel, images: ImageSet, config: ExportConfig) -> dict[str, object]:
    """Digests rather than paths: the same input gives the same manifest wherever it lies."""
    text = Path(config.folding).read_bytes() if config.folding else b""
    return {
        "model": model.name,
        "model_sha256": writer.digest(model.read_bytes()),
        "calibration_images": int(images.pixels.shape[0]),
        "calibration_sha256": writer.digest(np.ascontiguousarray(images.pixels).tobytes()),
        "classes": loaded.classes,
        "assumptions": list(loaded.assumptions),
        "config": vars(replace(config, preprocess=loaded.preprocess.name, arch=loaded.arch, folding=writer.digest(text) if text else None)),
    }


def _json(body: object) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()
