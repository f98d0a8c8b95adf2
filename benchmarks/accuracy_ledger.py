"""The accuracy ledger docs/accuracy.md: every way to store the weights, on photographs that no choice has seen.

    FPGA_SQUEEZE_DATA=folder/of/weights python benchmarks/accuracy_ledger.py [-o docs/accuracy.md]

Half of the photographs calibrates and measures, the other half tests, then the other way round, so each photograph is tested once. SqueezeNet v1.0 takes
pixels as the Caffe original does. The four parts (network, half) run two at a time with a thread each, about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.load.images import load_files
from fpga_squeeze.package.build import full_package
from fpga_squeeze.package.network import network_of
from fpga_squeeze.planning import Quantized
from fpga_squeeze.quantize.methods import BEST, FAST, Methods
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.report.budget import memory_budget, parse_size
from fpga_squeeze.simulate.paired import Paired, compare, float_scores, pooled

NETWORKS = {"1_1": "SqueezeNet v1.1", "1_0": "SqueezeNet v1.0"}
BUDGETS = ("860kB", "780kB", "700kB", "620kB", "540kB", "460kB", "400kB", "340kB")


@dataclass(frozen=True)
class Row:
    """A way to store the weights: every layer's `bits`, or indices of `codebook` bits, or the widths of `budget`."""

    name: str
    methods: Methods = BEST
    bits: int = 8
    codebook: int = 0
    budget: str | None = None

    @property
    def storage(self) -> str:
        """How the memories hold them: as they are where nothing else is said."""
        return "smallest" if self.codebook or self.budget else "dense"


ROWS = (
    Row("8 bits, `fast`", FAST), Row("8 bits, `best`"), *(Row(f"{bits} bits, `best`", bits=bits) for bits in (6, 5, 4)),
    *(Row(f"codebook, {bits} bits", codebook=bits) for bits in (6, 5, 4, 3)), *(Row(f"mixed, {size}", budget=size) for size in BUDGETS),
)  # fmt: skip
SPARSE = "8 bits, `best`, zeros left out"
"""The same network as "8 bits, `best`", stored in less: its accuracy is that row's."""


def part(version: str, half: int) -> dict[str, object]:
    """One network calibrated on one half of the photographs and tested on the other."""
    data = Path(os.environ["FPGA_SQUEEZE_DATA"])
    model, files = data / f"squeezenet{version}_imagenet.pt", sorted((data / "images").iterdir())
    config = ExportConfig(preprocess="caffe" if version == "1_0" else None, quantizer="best", weight_budget=BUDGETS[0])
    start = time.monotonic()
    measured = pipeline.quantize_model(model, files[half::2], config)
    print(f"v{version} half {half}: measured after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    search = measured.search
    assert search is not None
    test = files[1 - half :: 2]
    pixels = load_files(tuple(test), measured.loaded.preprocess).pixels
    truth = np.array([int(f.name[:4]) for f in test], dtype=np.int64)
    scores = float_scores(measured.graph, pixels)
    rows: dict[str, object] = {}
    for row in ROWS:
        own = replace(config, weight_budget=row.budget, weight_storage=row.storage, quantizer="fast" if row.methods == FAST else "best")
        if row.budget:
            widths = search.choose(parse_size(row.budget))
            quantized, found = planning.fold_model(replace(measured, qgraph=search.quantize(widths), widths=widths), own, None)
        else:
            options = QuantOptions(row.bits, methods=row.methods, codebook_bits=row.codebook)
            if options.fine:  # has ranges of its own
                qgraph = pipeline.quantize_model(model, files[half::2], replace(own, weight_budget=None)).qgraph
            else:
                qgraph = quantize(search.graph, search.calibration, options)
            quantized = replace(measured, qgraph=qgraph, search=None, widths=None)
            found = planning.choose_plan(qgraph, own, None)
        rows[row.name] = _sizes(quantized, found.plan, own) | _hits(compare(scores, quantized.qgraph, pixels, truth))
        if row.name == "8 bits, `best`":
            sparse = replace(own, weight_storage="smallest")
            rows[SPARSE] = rows[row.name] | _sizes(quantized, planning.choose_plan(quantized.qgraph, sparse, None).plan, sparse)  # type: ignore[operator]
        print(f"v{version} half {half}: {row.name} after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return rows


def _sizes(quantized: Quantized, plan: planning.FoldPlan, config: ExportConfig) -> dict[str, object]:
    budget = memory_budget(plan, quantized.qgraph, parse_size(config.budget))
    loaded = planning.choose_plan(quantized.qgraph, replace(config, weight_budget=None, weight_storage="dense", weights="loaded"), None).plan
    return {
        "stored": -(-sum(e.stored_weight_bits for stage in plan.stages for e in stage.engines) // 8),
        "total": budget.total_bytes, "bram18": budget.bram18, "package": len(full_package(network_of(quantized.qgraph, loaded)).to_bytes()),
    }  # fmt: skip


def _hits(found: Paired) -> dict[str, object]:
    return {name: getattr(found, name).astype(int).tolist() for name in ("real_top1", "real_top5", "fixed_top1", "fixed_top5", "same")}


def table(parts: list[dict[str, dict[str, object]]]) -> list[str]:
    """One network's rows, its halves pooled; sizes are the larger half's."""
    lines: list[str] = []
    for name in parts[0]:
        halves = [p[name] for p in parts]
        found = pooled([Paired(*(np.array(h[k], dtype=bool) for k in ("real_top1", "real_top5", "fixed_top1", "fixed_top5", "same"))) for h in halves])
        if not lines:
            lines = [
                f"Float: top-1 {100 * found.real_top1.mean():.1f}, top-5 {100 * found.real_top5.mean():.1f} on {found.count} photographs.", "",
                "| weights | stored, bytes | on chip, bytes | 18 Kb blocks | package, bytes | top-1 | top-5 | same class | top-1 lost, 95% interval |",
                "|---|---:|---:|---:|---:|---:|---:|---:|---|",
            ]  # fmt: skip
        stored, total, blocks, package = (max(int(h[k]) for h in halves) for k in ("stored", "total", "bram18", "package"))  # type: ignore[call-overload]
        lines.append(
            f"| {name} | {stored:,} | {total:,} | {blocks:,} | {package:,} | {100 * found.fixed_top1.mean():.1f} | {100 * found.fixed_top5.mean():.1f} | "
            f"{found.agreement:.1f} | {found.lost:.1f} ({found.lost - found.margin:+.1f} to {found.lost + found.margin:+.1f}) |"
        )
    return lines


HEAD = """# Accuracy ledger

Made by `make accuracy` (`benchmarks/accuracy_ledger.py`) from the ImageNet weights and the 200 labelled photographs, one a class, behind
FPGA_SQUEEZE_DATA: half of them calibrates, the other half tests, then the other way round. No figure was measured on a photograph that a format, a width or a
weight was chosen on. Activations have 8 bits everywhere; nothing was trained.

- **stored**: all weights in the machine's memories at 500 frames/s and 200 MHz, padding, bitmaps and tables included; **on chip**: with line buffers, FIFOs
  and biases; **blocks** as the memory model packs them without a device. Rows of plain bits are stored as they are, all others in the smallest form
  ([weight-storage.md](weight-storage.md)).
- **package**: the over-the-air package of the same network ([over-the-air.md](over-the-air.md)).
- **lost**: paired, photograph by photograph: right in float and wrong in the machine, less the reverse. Two hundred photographs separate two or three points
  from none, no less.
- **mixed**: `--weight-budget` ([mixed-precision.md](mixed-precision.md)); all other rows one width for all layers.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent.parent / "docs" / "accuracy.md")
    parser.add_argument("--part", metavar="NETWORK,HALF", help="one part, printed as JSON")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the parts; those that are there are not measured again")
    args = parser.parse_args()
    if args.part:
        version, half = args.part.split(",")
        torch.set_num_threads(1)
        print(json.dumps(part(version, int(half))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)

        def run(job: tuple[str, int]) -> None:
            target = folder / f"{job[0]}_{job[1]}.json"
            if not target.exists():
                done = subprocess.run([sys.executable, __file__, "--part", f"{job[0]},{job[1]}"], stdout=subprocess.PIPE, check=True)
                target.write_bytes(done.stdout)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, [(version, half) for half in (0, 1) for version in NETWORKS]))
        text = HEAD
        for version, title in NETWORKS.items():
            text += f"\n## {title}\n\n" + "\n".join(table([json.loads((folder / f"{version}_{half}.json").read_text()) for half in (0, 1)])) + "\n"
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
