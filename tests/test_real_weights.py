"""The main job on real ImageNet weights and photographs, as a user runs it: the bars of accuracy, size, equality and repeatability."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import RunCli

from fpga_squeeze import jobs, pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.verify.checks import VerifyOptions


@dataclass(frozen=True)
class Split:
    """Folders of links: half of the photographs to calibrate on, the other half to test on."""

    calibration: Path
    test: Path


@pytest.fixture(scope="module")
def split(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("photographs")
    result = Split(folder / "calibration", folder / "test")
    for i, path in enumerate(sorted((data_dir / "images").iterdir())):
        target = (result.calibration, result.test)[i % 2]
        target.mkdir(exist_ok=True)
        (target / path.name).symlink_to(path)
    return result


@pytest.fixture(scope="module")
def v11(data_dir: Path, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v11") / "out"
    pipeline.export(data_dir / "squeezenet1_1_imagenet.pt", out, str(split.calibration), ExportConfig())
    return out


def accuracy(out: Path, split: Split) -> dict[str, float]:
    body = jobs.evaluate(out, split.test, None, None).result
    assert body.count == 100
    return {
        "top1_lost": body.float_accuracy.top1 - body.fixed_accuracy.top1,
        "top5_lost": body.float_accuracy.top5 - body.fixed_accuracy.top5,
        "agreement": body.agreement_top1,
    }


def test_v11_loses_at_most_one_image(v11: Path, split: Split) -> None:
    result = accuracy(v11, split)
    assert result["top1_lost"] <= 1 and result["top5_lost"] <= 1 and result["agreement"] >= 91, result


def test_v11_budget_is_the_sum_of_its_rows_and_below_1_6_mb(v11: Path) -> None:
    body = json.loads((v11 / "report/memory_budget.json").read_text())
    bits = sum(row["bits"] for row in body["rows"])
    assert body["total_bytes"] == -(-bits // 8) < 1_600_000
    assert sum(body["by_kind"].values()) == body["total_bytes"]
    assert body["by_kind"]["weights"] >= 1_231_552, "every weight is on chip"


def test_v11_c_simulation_of_two_frames_equals_the_simulator_at_every_stage(v11: Path) -> None:
    result = jobs.verify(v11, VerifyOptions(hls=True))
    assert result.ok, [row.describe() for row in result.checks if not row.ok] + list(result.faults)
    hls = {row.stage: row.compared for row in result.checks if row.implementation == "hls"}
    assert result.frames == 2 and hls["conv1"] == 2 * 64 * 111 * 111 and hls["pool10"] == 2 * 1000


def test_v11_over_a_budget_of_1_mb_writes_nothing(data_dir: Path, tmp_path: Path, run_cli: RunCli) -> None:
    model = data_dir / "squeezenet1_1_imagenet.pt"
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((data_dir / "images").iterdir())[:4]:
        (few / path.name).symlink_to(path)
    result = run_cli("export", model, "--calibration", few, "-o", tmp_path / "out", "--budget", "1MB")
    assert result.code == 1 and "conv10" in result.err and "--weight-bits" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["few"]


def test_a_strangers_checkpoint_exports_without_options(data_dir: Path, split: Split, tmp_path: Path, run_cli: RunCli) -> None:
    """v1.0 with 10 classes, the paper's names under model_state_dict; exported twice into different folders it is the same, byte for byte."""
    from fpga_squeeze.zoo.arch import SQUEEZENET1_0, conv_shapes

    source = torch.load(data_dir / "squeezenet1_0_imagenet.pt", weights_only=True)
    renamed = {}
    for shape in conv_shapes(SQUEEZENET1_0):
        for leaf in ("weight", "bias"):
            renamed[f"{shape.name}.{leaf}"] = source[f"{shape.torchvision_prefix}.{leaf}"].float()
    renamed["conv10.weight"], renamed["conv10.bias"] = renamed["conv10.weight"][::100].clone(), renamed["conv10.bias"][::100].clone()
    model = tmp_path / "stranger.pt"
    torch.save({"model_state_dict": renamed, "epoch": 7}, model)
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(split.calibration.iterdir())[:6]:
        (few / path.name).symlink_to(path.resolve())
    outs = (tmp_path / "a", tmp_path / "some" / "where" / "b")
    for out in outs:
        result = run_cli("export", model, "--calibration", few, "-o", out, "--json")
        assert result.code == 0, result.err
        assert json.loads(result.out)["classes"] == 10
    trees = [{p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in outs]
    assert trees[0] == trees[1] and len(trees[0]) > 60
    image = next(iter(sorted(few.iterdir())))
    top = json.loads(run_cli("simulate", outs[0], image, "--top-k", "10", "--json").out)["images"][0]["top"]
    assert sorted(t["class"] for t in top) == list(range(10))


@pytest.mark.slow
@pytest.mark.parametrize(("version", "bits", "least"), [("1_0", 8, 91.0), ("1_0", 12, 99.0), ("1_1", 12, 99.0)])
def test_other_networks_and_widths(version: str, bits: int, least: float, data_dir: Path, split: Split, tmp_path: Path) -> None:
    config = ExportConfig(weight_bits=bits, act_bits=bits, preprocess="caffe" if version == "1_0" else None)
    pipeline.export(data_dir / f"squeezenet{version}_imagenet.pt", tmp_path / "out", str(split.calibration), config)
    result = accuracy(tmp_path / "out", split)
    assert result["top1_lost"] <= 1 and result["top5_lost"] <= 1 and result["agreement"] >= least, result
