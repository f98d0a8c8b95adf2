"""Driver, monitor and checker for AXI4-Stream modules under cocotb.

`Bench` clocks and resets the module, drives its inputs and outputs with cocotbext-axi, watches every output for the protocol (data
stable while valid and not ready) and compares every beat with what the model expects. `finish` fails when nothing was compared.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource  # type: ignore[import-untyped]

PERIOD_NS = 2

Stalls = Callable[[random.Random], Iterator[bool]]


def _never(_: random.Random) -> Iterator[bool]:
    return itertools.repeat(False)


def _random(share: float) -> Stalls:
    def pattern(rng: random.Random) -> Iterator[bool]:
        while True:
            yield rng.random() < share

    return pattern


def _bursts(rng: random.Random) -> Iterator[bool]:
    while True:
        yield from [True] * rng.randrange(1, 40)
        yield from [False] * rng.randrange(1, 40)


def _alternate(_: random.Random) -> Iterator[bool]:
    return itertools.cycle([True, False])


def _once(_: random.Random) -> Iterator[bool]:
    """One free cycle in seven: what breaks designs that assume a run of beats."""
    return itertools.cycle([True] * 6 + [False])


def _late(_: random.Random) -> Iterator[bool]:
    """Nothing for a long time, then everything: fills every buffer to the brim."""
    return itertools.chain([True] * 400, itertools.repeat(False))


# True is a paused cycle. Names are what benches take from their environment.
STALLS: dict[str, Stalls] = {
    "none": _never, "light": _random(0.2), "half": _random(0.5), "heavy": _random(0.85), "bursts": _bursts,
    "alternate": _alternate, "once": _once, "late": _late,
}  # fmt: skip


def pack(lanes: Sequence[int], bits: int) -> int:
    """One beat: lane 0 in the low bits, each value in two's complement of `bits` bits."""
    mask = (1 << bits) - 1
    word = 0
    for i, value in enumerate(lanes):
        word |= (int(value) & mask) << (i * bits)
    return word


def unpack(word: int, lanes: int, bits: int, signed: bool) -> list[int]:
    """The lanes of a beat as integers."""
    values = [(word >> (i * bits)) & ((1 << bits) - 1) for i in range(lanes)]
    return [v - (1 << bits) if signed and v >> (bits - 1) else v for v in values]


def pixel_beats(channels: Sequence[int], lanes: int, bits: int) -> list[int]:
    """One pixel as ceil(C / lanes) beats, the last one padded with zeros."""
    padded = [*channels, *([0] * (-len(channels) % lanes))]
    return [pack(padded[i : i + lanes], bits) for i in range(0, len(padded), lanes)]


class Output:
    """Monitor and checker of one output stream: protocol, order and values of every beat."""

    def __init__(self, bench: Bench, prefix: str, with_last: bool) -> None:
        self.name = prefix
        self.received: list[tuple[int, bool]] = []
        self.cycles: list[int] = []  # cycle number of each received beat
        self.expected: list[tuple[int, bool]] = []
        self._bench = bench
        self._with_last = with_last
        dut = bench.dut
        self._data, self._valid, self._ready = (getattr(dut, f"{prefix}_{s}") for s in ("tdata", "tvalid", "tready"))
        self._last = getattr(dut, f"{prefix}_tlast") if with_last else None
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, prefix), dut.clk, dut.rst, byte_lanes=1)
        self._held: tuple[int, bool] | None = None

    def expect(self, words: Sequence[int], last: Sequence[bool] | None = None) -> None:
        """Append beats that must come next."""
        self.expected += [(w, bool(last[i]) if last is not None else False) for i, w in enumerate(words)]

    def watch(self) -> None:
        """Look at the stream just before a clock edge: protocol, order, values."""
        cycle, held = self._bench.cycle, self._held
        self._held = None
        valid = str(self._valid.value)
        assert valid in ("0", "1"), f"{self.name}_tvalid is {valid} in cycle {cycle}"
        if valid == "0":
            assert held is None, f"{self.name}_tvalid fell in cycle {cycle} before its beat was taken"
            return
        data = self._data.value
        assert data.is_resolvable, f"{self.name}_tdata is {data} in cycle {cycle}"
        beat = (int(data), bool(int(self._last.value)) if self._last is not None else False)
        assert held is None or held == beat, f"{self.name} changed from {held} to {beat} while stalled, cycle {cycle}"
        if str(self._ready.value) != "1":
            self._held = beat
            return
        index = len(self.received)
        self.received.append(beat)
        self.cycles.append(cycle)
        assert index < len(self.expected), f"{self.name}: beat {index} = {beat[0]:#x} came, none was expected"
        want = self.expected[index]
        assert beat == want, f"{self.name}: beat {index} is {beat[0]:#x} last={beat[1]}, {want[0]:#x} last={want[1]} was expected"

    def clear(self) -> None:
        """Forget everything received and expected."""
        self.sink.clear()
        self.expected.clear()
        self.received.clear()
        self.cycles.clear()
        self._held = None


class Bench:
    """Clock, reset, sources and checked outputs of one module under test.

    Args:
        inputs, outputs: stream prefixes, such as s_axis and m_axis. `last` names those that carry tlast.
        seed: None takes cocotb's own random state, which the harness seeds and prints.
    """

    def __init__(self, dut: Any, inputs: Sequence[str] = ("s_axis",), outputs: Sequence[str] = ("m_axis",), last: Sequence[str] = ()) -> None:
        self.dut = dut
        self.cycle = 0
        self.accepted: dict[str, list[int]] = {p: [] for p in inputs}  # cycle number of each beat an input took
        self.rng = random.Random(random.getrandbits(32))
        dut.rst.value = 1
        Clock(dut.clk, PERIOD_NS, "ns").start()
        cocotb.start_soon(self._observe())
        self.sources = {p: AxiStreamSource(AxiStreamBus.from_prefix(dut, p), dut.clk, dut.rst, byte_lanes=1) for p in inputs}
        self.outputs = {p: Output(self, p, p in last) for p in outputs}
        for end in (*self.sources.values(), *(o.sink for o in self.outputs.values())):
            end.log.setLevel(logging.ERROR)  # they tell of every frame sent, received or flushed

    async def _observe(self) -> None:
        handles = {p: (getattr(self.dut, f"{p}_tvalid"), getattr(self.dut, f"{p}_tready")) for p in self.sources}
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1
            if str(self.dut.rst.value) != "0":
                continue
            for prefix, (valid, ready) in handles.items():
                if str(valid.value) == "1" and str(ready.value) == "1":
                    self.accepted[prefix].append(self.cycle)
            for output in self.outputs.values():
                output.watch()

    async def reset(self, cycles: int = 4) -> None:
        """Hold rst for `cycles`; beats queued or expected before are forgotten."""
        self.dut.rst.value = 1
        for source in self.sources.values():
            source.clear()
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
        for output in self.outputs.values():
            output.clear()
        for cycles_taken in self.accepted.values():
            cycles_taken.clear()
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    def stall(self, idle: str = "none", pressure: str = "none") -> None:
        """Pause patterns (names of STALLS) of all sources and all sinks."""
        for source in self.sources.values():
            source.set_pause_generator(STALLS[idle](random.Random(self.rng.getrandbits(32))))
        for output in self.outputs.values():
            output.sink.set_pause_generator(STALLS[pressure](random.Random(self.rng.getrandbits(32))))

    def send(self, words: Sequence[int], prefix: str = "s_axis") -> None:
        """Queue beats on an input as one frame (its tlast, if any, on the last beat)."""
        self.sources[prefix].send_nowait(AxiStreamFrame(list(words)))

    async def finish(self, limit_cycles: int) -> None:
        """Wait for every expected beat, then a while longer for beats too many. Fails on a missing beat or when nothing was expected."""
        start = self.cycle
        while any(len(o.received) < len(o.expected) for o in self.outputs.values()):
            await RisingEdge(self.dut.clk)
            short = {o.name: f"{len(o.received)} of {len(o.expected)}" for o in self.outputs.values()}
            assert self.cycle - start < limit_cycles, f"after {limit_cycles} cycles beats are missing: {short}"
        # Beats that no output needs (rows below the last window, say) may still be on their way in.
        while not all(source.empty() and source.idle() for source in self.sources.values()):
            await RisingEdge(self.dut.clk)
            assert self.cycle - start < limit_cycles, f"after {limit_cycles} cycles inputs still wait to be taken"
        for _ in range(30):
            await RisingEdge(self.dut.clk)
        for output in self.outputs.values():
            assert output.received, f"{output.name}: nothing was compared"
            assert output.received == output.expected


def measured(dut: Any, key: str, value: float) -> None:
    """Log a measured number; the harness's BenchResult.measured reads it."""
    dut._log.info("MEASURED %s=%g", key, value)


OPERAND_STALLS = (("half", "light", "half"), ("late", "none", "none"), ("none", "once", "bursts"), ("heavy", "alternate", "heavy"))
"""Pauses of operand a, operand b and the output: each in its own way."""


async def stall_two_operands(bench: Bench, queue: Callable[[], None], limit_cycles: int) -> None:
    """Every row of OPERAND_STALLS, after a reset; `queue` sends to s_axis_a and s_axis_b and says what is expected."""
    for a, b, pressure in OPERAND_STALLS:
        await bench.reset()
        bench.stall("none", pressure)
        bench.sources["s_axis_a"].set_pause_generator(STALLS[a](bench.rng))
        bench.sources["s_axis_b"].set_pause_generator(STALLS[b](bench.rng))
        queue()
        await bench.finish(limit_cycles)


async def reset_two_operands(bench: Bench, queue: Callable[[], None], after_cycles: int, limit_cycles: int) -> None:
    """A reset `after_cycles` in the middle of work under stalls drops what is under way; what is queued then comes whole."""
    await bench.reset()
    bench.stall("light", "half")
    queue()
    for _ in range(after_cycles):
        await RisingEdge(bench.dut.clk)
    await bench.reset()
    queue()
    await bench.finish(limit_cycles)
