"""cocotb test of the whole network: starts every run of the job, watches it, and judges each stage's stream against the golden tensors.

The testbench does the work of each cycle; this file sets a run up, looks in every few thousand cycles, and reads the counters at the end.
The job is a JSON file named in FSQ_JOB (see run.py); the outcome is written beside it as result.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

import streams as st

CYCLE_NS = 2
LOAD_GOOD = 0x84
HERE = Path(__file__).resolve().parent


class Bench:
    """The testbench as the test sees it."""

    def __init__(self, dut, job: dict) -> None:
        self.dut = dut
        self.job = job
        self.net = job["network"]
        self.streams = [s for s in self.net["streams"][1:] if not job["ports_only"]] + [job["output"]]

    def monitor(self, stream: dict):
        """The monitor instance of a stream."""
        return getattr(self.dut, f"monitor_{stream['name']}")

    @staticmethod
    def number(handle) -> int:
        """A counter's value."""
        return int(handle.value)

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Stream -> (beats, cycles blocked, cycles starved); the source is the first."""
        source = self.dut.source
        found = {self.net["streams"][0]["name"]: (self.number(source.sent), self.number(source.blocked), 0)}
        if "load" in self.net:
            found["load port"] = (self.number(self.dut.load_source.sent), self.number(self.dut.load_source.blocked), 0)
        for stream in self.streams:
            m = self.monitor(stream)
            found[stream["name"]] = (self.number(m.compared), self.number(m.blocked), self.number(m.starved))
        return found

    def expected(self, frames: int) -> dict[str, int]:
        """Beats of every stream in a run of `frames` frames."""
        first = self.net["streams"][0]
        beats = {s["name"]: frames * st.beats_a_frame(s["shape"], s["lanes"]) for s in [first, *self.streams]}
        return {**({"load port": self.net["load"]["bytes"]} if "load" in self.net else {}), **beats}

    async def start(self, run: dict, frames: int) -> None:
        """Reset, set the run up, let go."""
        dut = self.dut
        dut.hold.value = 1
        dut.frames.value = frames
        dut.seed.value = run["seed"] & 0xFFFFFFFF
        dut.wrong_tlast.value = run.get("wrong_tlast", 0xFFFFFFFF)
        for side in ("in", "out"):
            masks = run[side]
            getattr(dut, f"{side}_stall").value = int(masks is not None)
            getattr(dut, f"{side}_on").value = masks[0] if masks else 0
            getattr(dut, f"{side}_off").value = masks[1] if masks else 0
        await Timer(run.get("reset_cycles", 4) * CYCLE_NS, "ns")
        dut.hold.value = 0

    async def watch(self, frames: int, poll_cycles: int, idle_cycles: int) -> str | None:
        """Until every stream is complete; a line on what stands still when nothing moves for `idle_cycles` cycles."""
        wanted = self.expected(frames)
        before = self.counts()
        idle = 0
        while True:
            await Timer(poll_cycles * CYCLE_NS, "ns")
            now = self.counts()
            self.report(frames)
            if all(now[name][0] >= beats for name, beats in wanted.items()):
                return None
            moved = sum(n[0] for n in now.values()) != sum(n[0] for n in before.values())
            idle = 0 if moved else idle + poll_cycles
            if idle >= idle_cycles:
                return self.stuck(before, now, wanted, idle)
            before = now

    @staticmethod
    def stuck(before: dict, now: dict, wanted: dict[str, int], idle: int) -> str:
        """The deadlock report."""
        blocked = [n for n in now if now[n][1] > before[n][1]]
        starved = [n for n in now if now[n][2] > before[n][2]]
        short = [f"{n} {now[n][0]} of {beats}" for n, beats in wanted.items() if now[n][0] < beats]
        return (
            f"nothing moved for {idle} cycles; blocked (valid, not ready): {', '.join(blocked) or 'none'}; "
            f"starved (ready, not valid): {', '.join(starved) or 'none'}; incomplete: {'; '.join(short)}"
        )

    def report(self, frames: int) -> None:
        """A line of progress for the runner to pass on."""
        print(f"PROGRESS {self.number(self.dut.frames_out)} {frames} {self.number(self.dut.cycle)}", flush=True)

    def row(self, stream: dict, beats: int) -> dict:
        """One stream's verdict."""
        m = self.monitor(stream)
        compared = self.number(m.compared)
        row = {
            "stage": stream["stage"], "stream": stream["name"], "compared": st.values_in(compared, stream["shape"], stream["lanes"]),
            "mismatches": self.number(m.wrong_values), "first": None, "faults": [],
            "blocked_cycles": self.number(m.blocked), "starved_cycles": self.number(m.starved), "beats": compared,
        }  # fmt: skip
        if self.number(m.found):
            bits, lanes, signed = stream["bits"], stream["lanes"], stream["signed"]
            want = st.lane_values(str(m.first_expected.value), lanes, bits, signed)
            got = st.lane_values(str(m.first_got.value), lanes, bits, signed)
            lane = next(i for i in range(lanes) if want[i] != got[i])
            row["first"] = {**st.place(self.number(m.first_beat), lane, stream["shape"], lanes), "expected": want[lane], "got": got[lane]}
        if compared != beats:
            row["faults"].append(f"{compared} beats came, {beats} were expected")
        if self.number(m.surplus):
            row["faults"].append(f"{self.number(m.surplus)} beats more than the golden tensor has")
        if self.number(m.unstable):
            row["faults"].append(f"{self.number(m.unstable)} beats changed or vanished while they waited")
        return row

    def outcome(self, run: dict, frames: int, stuck: str | None) -> dict:
        """Everything the runner needs to know of a run."""
        dut, wanted = self.dut, self.expected(frames)
        faults = [f"deadlock: {stuck}"] if stuck else []
        rows = [self.row(stream, wanted[stream["name"]]) for stream in self.streams]
        if self.number(dut.wrong_tlasts):
            faults.append(f"m_axis: {self.number(dut.wrong_tlasts)} beats with a misplaced tlast")
        reported, asked = self.number(dut.frame_error), "wrong_tlast" in run
        if reported != asked and not self.job["ports_only"]:
            faults.append("frame_error stayed low although the sender misplaced tlast" if asked else "frame_error rose although every tlast was right")
        if "load" in self.net:
            if self.number(dut.load_status) != LOAD_GOOD:
                faults.append(f"load_status is {self.number(dut.load_status):#04x} after the load, {LOAD_GOOD:#04x} (good) was expected")
            if self.number(dut.early_out):
                faults.append(f"m_axis: {self.number(dut.early_out)} cycles with a beat before the weights were good")
        count = self.number(dut.frames_out)
        marks = [] if self.job["ports_only"] else [
            {**m, "high_water": self.number(getattr(dut, f"mark_{i}"))} for i, m in enumerate(self.net["marks"])]  # fmt: skip
        first_in = self.number(dut.first_in_cycle)
        return {
            "name": run["name"], "frames": count, "rows": rows, "faults": faults, "marks": marks,
            "latency_cycles": self.number(dut.first_out_cycle) - first_in if count else None,
            "interval_cycles": self.number(dut.last_out_cycle) - self.number(dut.previous_out_cycle) if count > 1 else None,
            "cycles": self.number(dut.last_out_cycle), "source_blocked_cycles": self.number(dut.source.blocked),
        }  # fmt: skip


def complaints(result: dict) -> list[str]:
    """What is wrong with a run, a line each; empty when all is well."""
    lines = list(result["faults"])
    for row in result["rows"]:
        if row["first"]:
            f = row["first"]
            lines.append(
                f"{row['stage']}: {row['mismatches']} of {row['compared']} values differ; the first at frame {f['frame']}, channel {f['channel']}, "
                f"y {f['y']}, x {f['x']}: expected {f['expected']}, got {'x' if f['got'] is None else f['got']}"
            )
        lines += [f"{row['stage']}: {fault}" for fault in row["faults"]]
        if not row["compared"]:
            lines.append(f"{row['stage']}: nothing was compared")
    return lines


@cocotb.test()
async def network(dut) -> None:
    """Every run of the job: all streams complete and equal."""
    job = json.loads(Path(os.environ["FSQ_JOB"]).read_text())
    bench = Bench(dut, job)
    results, wrong = [], []
    for run in job["runs"]:
        started = time.monotonic()
        frames = run.get("frames", job["frames"])
        if run.get("reset_at"):
            # A reset in mid-frame: what was under way must leave no trace in the run that follows.
            await bench.start({**run, "reset_cycles": 4}, frames)
            await Timer(run["reset_at"] * CYCLE_NS, "ns")
            await bench.start({**run, "reset_cycles": 1}, frames)
        else:
            await bench.start(run, frames)
        stuck = await bench.watch(frames, job["poll_cycles"], job["idle_cycles"])
        await Timer(200 * CYCLE_NS, "ns")  # a beat too many would come now
        result = bench.outcome(run, frames, stuck)
        result["seconds"] = round(time.monotonic() - started, 2)
        results.append(result)
        wrong += [f"run {run['name']}: {line}" for line in complaints(result)]
        if stuck:
            break
    Path(job["result"]).write_text(json.dumps(results))
    for line in wrong:
        dut._log.error(line)
    assert not wrong, wrong[0]


def test_rtl() -> None:
    """The same from pytest: builds and runs on the simulator named in SIM (verilator when unset)."""
    import run

    assert run.main(["--sim", os.environ.get("SIM", "verilator")]) == 0, "the RTL differs from the golden tensors; see the table above"


if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
