"""Views of every photograph: the loss in top-1 to a few tenths of a point, which single views are too few for.

    FPGA_SQUEEZE_DATA=folder/of/weights python benchmarks/bench_views.py [--networks 1_1,1_0] [--quantizer best] [--crops 11] [--without METHOD ...]
    python benchmarks/bench_views.py --exports OUT [OUT ...] --images photos/test

The views are the photograph, three crops of it scaled up again (or --crops of them, up to 11), and their mirror images. With --networks, 8-bit weights and
activations: half of the photographs calibrates, the other half tests, then the other way round. With --exports, machines as they were exported, on labelled
images (0025_name.jpg) that they were not calibrated on. The interval is over photographs: views of one are no independent images.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fpga_squeeze import passes
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.images import load_files
from fpga_squeeze.load.model import load_model
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.pipeline import load_options, open_export
from fpga_squeeze.quantize.methods import Methods, find_methods
from fpga_squeeze.quantize.ptq import QuantOptions, calibrate_for, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.paired import Paired, compare, float_scores, pooled

Pixels = NDArray[np.uint8]
CROPS = (
    (0.88, 0.5, 0.5), (0.9, 0.0, 0.0), (0.9, 1.0, 1.0), (0.9, 0.0, 1.0), (0.9, 1.0, 0.0), (0.95, 0.5, 0.5),
    (0.95, 0.0, 0.0), (0.95, 1.0, 1.0), (0.95, 0.0, 1.0), (0.95, 1.0, 0.0), (0.92, 0.5, 0.5),
)  # fmt: skip
"""Share of the side, and where it lies from top to bottom and from left to right; the first three unless more are asked for."""


def crop(pixels: Pixels, share: float, down: float, right: float) -> Pixels:
    """A square part of every picture, (N, C, S, S), at the pictures' own size."""
    size = pixels.shape[2]
    part = int(size * share)
    top, left = int((size - part) * down), int((size - part) * right)
    inside = torch.from_numpy(pixels[:, :, top : top + part, left : left + part].astype(np.float32))
    return np.asarray(F.interpolate(inside, size=(size, size), mode="bilinear", align_corners=False).round().clamp(0, 255).numpy(), dtype=np.uint8)


def views(pixels: Pixels, crops: int = 3) -> list[Pixels]:
    """The 2 (crops + 1) views of every picture."""
    return [view for picture in (pixels, *(crop(pixels, *c) for c in CROPS[:crops])) for view in (picture, np.ascontiguousarray(picture[:, :, :, ::-1]))]


def show(name: str, halves: list[list[Paired]]) -> None:
    """One line: views, top-1 in float, points lost with the interval over photographs, answers alike. `halves`: the views of different photographs."""
    both = pooled([part for half in halves for part in half])
    each = 100 * np.concatenate([np.mean([p.real_top1.astype(float) - p.fixed_top1 for p in half], axis=0) for half in halves])
    margin = 1.96 * each.std(ddof=1) / len(each) ** 0.5
    print(
        f"{name}: {both.count} views, float {100 * both.real_top1.mean():.1f}, "
        f"lost {both.lost:.2f} ({both.lost - margin:+.2f} to {both.lost + margin:+.2f}), same class {both.agreement:.1f}", flush=True,
    )  # fmt: skip


def measured(graph: Graph, qgraph: QuantGraph, files: Sequence[Path], preprocess: Preprocess, crops: int) -> list[Paired]:
    """Float against fixed on every view of the labelled `files`."""
    truth = np.array([int(f.name[:4]) for f in files], dtype=np.int64)
    return [compare(float_scores(graph, view), qgraph, view, truth) for view in views(load_files(tuple(files), preprocess).pixels, crops)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="1_1,1_0")
    parser.add_argument("--quantizer", default="best")
    parser.add_argument("--without", nargs="+", default=[], choices=[f.name for f in fields(Methods)], metavar="METHOD", help="leave out methods of it")
    parser.add_argument("--crops", type=int, default=3, choices=range(len(CROPS) + 1), metavar="N")
    parser.add_argument("--exports", nargs="+", type=Path, default=[])
    parser.add_argument("--images", type=Path)
    args = parser.parse_args()
    if args.exports:
        if args.images is None:
            parser.error("--exports: labelled images are needed, give --images DIR")
        for out in args.exports:
            opened = open_export(out)
            show(str(out), [measured(opened.float_graph, opened.qgraph, sorted(args.images.iterdir()), opened.preprocess, args.crops)])
        return
    data = Path(os.environ["FPGA_SQUEEZE_DATA"])
    methods = replace(find_methods(args.quantizer), **dict.fromkeys(args.without, False))
    files = sorted((data / "images").iterdir())
    for network in args.networks.split(","):
        loaded = load_model(data / f"squeezenet{network}_imagenet.pt", load_options(ExportConfig(preprocess="caffe" if network == "1_0" else None)))
        graph = passes.lower(loaded.graph, loaded.preprocess)
        halves = []
        for half in (0, 1):
            own = load_files(tuple(files[half::2]), loaded.preprocess).pixels
            options = QuantOptions(methods=methods)
            qgraph = quantize(graph, calibrate_for(graph, own, options), options)
            halves.append(measured(graph, qgraph, files[1 - half :: 2], loaded.preprocess, args.crops))
        label = " ".join([args.quantizer, *(f"-{name}" for name in args.without)])
        show(f"v{network.replace('_', '.')} {label}", halves)


if __name__ == "__main__":
    main()
