"""What the commands other than `export` do, apart from printing: each returns a frozen result with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpga_squeeze import pipeline
from fpga_squeeze.emit import writer
from fpga_squeeze.errors import InputError
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.pipeline import Export, Progress, no_progress
from fpga_squeeze.report import html, samples, whatif
from fpga_squeeze.report.performance import measured
from fpga_squeeze.report.whatif import WhatIf
from fpga_squeeze.simulate.evaluate import EvaluationResult, LayerSqnr, layer_sqnr, top_k
from fpga_squeeze.simulate.evaluate import evaluate as run_evaluation
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.checks import Verification, VerifyOptions, verify_export
from fpga_squeeze.verify.record import merged

DIFFERING_SAMPLES = 2
REPORTS = ("memory_budget", "resources", "performance", "layers", "accuracy", "verification")


@dataclass(frozen=True)
class Prediction:
    """Top classes of one image: (class index, label or None, exact integer sum), best first."""

    file: str
    top: tuple[tuple[int, str | None, int], ...]


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


def simulate(out: Path, images: list[Path], count: int, labels: Path | None) -> SimulateResult:
    """Bit-accurate top-`count` of each image.

    Raises:
        InputError: no export, an unreadable image, a labels file of another length, or `count` out of range.
    """
    opened = pipeline.open_export(out)
    classes = opened.qgraph[opened.qgraph.output].shape[0]
    if not 1 <= count <= classes:
        raise InputError(f"--top-k: 1 to {classes} was expected (the network has {classes} classes), got {count}")
    names = read_labels(labels, classes) if labels else None
    simulator = FastSimulator(opened.qgraph)
    predictions = []
    for path in images:
        sums = simulator.run(np.array(opened.preprocess.pixels(path))[np.newaxis])[0]
        best = top_k(sums[np.newaxis], count)[0]
        predictions.append(Prediction(str(path), tuple((int(c), names[c] if names else None, int(sums[c])) for c in best)))
    return SimulateResult(tuple(predictions))


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
    """Float and fixed accuracy on labelled images; also written to report/accuracy.json, a few pictures to report/samples.json, and shown on the page.

    `labels`: a table of file,class-index; a .txt file instead holds class names, one a line, for the page.
    """
    opened = pipeline.open_export(out)
    classes = opened.qgraph[opened.qgraph.output].shape[0]
    names = read_labels(labels, classes) if labels is not None and labels.suffix.lower() == ".txt" else None
    images = labelled(folder, None if names else labels)
    wrong = [(p, c) for p, c in images if not 0 <= c < classes]
    if wrong:
        raise InputError(f"{wrong[0][0].name}: class {wrong[0][1]} was read from it, the network has classes 0 to {classes - 1}; check the labels")
    result = run_evaluation(
        opened.float_graph,
        opened.qgraph,
        opened.preprocess,
        images[:limit],
        progress=lambda done, total: progress("evaluate", done, total),
    )
    few = load_files(tuple(path for path, _ in images[:limit]), opened.preprocess, pipeline.SQNR_IMAGES)
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


def train(path: Path, epochs: int | None, seed: int, progress: Progress = no_progress) -> dict[str, object]:
    """Train the digit network and write its weights to `path`."""
    from fpga_squeeze.zoo.train import DEFAULT_EPOCHS, train_digits

    result = train_digits(path, epochs or DEFAULT_EPOCHS, seed, lambda done, total, _: progress("train", done, total))
    return {
        "file": str(path),
        "epochs": result.epochs,
        "train_count": result.train_count,
        "test_count": result.test_count,
        "accuracy_percent": result.accuracy_percent,
        "losses": list(result.losses),
    }
