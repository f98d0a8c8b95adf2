"""8-bit weights and activations on eight views of every photograph: the loss in top-1 to a few tenths of a point, which single views are too few for.

    FPGA_SQUEEZE_DATA=folder/of/weights python benchmarks/bench_views.py [--networks 1_1,1_0] [--quantizer best]

The views are the photograph, three crops of it scaled up again, and their mirror images. Half of the photographs calibrates, the other half tests, then
the other way round. The interval is over photographs: views of one are no independent images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fpga_squeeze import passes
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.load.images import load_files
from fpga_squeeze.load.model import load_model
from fpga_squeeze.pipeline import load_options
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.methods import find_methods
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.simulate.paired import compare, float_scores, pooled

Pixels = NDArray[np.uint8]
CROPS = ((0.88, 0.5, 0.5), (0.9, 0.0, 0.0), (0.9, 1.0, 1.0))
"""Share of the side, and where it lies from top to bottom and from left to right."""


def crop(pixels: Pixels, share: float, down: float, right: float) -> Pixels:
    """A square part of every picture, (N, C, S, S), at the pictures' own size."""
    size = pixels.shape[2]
    part = int(size * share)
    top, left = int((size - part) * down), int((size - part) * right)
    inside = torch.from_numpy(pixels[:, :, top : top + part, left : left + part].astype(np.float32))
    return np.asarray(F.interpolate(inside, size=(size, size), mode="bilinear", align_corners=False).round().clamp(0, 255).numpy(), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="1_1,1_0")
    parser.add_argument("--quantizer", default="best")
    args = parser.parse_args()
    data, methods = Path(os.environ["FPGA_SQUEEZE_DATA"]), find_methods(args.quantizer)
    files = sorted((data / "images").iterdir())
    for network in args.networks.split(","):
        loaded = load_model(data / f"squeezenet{network}_imagenet.pt", load_options(ExportConfig(preprocess="caffe" if network == "1_0" else None)))
        graph = passes.lower(loaded.graph, loaded.preprocess)
        found, lost = [], []
        for half in (0, 1):
            own, test = (load_files(tuple(files[i::2]), loaded.preprocess).pixels for i in (half, 1 - half))
            truth = np.array([int(f.name[:4]) for f in files[1 - half :: 2]], dtype=np.int64)
            calibration = calibrate(graph, own, equalize=methods.equalize, by_answer=methods.answer_ranges)
            qgraph = quantize(graph, calibration, QuantOptions(methods=methods))
            views = [view for picture in (test, *(crop(test, *c) for c in CROPS)) for view in (picture, np.ascontiguousarray(picture[:, :, :, ::-1]))]
            parts = [compare(float_scores(graph, view), qgraph, view, truth) for view in views]
            found += parts
            lost.append(np.mean([p.real_top1.astype(float) - p.fixed_top1 for p in parts], axis=0))
        both, each = pooled(found), 100 * np.concatenate(lost)
        margin = 1.96 * each.std(ddof=1) / len(each) ** 0.5
        print(
            f"v{network.replace('_', '.')} {args.quantizer}: {both.count} views, float {100 * both.real_top1.mean():.1f}, "
            f"lost {both.lost:.2f} ({both.lost - margin:+.2f} to {both.lost + margin:+.2f}), same class {both.agreement:.1f}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
