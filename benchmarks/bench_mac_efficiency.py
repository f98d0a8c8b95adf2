"""MAC efficiency over targets: predicted for every target of a grid, measured in RTL simulation at the best and the worst of them.

    FPGA_SQUEEZE_DATA=... python benchmarks/bench_mac_efficiency.py [1_1|1_0] [--points N] [--measure best,worst,CYCLES...]

Every measured machine is exported with the ImageNet weights and run by `verify --rtl` on three frames: it also has to be equal in every value. Builds take
minutes each. The ratio in the last column is measured / predicted interval of the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fpga_squeeze import pipeline
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.search import search

CLOCK_MHZ = 200.0
SIZES = {"1_1": 224, "1_0": 227}


def command(*arguments: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-m", "fpga_squeeze", *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", default="1_1", choices=sorted(SIZES))
    parser.add_argument("--points", type=int, default=101, help="targets between 200,000 and 900,000 cycles")
    parser.add_argument("--measure", default="best,worst")
    args = parser.parse_args()
    model = str(Path(os.environ["FPGA_SQUEEZE_DATA"]) / f"squeezenet{args.version}_imagenet.pt")
    common = ("--calibration", "random", "--input-size", str(SIZES[args.version]), "--golden-frames", "3", "--clock-mhz", str(CLOCK_MHZ))
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command("export", model, "-o", str(out), *common)
        qgraph = pipeline.open_export(out).qgraph
        found = []
        for target in np.geomspace(200e3, 900e3, args.points):
            plan = search(qgraph, Goal(CLOCK_MHZ, CLOCK_MHZ * 1e6 / target)).plan
            found.append((plan.mac_efficiency, int(target)))
        found.sort()
        (low, at), (high, _) = found[0], found[-1]
        print(f"v{args.version.replace('_', '.')}, {len(found)} targets: predicted MAC efficiency {low:.4f} (at {at} cycles) to {high:.4f}", flush=True)
        named = {"worst": found[0][1], "best": found[-1][1]}
        for what in args.measure.split(","):
            cycles = named[what] if what in named else int(what)
            command("export", model, "-o", str(out), *common, "--target-fps", str(CLOCK_MHZ * 1e6 / cycles))
            result = command("verify", str(out), "--rtl")
            rtl = dict(result["rtl"])  # type: ignore[call-overload]
            ratio = rtl["interval_cycles"] / rtl["predicted_interval_cycles"]
            print(
                f"{what:>8}: target {cycles}, {rtl['multipliers']} multipliers, interval {rtl['interval_cycles']}, "
                f"MAC efficiency {rtl['mac_efficiency']:.4f}, ratio {ratio:.4f}, equal {result['ok']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
