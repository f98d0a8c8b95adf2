"""What the commands other than `export` do, apart from printing: each returns a frozen result with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fpga_squeeze import parallel, pipeline
from fpga_squeeze.emit import writer
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.pipeline import Export, Progress, no_progress
from fpga_squeeze.report import html, samples, whatif
from fpga_squeeze.report.performance import measured
from fpga_squeeze.report.whatif import WhatIf
from fpga_squeeze.simulate.evaluate import EvaluationResult, LayerSqnr, count_hits, layer_sqnr, merge, top_k
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.synth.result import SynthResult
from fpga_squeeze.synth.run import synth_export
from fpga_squeeze.verify.checks import Verification, VerifyOptions, verify_export
from fpga_squeeze.verify.record import merged

if TYPE_CHECKING:
    from fpga_squeeze.train.loop import TrainResult

DIFFERING_SAMPLES = 2
REPORTS = ("memory_budget", "resources", "performance", "layers", "accuracy", "verification", "synthesis")


@dataclass(frozen=True)
class Prediction:
    """Top classes of one image: (class index, label or None, exact integer sum), best first."""

    file: str
    top: tuple[tuple[int, str | None, int], ...]

    @property
    def class_index(self) -> int:
        """The best class."""
        return self.top[0][0]

    @property
    def label(self) -> str | None:
        """The best class's name, None without labels."""
        return self.top[0][1]


@dataclass(frozen=True)
class SimulateResult:
    """Predictions in the order of the images given."""

    images: tuple[Prediction, ...]

    def to_json(self) -> dict[str, object]:
        """{"images": [{"file", "top": [{"class", "label", "sum"}]}]}."""
        return {"images": [{"file": p.file, "top": [{"class": c, "label": label, "sum": s} for c, label, s in p.top]} for p in self.images]}


@dataclass(frozen=True)
class EvaluationReport:
    """Accuracy over all images, and every layer's signal-to-quantization-noise ratio over the first few."""

    result: EvaluationResult
    layers: tuple[LayerSqnr, ...]

    def to_json(self) -> dict[str, object]:
        """{"count", "float", "fixed", "agreement_top1", "skipped", "layers"}."""
        return {**self.result.to_json(), "layers": [row.to_json() for row in self.layers]}


def simulate(out: Path, images: list[Path], count: int, labels: Path | None, progress: Progress = no_progress) -> SimulateResult:
    """Bit-accurate top-`count` of each image.

    Raises:
        InputError: no export, an unreadable image, a labels file of another length, or `count` out of range.
    """
    opened = pipeline.open_export(out)
    names = read_labels(labels, classes_of(opened)) if labels else None
    pictures = ((str(path), np.array(opened.preprocess.pixels(path))) for path in images)
    return SimulateResult(classify(opened, None, pictures, count, names, lambda done: progress("simulate", done, len(images))))


def classes_of(opened: Export) -> int:
    """How many classes the network of an export has."""
    return opened.qgraph[opened.qgraph.output].shape[0]


def classify(
    opened: Export,
    simulator: FastSimulator | None,
    pictures: Iterable[tuple[str, pipeline.Pixels]],
    count: int,
    names: Sequence[str] | None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Prediction, ...]:
    """Top-`count` of each picture, given as (name, uint8 (C, size, size)); `names`: a class name each, or None. `simulator`: to use again, or None.

    Raises:
        InputError: `count` out of range, or pictures of another shape.
    """
    classes = classes_of(opened)
    if not 1 <= count <= classes:
        raise InputError(f"--top-k: 1 to {classes} was expected (the network has {classes} classes), got {count}")
    simulator = simulator or FastSimulator(opened.qgraph)
    predictions = []
    for name, pixels in pictures:
        sums = simulator.run(pixels[np.newaxis])[0]
        best = top_k(sums[np.newaxis], count)[0]
        predictions.append(Prediction(name, tuple((int(c), names[c] if names else None, int(sums[c])) for c in best)))
        progress(len(predictions))
    return tuple(predictions)


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """One class name a line, in class order; exactly `classes` of them."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {path}: a text file with one class name a line was expected ({error})") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != classes:
        raise InputError(f"--labels {path}: {classes} lines were expected (one a class), got {len(lines)}")
    return tuple(line.strip() for line in lines)


def evaluate(out: Path, folder: Path, labels: Path | None, limit: int | None, progress: Progress = no_progress) -> EvaluationReport:
    """Float and fixed accuracy on labelled images, shared out among torchrun's processes; the writer's is also written to report/accuracy.json, a few
    pictures to report/samples.json, and shown on the page.

    Every process returns the same figures; the layers' ratios are the writer's alone. `labels`: a table of file,class-index; a .txt file instead holds
    class names, one a line, for the page.
    """
    opened = pipeline.open_export(out)
    classes = opened.qgraph[opened.qgraph.output].shape[0]
    names = read_labels(labels, classes) if labels is not None and labels.suffix.lower() == ".txt" else None
    images = labelled(folder, None if names else labels)
    wrong = [(p, c) for p, c in images if not 0 <= c < classes]
    if wrong:
        raise InputError(f"{wrong[0][0].name}: class {wrong[0][1]} was read from it, the network has classes 0 to {classes - 1}; check the labels")
    chosen = images[:limit]
    with parallel.process_group() as group:
        mine = count_hits(
            opened.float_graph,
            opened.qgraph,
            opened.preprocess,
            group.share(chosen),
            progress=lambda done, total: progress("evaluate", done, total),
        )
        result = merge(group.gather(mine)).result()
    if not group.is_writer:
        return EvaluationReport(result, ())
    few = load_files(tuple(path for path, _ in chosen), opened.preprocess, pipeline.SQNR_IMAGES)
    report = EvaluationReport(result, layer_sqnr(opened.float_graph, opened.qgraph, few.pixels))
    writer.write_report(opened.out, "report/accuracy.json", report.to_json())
    writer.write_report(opened.out, "report/samples.json", _samples(opened, images[:limit], result, names))
    html.refresh(opened.out)
    return report


def _samples(opened: Export, images: Sequence[tuple[Path, int]], result: EvaluationResult, names: tuple[str, ...] | None) -> dict[str, object]:
    """Pictures spread over the set, and the first ones that float and fixed see differently."""
    skipped = {file for file, _ in result.skipped}
    good = [(path, label) for path, label in images if path.name not in skipped]
    truth = dict(good)
    chosen = [good[i][0] for i in samples.evenly_spread(len(good))]
    chosen += [path for path in result.differing if path not in chosen][:DIFFERING_SAMPLES]
    pixels = load_files(tuple(chosen), opened.preprocess).pixels
    return samples.samples_json(
        opened.float_graph, opened.qgraph, pixels, [p.name for p in chosen], "evaluation", [truth[p] for p in chosen], names
    )


def verify(out: Path, options: VerifyOptions, progress: Progress = no_progress) -> Verification:
    """Every implementation against the golden simulator; also entered into report/verification.json, which keeps other implementations' latest results."""
    opened: Export = pipeline.open_export(out)
    result = verify_export(opened, options, progress)
    writer.write_report(opened.out, "report/verification.json", _record(opened, options, result))
    path = opened.out / "report/performance.json"
    if result.ok and result.rtl is not None and result.rtl.interval_cycles and options.rtl_dir is None and path.is_file():
        writer.write_report(opened.out, "report/performance.json", measured(_read_report(path), result.rtl.to_json()))
    html.refresh(opened.out)
    return result


def _record(opened: Export, options: VerifyOptions, result: Verification) -> dict[str, object]:
    """verification.json after this run. Another machine behind the same ports (--rtl-dir) gets a column of its own."""
    path = opened.out / "report/verification.json"
    simulator = options.simulator if options.rtl_dir is None else f"{options.simulator} --rtl-dir"
    new = result.to_json()
    new["checks"] = [c | {"implementation": simulator} if c["implementation"] == options.simulator else c for c in _rows(new)]
    if result.rtl is not None:
        new["rtl"] = result.rtl.to_json() | {"simulator": simulator}
    ran = ["fast"] + ["hls"] * (options.hls or not options.rtl) + [simulator] * (options.rtl or not options.hls)
    try:
        old = _read_report(path) if path.is_file() else None
    except InputError:
        old = None  # damaged: this run's results are worth more than the old ones
    return merged(old, new, ran, writer.digest((opened.out / writer.MANIFEST).read_bytes()), {"stalls": options.stalls})


def _rows(body: dict[str, Any]) -> list[dict[str, Any]]:
    return list(body["checks"])


def what_if(out: Path, rates: tuple[float, ...] | None, clock_mhz: float | None, utilisation: float, progress: Progress = no_progress) -> WhatIf:
    """The fastest machine of an exported network on every known device, and the smallest device for each of `rates`."""
    opened: Export = pipeline.open_export(out)
    clock = clock_mhz or pipeline.open_plan(opened).clock_mhz
    return whatif.what_if(opened.qgraph, clock, utilisation, rates or whatif.RATES, lambda done, total: progress("devices", done, total))


def synth(out: Path, tool: str, device: str | None, stages: tuple[str, ...] | None, progress: Progress = no_progress) -> SynthResult:
    """Every stage and link synthesised beside the model's estimate; also written to report/synthesis.json and shown on the page."""
    result = synth_export(out, tool, find_device(device) if device else None, stages, progress)
    writer.write_report(out, "report/synthesis.json", result.to_json())
    html.refresh(out)
    return result


def _read_report(path: Path) -> dict[str, object]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); export again") from error
    if not isinstance(body, dict):
        raise InputError(f"{path}: a JSON object was expected, got {type(body).__name__}; export again")
    return body


def report(out: Path) -> dict[str, object]:
    """Every report of an export in one object; what was not made yet is null.

    Raises:
        InputError: no export there, or a report is damaged.
    """
    if writer.read_manifest(out) is None:
        raise InputError(f"{out}: a folder written by `fpga-squeeze export` was expected, no manifest.json of one is there")
    body: dict[str, object] = {}
    for name in REPORTS:
        path = out / "report" / f"{name}.json"
        if not path.is_file():
            body[name] = None
            continue
        body[name] = _read_report(path)
    return body


def train(path: Path, epochs: int | None, seed: int, other: Mapping[str, object], progress: Progress = no_progress) -> dict[str, object]:
    """Train the digit network and write its weights to `path`. Raises InputError for options (`other`) that only a training with --data takes."""
    from fpga_squeeze.zoo.train import DEFAULT_EPOCHS, train_digits

    if other:
        raise InputError(f"--{next(iter(other)).replace('_', '-')}: needs --data, a folder with one sub-folder of images a class")
    if parallel.environment().world > 1:
        raise InputError("the digit network is trained by one process; start it without torchrun, or give --data")
    result = train_digits(path, epochs or DEFAULT_EPOCHS, seed, lambda done, total, _: progress("train", done, total))
    return {
        "file": str(path),
        "epochs": result.epochs,
        "train_count": result.train_count,
        "test_count": result.test_count,
        "accuracy_percent": result.accuracy_percent,
        "losses": list(result.losses),
    }


def train_folder(options: dict[str, Any], progress: Progress = no_progress) -> TrainResult:
    """Train on a folder of images with the fields of TrainOptions, on all of torchrun's processes."""
    from fpga_squeeze.train.loop import train as run_training
    from fpga_squeeze.train.options import TrainOptions

    checked = TrainOptions(**options)
    with parallel.process_group(use_gpu=True) as group:
        return run_training(checked, group, progress)
