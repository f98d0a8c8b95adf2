"""Ablation of the post-training methods: one more in each row, on photographs that no choice has seen.

    FPGA_SQUEEZE_DATA=folder/of/weights python benchmarks/bench_quantizer.py [--network 1_1] [--bits 8,5,4] [--halves 0,1]

`nats`: mean divergence of the class probabilities from the float network's, the figure with the least chance in it; `same`: percent of photographs with
float's first class; `ratio`: nats against the first row's, plain rounding. Half of the photographs calibrates, the other half tests.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fpga_squeeze import passes
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.load.images import load_files
from fpga_squeeze.load.model import load_model
from fpga_squeeze.pipeline import load_options
from fpga_squeeze.quantize.methods import BEST, PLAIN
from fpga_squeeze.quantize.ptq import QuantOptions, calibrate_for, quantize
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.paired import compare, float_scores, pooled

STEPS = (
    ("plain rounding", {}),
    ("ranges by error", {"error_ranges": True}),
    ("bias correction", {"correct_bias": True}),
    ("equalized channels", {"equalize": True}),
    ("error compensation (fast)", {"compensate": True}),
    ("fit to quantized inputs", {"refit": True}),
    ("rounding by descent", {"descend": True}),
    ("scales by the answer", {"answer_ranges": True}),
    ("channel ranges by the answer", {"channel_ranges": True}),
    ("clipped reference (best)", {"clipped_reference": True}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="1_1")
    parser.add_argument("--bits", default="8,5,4")
    parser.add_argument("--halves", default="0,1")
    args = parser.parse_args()
    data = Path(os.environ["FPGA_SQUEEZE_DATA"])
    files = sorted((data / "images").iterdir())
    loaded = load_model(data / f"squeezenet{args.network}_imagenet.pt", load_options(ExportConfig(preprocess="caffe" if args.network == "1_0" else None)))
    graph = passes.lower(loaded.graph, loaded.preprocess)
    halves = []
    for half in (int(h) for h in args.halves.split(",")):
        test = files[1 - half :: 2]
        pixels = load_files(tuple(test), loaded.preprocess).pixels
        scores = float_scores(graph, pixels)
        truth = np.array([int(f.name[:4]) for f in test], dtype=np.int64)
        halves.append((load_files(tuple(files[half::2]), loaded.preprocess).pixels, pixels, truth, scores))
    methods, first = PLAIN, dict[int, float]()
    print(f"{'':28}" + "".join(f"{f'{bits} bits: nats':>15}{'ratio':>8}{'same':>7}{'lost':>6}" for bits in args.bits.split(",")) + f"{'seconds':>10}")
    for name, change in STEPS:
        methods = replace(methods, **change)
        start, line = time.monotonic(), f"{name:28}"
        for bits in (int(b) for b in args.bits.split(",")):
            found, divergence = [], []
            options = QuantOptions(bits, methods=methods)
            for own, pixels, truth, scores in halves:
                qgraph = quantize(graph, calibrate_for(graph, own, options), options)
                node = qgraph[qgraph.output]
                area = float(np.prod(qgraph[node.inputs[0]].shape[1:]))
                real, got = (_log_softmax(s) for s in (scores, FastSimulator(qgraph).run(pixels) * node.fmt.scale / area))
                divergence.append((np.exp(real) * (real - got)).sum(1).mean())
                found.append(compare(scores, qgraph, pixels, truth))
            nats, both = float(np.mean(divergence)), pooled(found)
            line += f"{nats:>15.4f}{nats / first.setdefault(bits, nats):>8.3f}{both.agreement:>7.1f}{both.lost:>6.1f}"
        print(f"{line}{time.monotonic() - start:>10.0f}", flush=True)
    assert methods == BEST


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


if __name__ == "__main__":
    main()
