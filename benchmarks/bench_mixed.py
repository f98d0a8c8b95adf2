"""Mixed precision against one width for all layers: size, blocks and accuracy on photographs that the choice did not see.

    FPGA_SQUEEZE_DATA=folder/of/weights python benchmarks/bench_mixed.py [--version 1_1] [--budgets 1000,860,780,700,620] [--uniform 8,7,6,5,4] [--swap]

Every other photograph calibrates (and measures the layers), the others test; --swap exchanges the halves. `lost` is the share of photographs that float
gets right and the machine does not, minus the reverse, in points, with the 95% interval of a paired difference (1.96 standard errors).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.load.images import load_files
from fpga_squeeze.planning import Quantized
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.report.budget import memory_budget, parse_size
from fpga_squeeze.simulate.evaluate import top_k
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

BATCH = 8


def float_scores(quantized: Quantized, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, classes) of the float network."""
    model = FloatModel(quantized.graph)
    parts = [model.run(torch.from_numpy(pixels[i : i + BATCH].astype(np.float32))).numpy() for i in range(0, len(pixels), BATCH)]
    return np.concatenate(parts).astype(np.float64)


def row(what: str, quantized: Quantized, config: ExportConfig, pixels: NDArray[np.uint8], truth: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
    """One line of the table."""
    quantized, found = planning.fold_model(quantized, config, None)
    budget = memory_budget(found.plan, quantized.qgraph, parse_size("10MB"))
    fixed, real = (top_k(s, 5) for s in (FastSimulator(quantized.qgraph).run(pixels), scores))
    hits = np.stack([r[:, 0] == truth for r in (real, fixed)]).astype(np.float64)
    lost = 100 * (hits[0] - hits[1])
    margin = 1.96 * lost.std(ddof=1) / np.sqrt(len(lost))
    top5 = 100 * (fixed == truth[:, None]).any(axis=1).mean()
    stored = sum(r.bits for r in budget.rows if r.kind == "weights") / 8000
    print(
        f"{what:>14}{stored:>10.1f}{budget.bram18:>8}{100 * hits[1].mean():>8.1f}{top5:>8.1f}{100 * (real[:, 0] == fixed[:, 0]).mean():>8.1f}"
        f"{lost.mean():>8.1f} ({lost.mean() - margin:+.1f} to {lost.mean() + margin:+.1f})", flush=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="1_1")
    parser.add_argument("--budgets", default="1000,860,780,700,620", help="kB, largest first")
    parser.add_argument("--uniform", default="8,7,6,5,4")
    parser.add_argument("--swap", action="store_true")
    args = parser.parse_args()
    data = Path(os.environ["FPGA_SQUEEZE_DATA"])
    files = sorted((data / "images").iterdir())
    calibration, test = (files[1::2], files[0::2]) if args.swap else (files[0::2], files[1::2])
    budgets = args.budgets.split(",")
    config = ExportConfig(weight_budget=f"{budgets[0]}kB", preprocess="caffe" if args.version == "1_0" else None)
    start = time.monotonic()
    quantized = pipeline.quantize_model(data / f"squeezenet{args.version}_imagenet.pt", calibration, config)
    search = quantized.search
    assert search is not None
    print(f"measured and quantized in {time.monotonic() - start:.0f} s")
    pixels = load_files(tuple(test), quantized.loaded.preprocess).pixels
    truth = np.array([int(f.name[:4]) for f in test], dtype=np.int64)
    scores = float_scores(quantized, pixels)
    real = top_k(scores, 5)
    print(f"float: top-1 {100 * (real[:, 0] == truth).mean():.1f}, top-5 {100 * (real == truth[:, None]).any(axis=1).mean():.1f}, {len(truth)} photographs")
    print(f"{'':>14}{'kB':>10}{'18 Kb':>8}{'top-1':>8}{'top-5':>8}{'agree':>8}{'lost':>8} (95%)")
    for budget in budgets:
        own = replace(config, weight_budget=f"{budget}kB")
        widths = search.choose(parse_size(f"{budget}kB"))
        row(f"{budget} kB", replace(quantized, qgraph=search.quantize(widths), widths=widths), own, pixels, truth, scores)
    for bits in (int(b) for b in args.uniform.split(",")):
        qgraph = quantize(search.graph, search.calibration, QuantOptions(weight_bits=bits))
        row(f"{bits} bits", replace(quantized, qgraph=qgraph, search=None, widths=None), config, pixels, truth, scores)


if __name__ == "__main__":
    main()
