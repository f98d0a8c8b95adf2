"""Time per image of the bit-accurate fast simulator against the float network in torch: python benchmarks/bench_simulator.py [--batch 8] [--rounds 15]

SqueezeNet v1.1 at 224 x 224 on two threads, both networks measured in turn in one process, medians. Trained weights are used when
FPGA_SQUEEZE_DATA names a folder that has them, random ones of the same shapes otherwise. Exit code 1 when the ratio exceeds 1.5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fpga_squeeze import passes
from fpga_squeeze.ir import Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Input, MaxPool, ceil_mode_extra
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

LIMIT = 1.5
FIRES = ((64, 16, 64), (128, 16, 64), None, (128, 32, 128), (256, 32, 128), None, (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256))


def network() -> tuple[Graph, str]:
    """The lowered v1.1 and where its weights come from."""
    data = os.environ.get("FPGA_SQUEEZE_DATA")
    file = Path(data) / "squeezenet1_1_imagenet.pt" if data else None
    if file is None or not file.is_file():
        return random_network(), "random weights"
    loaded = load_model(file, LoadOptions())
    return passes.lower(loaded.graph, loaded.preprocess), file.name


def random_network() -> Graph:
    """SqueezeNet v1.1's shapes with random weights."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()

    def conv(name: str, source: str, oc: int, k: int, stride: int = 1, padding: int = 0, gain: float = 1.0) -> str:
        ic = builder.shape(source)[0]
        weight = rng.standard_normal((oc, ic, k, k)) * gain * np.sqrt(2.0 / (ic * k * k))
        return builder.add(name, Conv(weight, np.zeros(oc), stride, (padding,) * 4, True), (source,))

    def pool(name: str, source: str) -> str:
        extra = ceil_mode_extra(builder.shape(source)[1], 3, 2, 0)
        return builder.add(name, MaxPool(3, 2, (0, 0, extra, extra)), (source,))

    x = pool("pool1", conv("conv1", builder.add("image", Input((3, 224, 224)), ()), 64, 3, stride=2, gain=1 / 64))
    for i, fire in enumerate(FIRES):
        if fire is None:
            x = pool(f"pool{i}", x)
            continue
        _, squeeze_channels, expand = fire
        squeeze = conv(f"fire{i}.squeeze", x, squeeze_channels, 1)
        branches = conv(f"fire{i}.expand1x1", squeeze, expand, 1), conv(f"fire{i}.expand3x3", squeeze, expand, 3, padding=1)
        x = builder.add(f"fire{i}.concat", Concat(), branches)
    x = conv("conv10", x, 1000, 1)
    return builder.build(builder.add("pool10", GlobalAveragePool(), (x,)))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    """Print the table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    graph, source = network()
    pixels = np.random.default_rng(1).integers(0, 256, size=(arguments.batch, 3, 224, 224), dtype=np.uint8)
    qgraph = quantize(graph, calibrate(graph, pixels), QuantOptions())
    simulator, model = FastSimulator(qgraph), FloatModel(graph)
    x = torch.from_numpy(pixels.astype(np.float32))
    works: dict[str, Callable[[], object]] = {
        "float": lambda: model.run(x),
        "float, channels last": lambda: model.run(x.contiguous(memory_format=torch.channels_last)),
        "simulator": lambda: simulator.run(pixels),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(arguments.rounds + 2):
        for name, work in works.items():
            spent = seconds(work)
            if round_number >= 2:
                times[name].append(spent)
    median = {name: statistics.median(values) / arguments.batch * 1000 for name, values in times.items()}
    wide = [b.name for b in simulator.layer_bounds if b.dtype != torch.float32]
    print(f"SqueezeNet v1.1 224x224, {source}, batch {arguments.batch}, {torch.get_num_threads()} threads, median of {arguments.rounds}")
    for name, value in median.items():
        print(f"  {name:22s} {value:7.2f} ms an image")
    print(f"  layers in float64: {', '.join(wide) if wide else 'none'}")
    ratio = median["simulator"] / median["float"]
    print(f"  ratio simulator / float: {ratio:.2f} (limit {LIMIT}); against channels last: {median['simulator'] / median['float, channels last']:.2f}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
