"""The bars on real ImageNet weights: a package of v1.0, and a delta of its conv10, in Python and in C."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit.load_image import check_other_model, load_image
from fpga_squeeze.package.build import delta_package, full_package
from fpga_squeeze.package.network import network_of
from fpga_squeeze.package.restore import read_network
from tests.package_cases import Case, compile_decoder, run_decoder

CONFIG = ExportConfig(preprocess="caffe", weights="loaded")


def entropy_bytes(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) / 8


def test_v10_takes_half_a_megabyte_and_a_new_conv10_less_than_its_entropy(data_dir: Path, tmp_path: Path) -> None:
    model = data_dir / "squeezenet1_0_imagenet.pt"
    images = sorted((data_dir / "images").iterdir())[::40]
    state = torch.load(model, weights_only=True)
    name = next(n for n, v in state.items() if v.ndim == 4 and v.shape[0] == 1000)
    weight = state[name].float()
    state[name] = weight + 0.05 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    torch.save(state, tmp_path / "changed.pt")
    machine, other = (pipeline.quantize_model(path, images, CONFIG).qgraph for path in (model, tmp_path / "changed.pt"))
    plan = planning.choose_plan(machine, CONFIG, None).plan
    check_other_model(machine, plan, other)
    old, new = network_of(machine, plan), network_of(other, plan, machine)
    full, delta = full_package(old).to_bytes(), delta_package(old, new).to_bytes()

    assert len(full) <= 500_000
    entropy = sum(entropy_bytes(v.weight) for v in old.values)
    assert len(full) < entropy
    change = entropy_bytes(new.values[-1].weight - old.values[-1].weight)
    assert all(a.equals(b) for a, b in zip(old.values[:-1], new.values[:-1], strict=True)) and change > 50_000
    assert len(delta) <= 1.02 * change

    assert read_network(delta, read_network(full)).content_digest() == new.content_digest()
    if shutil.which("gcc"):
        images_of = load_image(machine, plan), load_image(other, plan, machine)
        program = compile_decoder(tmp_path, "gcc")
        answers = run_decoder(program, [Case(full, capacity=1 << 21), Case(delta, base=images_of[0], capacity=1 << 21)])
        assert [a.code for a in answers] == [0, 0] and tuple(a.image for a in answers) == images_of
