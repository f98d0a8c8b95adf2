"""The one way through: load -> passes -> calibrate -> quantize -> fold -> memory gate -> golden data -> emit -> write."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze import passes
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit import board, golden, hls, onnx, rtl, writer
from fpga_squeeze.emit.board_context import PictureSize
from fpga_squeeze.emit.board_table import board_of_device, for_zynq
from fpga_squeeze.emit.hls_context import HlsOptions
from fpga_squeeze.emit.rtl_context import RtlOptions
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware import devices, folding
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.load.arrays import array_set
from fpga_squeeze.load.images import ImageSet, list_images, load_files
from fpga_squeeze.load.model import LoadedModel, LoadOptions, load_model
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.planning import AUTO, SMALLEST, Quantized, fold_model, smallest_device, weight_budget_bytes
from fpga_squeeze.quantize import store
from fpga_squeeze.quantize.methods import find_methods
from fpga_squeeze.quantize.mixed import WidthOptions, Widths, check_feasible, check_names, search_widths, weight_counts
from fpga_squeeze.quantize.prescribed import quantize_prescribed
from fpga_squeeze.quantize.ptq import QuantOptions, calibrate_for, quantize
from fpga_squeeze.quantize.qgraph import QAdd, QConv, QuantGraph
from fpga_squeeze.report import budget as budget_report
from fpga_squeeze.report import html, samples
from fpga_squeeze.report import machine as machine_report
from fpga_squeeze.report import performance as performance_report
from fpga_squeeze.report import resources as resources_report
from fpga_squeeze.report.histograms import OBSERVED_IMAGES, histograms_json, observe
from fpga_squeeze.simulate.evaluate import layer_sqnr
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.source_check import check_quantized_source, check_source

Pixels = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Called with (step, done, total); total 0 means "of unknown length"."""
Calibration = str | Sequence[Path] | Pixels
"""A folder of images or "random" by name; image files; or pictures in memory, uint8 (N, C, H, W) or (N, H, W, C)."""

RANDOM = "random"
RANDOM_IMAGES = 16
SQNR_IMAGES = 8
EXPORT_SAMPLES = 4
CALIBRATION_LIMIT = 500
WIDTH_OPTIONS = ("weight_budget", "max_drop", "codebook_bits", "layer_codebooks", "layer_act_bits")
"""Options that the manifest names only where they are given."""


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
    widths: Widths | None = None


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
    calibration: Calibration | None,
    config: ExportConfig,
    force: bool = False,
    progress: Progress = no_progress,
) -> ExportResult:
    """The main job: a trained model becomes an output folder. Nothing is written unless every check passed.

    Args:
        model: state dict, ONNX, torch.export program or TorchScript archive. `out`: output folder. `calibration`: see Calibration.
    Raises:
        InputError: bad model, images, options or output folder. CheckFailedError: over the memory budget or the device.
    """
    config = config.resolved()
    device = devices.find_device(config.device) if config.device and config.device != SMALLEST else None
    budget_bytes = budget_report.parse_size(config.budget)
    writer.check_writable(out, force)

    quantized = quantize_model(model, calibration, config, progress)
    progress("fold", 0, 0)
    if config.device == SMALLEST:
        quantized, found, device, config = smallest_device(quantized, config, progress)
    else:
        quantized, found = fold_model(quantized, config, device)
    loaded, graph, qgraph, images, plan = quantized.loaded, quantized.graph, quantized.qgraph, quantized.images, found.plan
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
    files.update(_model_files(quantized, plan, config))
    files.update(golden.golden_files(qgraph, plan, frames, traces))
    files.update(hls.emit_hls(qgraph, plan, hls_options(config, device)))
    files.update(rtl.emit_rtl(qgraph, plan, rtl_options(config, device)))
    files.update(onnx.onnx_files(qgraph, config.onnx_dialect))
    if for_zynq(device):
        sums = traces[qgraph.output].reshape(len(frames), -1).astype(np.int64)
        files.update(board_files(qgraph, plan, loaded.preprocess, config, frames, sums))
    files["report/memory_budget.json"] = _json(budget.to_json())
    files["report/memory_budget.md"] = budget.to_markdown().encode()
    files["report/performance.json"] = _json(performance.to_json())
    files["report/resources.json"] = _json(resources.to_json())
    files["report/layers.json"] = _json({"images": min(SQNR_IMAGES, len(images.pixels)), "layers": [row.to_json() for row in sqnr]})
    if quantized.widths is not None:
        files["report/widths.json"] = _json(quantized.widths.to_json())
    options = _manifest_options(model, loaded, images, config)
    progress("report", 0, 0)
    files.update(_page_files(quantized, plan))
    files[html.PAGE] = html.render(html.from_files(files), options)
    writer.write_project(out, files, options, force)
    return ExportResult(loaded, qgraph, plan, budget, performance, resources, images, len(files) + 1, out, quantized.widths)


def quantize_model(
    model: Path, calibration: Calibration | None, config: ExportConfig, progress: Progress = no_progress, *, measure_only: bool = False
) -> Quantized:  # fmt: skip
    """load -> check against the file's own network, where it holds one -> passes -> calibrate -> quantize.

    A model that prescribes its formats is quantized as it says; images then serve as test frames only. `measure_only`, where `config` has a weight budget:
    nothing is chosen nor quantized, the result is for its `search`.

    Raises:
        InputError: bad model, images or options, no calibration images named for a model that needs them, or an import that differs from its source.
    """
    given, config = config, config.resolved()
    loaded = load_model(model, load_options(config))
    graph = passes.lower(loaded.graph, loaded.preprocess)
    loaded = _with_stand_ins(loaded, graph)
    if loaded.prescribed is None and calibration is None:
        raise InputError("--calibration: a folder of images the network was trained for was expected; give one (100 are plenty), or `random` by name")
    images = _calibration_images(RANDOM if calibration is None else calibration, loaded.preprocess, progress)
    widths = _width_options(graph, config) if config.chooses_widths and loaded.prescribed is None else None
    if loaded.prescribed is not None:
        qgraph = quantize_prescribed(graph, loaded.prescribed)
        if measure_only:
            raise InputError(f"{model.name}: brings its number formats along, which are taken as they are; there is nothing to choose")
        _check_widths(model, given, qgraph)
        return Quantized(_checked(loaded, images, progress, qgraph), graph, qgraph, images)
    loaded = _checked(loaded, images, progress)
    options = _quant_options(config)
    if widths is not None:
        options = replace(options, methods=replace(options.methods, channel_ranges=False))  # weights of all widths share the ranges
    calibrated = calibrate_for(graph, images.pixels, options, lambda done, total: progress("calibrate", done, total))
    if widths is not None:
        search = search_widths(graph, calibrated, widths, lambda done, total: progress("measure widths", done, total), activations=_whole(config))
        measured = Quantized(loaded, calibrated.graph, QuantGraph((), ""), images, calibrated.stats, search)
        return measured if measure_only else _chosen_widths(measured, config, progress)
    progress("quantize", 0, 0)
    # The same function with equalized channels: what the fixed-point tensors are compared with.
    graph = calibrated.graph
    return Quantized(loaded, graph, quantize(graph, calibrated, options), images, calibrated.stats)


def _with_stand_ins(loaded: LoadedModel, lowered: Graph) -> LoadedModel:
    """The model with a line for every convolution that it does not have itself (passes/diagonal.py)."""
    own = {n.name for n in loaded.graph.nodes if isinstance(n.op, Conv)}
    lines = tuple(
        f"layer {n.name}: a 1x1 convolution of {n.shape[0]}x{n.shape[0]} weights stands for what the machine has only inside a convolution (docs/formats.md)"
        for n in lowered.nodes if isinstance(n.op, Conv) and n.name not in own
    )  # fmt: skip
    return replace(loaded, assumptions=(*loaded.assumptions, *lines))


def _quant_options(config: ExportConfig) -> QuantOptions:
    assert config.quantizer is not None
    return QuantOptions(
        config.weight_bits, config.act_bits, config.layer_bits, find_methods(config.quantizer), config.codebook_bits or 0, config.layer_codebooks,
        config.layer_act_bits,
    )  # fmt: skip


def _whole(config: ExportConfig) -> bool:
    """--budget is for weights and line buffers together, so that the bits of both are chosen. On a device blocks decide, and multipliers are for 8 bits."""
    return config.weight_budget == AUTO and config.device is None


def _chosen_widths(quantized: Quantized, config: ExportConfig, progress: Progress) -> Quantized:
    """The measured network at the widths for --weight-budget or --max-drop."""
    search = quantized.search
    assert search is not None
    if config.max_drop is not None:
        widths = search.smallest(config.max_drop, lambda done, total: progress("try widths", done, total))
    else:
        widths = search.choose(weight_budget_bytes(config))
    progress("quantize", 0, 0)
    return replace(quantized, qgraph=search.quantize(widths), widths=widths)


def _width_options(graph: Graph, config: ExportConfig) -> WidthOptions:
    """What may be chosen. Refuses, before anything is measured, unknown layers and a budget that not even the smallest widths keep."""
    assert config.quantizer is not None
    if config.codebook_bits or config.layer_codebooks:
        raise InputError(
            "--weight-budget and --max-drop choose codebooks themselves; leave out --codebook-bits, --layer-codebook and [layer_codebooks] of a build.toml"
        )
    options = WidthOptions(config.act_bits, config.weight_bits, config.layer_bits, config.shares_weights, find_methods(config.quantizer), config.layer_act_bits)
    if config.weight_budget == AUTO and config.layer_act_bits:
        raise InputError("--layer-act-bits: --weight-budget auto chooses activation bits itself; leave it out")
    check_names(graph, options)
    if config.weight_budget is not None:
        check_feasible(weight_counts(graph), options, weight_budget_bytes(config), "--budget" if config.weight_budget == AUTO else "--weight-budget")
    return options


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


def _widths(qgraph: QuantGraph) -> dict[str, Any]:
    """The options that would ask for the widths of a graph: the commonest weight bits, the layers that differ, the widest activation."""
    bits = {n.name: n.op.weight_bits for n in qgraph.nodes if isinstance(n.op, QConv)}
    commonest = max(sorted(set(bits.values())), key=list(bits.values()).count)
    others = tuple((name, b) for name, b in bits.items() if b != commonest)
    return {"weight_bits": commonest, "act_bits": max(n.fmt.bits for n in qgraph.nodes if isinstance(n.op, QConv | QAdd)), "layer_bits": others}


def _check_widths(model: Path, config: ExportConfig, qgraph: QuantGraph) -> None:
    """Options that ask for other widths, or another quantizer, than the model brings along are not ignored. `config`: as it was given, not resolved."""
    default = ExportConfig()
    wrong = [key for key, own in _widths(qgraph).items() if getattr(config, key) not in (own, getattr(default, key))]
    wrong += [key for key in WIDTH_OPTIONS if getattr(config, key)]
    if config.quantizer not in (None, "fast"):
        wrong.append("quantizer")
    for key in wrong:
        option = f"--{key.replace('_', '-').replace('codebooks', 'codebook')}"
        raise InputError(f"{option}: {model.name} brings its number formats along, which are taken as they are; leave the option out")


def load_options(config: ExportConfig) -> LoadOptions:
    """The part of the options that the front end reads."""
    return LoadOptions(config.arch, config.input_size, config.ceil_mode, config.conv10_padding, config.preprocess)


def hls_options(config: ExportConfig, device: Device | None) -> HlsOptions:
    """The part of the options that the HLS emitter reads: without a device its default part stands in the Vitis scripts."""
    return HlsOptions(top=config.top, part=device.part) if device else HlsOptions(top=config.top)


def rtl_options(config: ExportConfig, device: Device | None) -> RtlOptions:
    """The part of the options that the RTL emitter reads."""
    return RtlOptions(top=config.top, top_k=config.rtl_top_k, part=device.part) if device else RtlOptions(top=config.top, top_k=config.rtl_top_k)


def board_files(
    qgraph: QuantGraph, plan: FoldPlan, preprocess: Preprocess, config: ExportConfig, frames: Pixels, sums: NDArray[np.int64]
) -> dict[str, bytes]:
    """OUT/board for Zynq boards: the golden `frames` (N, C, H, W) and their class sums (N, classes) go with the driver."""
    device = devices.find_device(config.device) if config.device else None
    picture = PictureSize(preprocess.resize, preprocess.size)
    return board.emit_board(qgraph, plan, rtl_options(config, device), picture, frames, sums, board_of_device(device, config.device))


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


def _calibration_images(calibration: Calibration, preprocess: Preprocess, progress: Progress) -> ImageSet:
    if isinstance(calibration, np.ndarray):
        return array_set(preprocess, calibration)
    if not isinstance(calibration, str):
        if not calibration:
            raise InputError("calibration: image files were expected, the list is empty")
        return load_files(tuple(calibration), preprocess, progress=lambda done, total: progress("read images", done, total))
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


def _model_files(quantized: Quantized, plan: FoldPlan, config: ExportConfig) -> dict[str, bytes]:
    graph, qgraph, loaded = quantized.graph, quantized.qgraph, quantized.loaded
    files = {f"model/{name}": content for name, content in {**store.to_files(qgraph), **store.float_to_files(graph)}.items()}
    files["model/folding.json"] = folding.folding_to_json(plan).encode()
    files["model/preprocess.json"] = loaded.preprocess.to_json().encode()
    files["model/build.toml"] = export_options(quantized, config).to_toml().encode()
    return files


def export_options(quantized: Quantized, config: ExportConfig) -> ExportConfig:
    """The options that make the same machine again, beside a preprocess.json and, where `config` names a folding, a folding.json. Chosen widths stand for
    their search."""
    loaded = quantized.loaded
    own = "folding.json" if config.folding else None
    config = config.resolved()
    if loaded.prescribed is not None:
        config = replace(config, **_widths(quantized.qgraph))
    if quantized.widths is not None:
        widths = {**_widths(quantized.qgraph), "act_bits": config.act_bits, "layer_codebooks": quantized.widths.layer_codebooks,
                  "layer_act_bits": quantized.widths.layer_act_bits or config.layer_act_bits}  # fmt: skip
        config = replace(config, **widths, weight_budget=None, max_drop=None)
    return replace(config, arch=loaded.arch, input_size=loaded.preprocess.size, preprocess="preprocess.json", folding=own)


def _page_files(quantized: Quantized, plan: FoldPlan) -> dict[str, bytes]:
    """The reports that the page needs beside the others: the pipeline, histograms, sample pictures."""
    graph, qgraph, images = quantized.graph, quantized.qgraph, quantized.images
    chosen = samples.evenly_spread(len(images.files), EXPORT_SAMPLES)
    names = [images.files[i].name for i in chosen]
    stats, count = (quantized.stats, len(images.pixels)) if quantized.stats else (observe(graph, images.pixels), min(OBSERVED_IMAGES, len(images.pixels)))
    return {
        "report/machine.json": _json(machine_report.machine_json(plan)),
        "report/histograms.json": _json(histograms_json(graph, qgraph, stats, count, random=not images.files)),
        "report/samples.json": _json(samples.samples_json(graph, qgraph, images.pixels[chosen], names, "calibration" if names else "random")),
    }


def _manifest_options(model: Path, loaded: LoadedModel, images: ImageSet, config: ExportConfig) -> dict[str, object]:
    """Digests rather than paths: the same input gives the same manifest wherever it lies."""
    text = Path(config.folding).read_bytes() if config.folding else b""
    stated = vars(replace(config, preprocess=loaded.preprocess.name, arch=loaded.arch, folding=writer.digest(text) if text else None))
    stated = {key: value for key, value in stated.items() if value not in (None, ()) or key not in WIDTH_OPTIONS}
    return {
        "model": model.name,
        "model_sha256": writer.digest(model.read_bytes()),
        "calibration_images": int(images.pixels.shape[0]),
        "calibration_sha256": writer.digest(np.ascontiguousarray(images.pixels).tobytes()),
        "classes": loaded.classes,
        "assumptions": list(loaded.assumptions),
        "config": stated,
    }


def _json(body: object) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()
