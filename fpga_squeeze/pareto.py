"""Size against accuracy: the network quantized for several weight budgets, every point measured and exportable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit import writer
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware import devices
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.pipeline import Calibration, Progress, no_progress
from fpga_squeeze.quantize.drop import Drop
from fpga_squeeze.quantize.mixed import Widths, weight_counts
from fpga_squeeze.report.budget import memory_budget, parse_size
from fpga_squeeze.report.pareto_chart import pareto_svg
from fpga_squeeze.simulate.paired import Paired, compare, float_scores

KIND = "pareto"
BITS = (8.0, 7.0, 6.0, 5.0, 4.5, 4.0, 3.5, 3.0)
"""Bits a weight on average of the points where no sizes are given."""


@dataclass(frozen=True, eq=False)
class Point:
    """One weight budget. `stored_bytes`: of all weights in the machine's memories; `total_bytes`: of everything on chip; `bram18`: blocks of 18 Kb that the
    whole machine takes. `drop`: expected, where no labelled images were given; else `measured`."""

    name: str
    widths: Widths
    stored_bytes: int
    total_bytes: int
    bram18: int
    drop: Drop | None
    measured: Paired | None

    @property
    def lost(self) -> float:
        """Points of top-1 lost: measured or, without labels, expected."""
        if self.measured is not None:
            return self.measured.lost
        assert self.drop is not None
        return self.drop.top1

    def to_json(self) -> dict[str, object]:
        """One point of pareto.json."""
        return {
            "name": self.name, "budget_bytes": self.widths.limit_bytes, "stored_bytes": self.stored_bytes, "total_bytes": self.total_bytes,
            "bram18": self.bram18, "average_bits": round(self.widths.average_bits, 4), "lost_top1": round(self.lost, 3),
            "expected": None if self.drop is None else {"lost_top1": round(self.drop.top1, 3), "agreement": round(self.drop.agreement, 2)},
            "measured": None if self.measured is None else self.measured.to_json(),
            "widths": {row.name: f"codebook {row.bits}" if row.codebook else row.bits for row in self.widths.layers},
        }  # fmt: skip


@dataclass(frozen=True)
class Pareto:
    """All points, largest first; those that no machine was found for are left out and named in `refused` (name, reason)."""

    model: str
    points: tuple[Point, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that no other one beats: as small and as good, and better in either."""

        def beats(q: Point, p: Point) -> bool:
            return q.stored_bytes <= p.stored_bytes and q.lost <= p.lost and (q.stored_bytes, q.lost) != (p.stored_bytes, p.lost)

        return tuple(p for p in self.points if not any(beats(q, p) for q in self.points))

    def to_json(self) -> dict[str, object]:
        """pareto.json."""
        front = {p.name for p in self.front}
        return {
            "model": self.model,
            "points": [{**p.to_json(), "front": p.name in front} for p in self.points],
            "refused": [{"name": name, "reason": reason} for name, reason in self.refused],
        }

    def to_markdown(self) -> str:
        """pareto.md: one row a point."""
        labelled_rows = any(p.measured is not None for p in self.points)
        heads = ["budget", "stored bytes", "on chip", "18 Kb blocks", "bits a weight"]
        heads += ["top-1", "top-5", "agreement", "lost (95%)"] if labelled_rows else ["agreement, expected", "lost, expected"]
        lines = [f"# {self.model}: size against accuracy", "", f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
        for p in self.points:
            cells = [p.name, f"{p.stored_bytes:,}", f"{p.total_bytes:,}", f"{p.bram18:,}", f"{p.widths.average_bits:.2f}"]
            if p.measured is not None:
                m = p.measured
                cells += [f"{100 * m.fixed_top1.mean():.1f}", f"{100 * m.fixed_top5.mean():.1f}", f"{m.agreement:.1f}"]
                cells += [f"{m.lost:.1f} ({m.lost - m.margin:+.1f} to {m.lost + m.margin:+.1f})"]
            else:
                assert p.drop is not None
                cells += [f"{p.drop.agreement:.1f}", f"{p.drop.top1:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
        measured = next((p.measured for p in self.points if p.measured is not None), None)
        if measured is not None:
            lines += ["", f"Float: top-1 {100 * measured.real_top1.mean():.1f}, top-5 {100 * measured.real_top5.mean():.1f}, {measured.count} images."]
        lines += ["", *(f"{name}: {reason}" for name, reason in self.refused)]
        lines += ["", "Each point: `fpga-squeeze export MODEL --calibration DIR --config points/NAME.toml`."]
        return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def pareto(
    model: Path, calibration: Calibration, config: ExportConfig, out: Path, sizes: Sequence[str] = (), images: Path | None = None, force: bool = False,
    progress: Progress = no_progress,
) -> Pareto:  # fmt: skip
    """Quantize `model` for every weight budget and write the folder `out`: pareto.json, pareto.md, pareto.svg and points/NAME.toml, an export's options.

    Args:
        model, calibration: as `pipeline.export`. `config`: everything else of an export, without a weight budget. `sizes`: such as "620kB"; 3 to 8 bits a
            weight where none are given. `images`: labelled images that the accuracy is measured on; without them the loss is estimated (quantize/drop.py).
    Raises:
        InputError: bad model, images, options or folder. CheckFailedError: no size is feasible.
    """
    if config.chooses_widths:
        raise InputError("--weight-budget and --max-drop: `pareto` tries several; give --sizes instead")
    if config.folding is not None:
        raise InputError("--config: its folding was made for one size of the weights; leave it out, or give --target-fps or --device in it")
    writer.check_writable(out, force, KIND)
    test = labelled(images) if images is not None else ()
    device = devices.find_device(config.device) if config.device else None
    # The measurements do not depend on the size.
    quantized = pipeline.quantize_model(model, calibration, replace(config, weight_budget="1GB"), progress, measure_only=True)
    search = quantized.search
    assert search is not None
    names = _distinct(sizes or [_size(sum(weight_counts(search.graph).values()) * bits / 8) for bits in BITS])
    loaded = load_files(tuple(path for path, _ in test), quantized.loaded.preprocess) if test else None
    scores = float_scores(quantized.graph, loaded.pixels) if loaded is not None else None
    label = dict(test)
    points: list[Point] = []
    refused: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    for done, name in enumerate(names):
        progress("sizes", done, len(names))
        own = replace(config, weight_budget=name)
        try:
            widths = search.choose(parse_size(name, "--sizes"))
            found, plan = planning.fold_model(replace(quantized, qgraph=search.quantize(widths), widths=widths), own, device)
        except CheckFailedError as error:
            refused.append((name, str(error)))
            continue
        assert found.widths is not None
        measured = drop = None
        if loaded is not None and scores is not None:
            truth = np.array([label[f] for f in loaded.files], dtype=np.int64)
            measured = compare(scores, found.qgraph, loaded.pixels, truth)
        else:
            drop = search.expected_drop(found.widths)
        points.append(_point(name, found, plan.plan, device, config, drop, measured))
        files[f"points/{name}.toml"] = pipeline.export_options(found, own).to_toml().encode()
    files["points/preprocess.json"] = quantized.loaded.preprocess.to_json().encode()
    if not points:
        raise CheckFailedError(f"no size is feasible: {refused[0][1]}")
    result = Pareto(model.name, tuple(points), tuple(refused))
    files["pareto.json"] = (json.dumps(result.to_json(), indent=1, sort_keys=True) + "\n").encode()
    files["pareto.md"] = result.to_markdown().encode()
    chart = [(p.name, p.stored_bytes, p.lost, p.measured.margin if p.measured else None) for p in points]
    files["pareto.svg"] = pareto_svg(chart, measured=images is not None).encode()
    writer.write_project(out, files, {"model": model.name, "kind": KIND}, force)
    return result


def _size(count: float) -> str:
    """A size to name a point by: whole kB, of small networks bytes."""
    return f"{round(count / 1000)}kB" if count >= 100_000 else f"{round(count)}B"


def _distinct(sizes: Sequence[str]) -> tuple[str, ...]:
    """Largest first; of names for one size the first."""
    found: dict[int, str] = {}
    for size in sizes:
        found.setdefault(parse_size(size, "--sizes"), size)
    return tuple(found[count] for count in sorted(found, reverse=True))


def _point(
    name: str, found: planning.Quantized, plan: FoldPlan, device: Device | None, config: ExportConfig, drop: Drop | None, measured: Paired | None
) -> Point:  # fmt: skip
    assert found.widths is not None
    budget = memory_budget(plan, found.qgraph, parse_size(config.budget), device)
    stored = sum(e.stored_weight_bits for stage in plan.stages for e in stage.engines)
    return Point(name, found.widths, -(-stored // 8), budget.total_bytes, budget.bram18, drop, measured)
