"""Sizes of over-the-air packages of the ImageNet weights, beside the bits at fixed width, the order-0 entropy, zlib and lzma; and of deltas of conv10.

    FPGA_SQUEEZE_DATA=... python benchmarks/bench_package.py [--bits 8,6,5,4] [--versions 1_0,1_1]

Entropy: of each layer's weights on their own, weights only; zlib and lzma: at their best level, over all weights as a byte each or packed to their bits,
whichever is smaller. The package has biases, shifts and headers as well. A delta's entropy is that of conv10's changed weights less the old ones.
"""

from __future__ import annotations

import argparse
import lzma
import os
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit.load_image import check_other_model
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.package.build import delta_package, full_package
from fpga_squeeze.package.network import Network, network_of
from fpga_squeeze.package.restore import read_network
from fpga_squeeze.quantize.qgraph import QuantGraph


def entropy_bytes(values: np.ndarray) -> float:
    """Order-0 entropy of all values together."""
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) / 8


def general(network: Network, bits: int) -> tuple[int, int]:
    """(zlib, lzma) bytes of all weights."""
    weights = np.concatenate([v.weight.reshape(-1) for v in network.values])
    spread = np.packbits((weights[:, None] >> np.arange(bits) & 1).astype(np.uint8).reshape(-1)).tobytes()
    forms = (weights.astype(np.int8).tobytes(), spread) if bits <= 8 else (weights.astype("<i2").tobytes(), spread)
    return min(len(zlib.compress(f, 9)) for f in forms), min(len(lzma.compress(f, preset=9 | lzma.PRESET_EXTREME)) for f in forms)


def quantized(model: Path, config: ExportConfig, images: list[Path]) -> QuantGraph:
    """The model at the configuration's bits."""
    return pipeline.quantize_model(model, images, config).qgraph


def retrained(model: Path, folder: Path) -> dict[str, Path]:
    """Models that differ in conv10 alone, by what was done to it."""
    state = torch.load(model, weights_only=True)
    chance = torch.Generator().manual_seed(1)
    name = next(n for n, v in state.items() if v.ndim == 4 and v.shape[0] == 1000)
    weight = state[name].float()
    noise = torch.randn(weight.shape, generator=chance)
    # As trained weights move: in proportion to the layer's spread; pruned ones stay zero where `kept` is taken.
    kept = (weight != 0).float()
    forms = {
        "every weight moves 3%": weight + 0.03 * weight.std() * noise,
        "every weight moves 20%": weight + 0.2 * weight.std() * noise,
        "those that are not zero move 20%": weight + 0.2 * weight.std() * noise * kept,
        "100 of 1000 classes are new": torch.cat([weight[900:], weight[100:]]),
    }
    found = {}
    for i, (what, changed) in enumerate(forms.items()):
        found[what] = folder / f"{i}.pt"
        torch.save({**state, name: changed}, found[what])
    return found


def deltas(old: Network, machine: QuantGraph, plan: FoldPlan, models: dict[str, Path], config: ExportConfig, images: list[Path]) -> None:
    """A line for each change of conv10."""
    for what, path in models.items():
        other = quantized(path, config, images)
        check_other_model(machine, plan, other)
        new = network_of(other, plan, machine)
        package = delta_package(old, new)
        assert read_network(package.to_bytes(), old).content_digest() == new.content_digest()
        places = [i for i, (a, b) in enumerate(zip(old.values, new.values, strict=True)) if not a.equals(b)]
        entropy = sum(entropy_bytes(new.values[i].weight - old.values[i].weight) for i in places)
        names = ", ".join(f"{r.geometry.name} {'change' if r.coding else 'fresh'}" for r in package.records)
        size = len(package.to_bytes())
        print(f"    delta, {what:<34} {size:>8} bytes; entropy of the change {entropy:>8.0f}; ratio {size / entropy:.4f} ({names})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", default="8,6,5,4")
    parser.add_argument("--versions", default="1_0,1_1")
    args = parser.parse_args()
    data = Path(os.environ["FPGA_SQUEEZE_DATA"])
    images = sorted((data / "images").iterdir())[::8]
    print(f"{'':10}{'weights':>10}{'raw':>11}{'entropy':>10}{'zlib':>10}{'lzma':>10}{'package':>10}   package/ raw  entropy  zlib   lzma   pack s  unpack s")
    for version in args.versions.split(","):
        model = data / f"squeezenet{version}_imagenet.pt"
        with tempfile.TemporaryDirectory() as name:
            models = retrained(model, Path(name))
            for bits in (int(b) for b in args.bits.split(",")):
                config = ExportConfig(weight_bits=bits, weights="loaded", preprocess="caffe" if version == "1_0" else None)
                machine = quantized(model, config, images)
                plan = planning.choose_plan(machine, config, None).plan
                network = network_of(machine, plan)
                start = time.monotonic()
                content = full_package(network).to_bytes()
                packed = time.monotonic()
                assert read_network(content).content_digest() == network.content_digest()
                unpacked = time.monotonic()
                entropy = sum(entropy_bytes(v.weight) for v in network.values)
                sizes = (network.raw_bytes, entropy, *general(network, bits))
                ratios = "".join(f"{len(content) / s:>8.4f}" for s in sizes)
                what = f"v{version.replace('_', '.')} {bits} bits"
                row = f"{what}{network.weights:>11}{sizes[0]:>11}{entropy:>10.0f}{sizes[2]:>10}{sizes[3]:>10}{len(content):>10}"
                print(f"{row}      {ratios} {packed - start:>7.1f} {unpacked - packed:>7.1f}", flush=True)
                deltas(network, machine, plan, models, config, images)


if __name__ == "__main__":
    main()
