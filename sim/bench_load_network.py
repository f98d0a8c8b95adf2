"""Bench of a whole machine with a load port: frames are always on offer, images come and go, and every class sum must be of the model then in use.

The job is load_job.json in the run folder: {"pixels": words of a frame's beats, a frame a row; "sums": {"a": [...], "b": [...]}, a row a frame, as the
unsigned words of m_axis; "images": {"a": hex, "b": hex}; "interval_cycles"}.
"""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

EMPTY, WRITING, SHORT, SHAPE, CRC, IN_USE_GOOD, IN_USE_SHAPE = 0, 3, 11, 9, 13, 0x84, 0x89


class Machine:
    """The top with a source of frames without end, a sink, and a sender of images. `expected` is the model of each frame, in the order they came in."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.job: dict[str, Any] = json.loads(Path("load_job.json").read_text())
        self.images = {name: bytes.fromhex(text) for name, text in self.job["images"].items()}
        self.rng = random.Random(random.getrandbits(32))
        self.model: str | None = None
        self.to_load: list[tuple[int, bool]] = []
        self.beat = self.frame = 0
        self.expected: list[tuple[str, int]] = []  # model and picture of every frame that began
        self.sums: list[int] = []
        self.compared = {"a": 0, "b": 0}
        self.pausing = False
        for name in ("s_axis_tvalid", "s_axis_tlast", "s_load_axis_tvalid", "s_load_axis_tlast", "m_axis_tready", "ap_rst_n"):
            getattr(dut, name).value = 0
        dut.s_axis_tdata.value = 0
        dut.s_load_axis_tdata.value = 0
        Clock(dut.ap_clk, 2, "ns").start()

    @property
    def status(self) -> int:
        """load_status."""
        return int(self.dut.load_status.value)

    async def reset(self, cycles: int) -> None:
        """Frames and images under way are forgotten."""
        self.dut.ap_rst_n.value = 0
        for name in ("s_axis_tvalid", "s_load_axis_tvalid", "m_axis_tready"):
            getattr(self.dut, name).value = 0
        for _ in range(cycles):
            await RisingEdge(self.dut.ap_clk)
        self.to_load.clear()
        self.expected.clear()
        self.sums.clear()
        self.beat, self.model = 0, None
        self.dut.ap_rst_n.value = 1
        await RisingEdge(self.dut.ap_clk)
        await RisingEdge(self.dut.ap_clk)

    def offer(self) -> None:
        """The next pixel, always there."""
        words = self.job["pixels"][self.frame % len(self.job["pixels"])]
        self.dut.s_axis_tdata.value = words[self.beat]
        self.dut.s_axis_tlast.value = int(self.beat == len(words) - 1)
        self.dut.s_axis_tvalid.value = 1

    def offer_load(self) -> None:
        """The next byte of an image, unless there is none or the sender pauses."""
        valid = bool(self.to_load) and not (self.pausing and self.rng.random() < 0.3)
        self.dut.s_load_axis_tvalid.value = int(valid)
        if valid:
            self.dut.s_load_axis_tdata.value, self.dut.s_load_axis_tlast.value = self.to_load[0][0], int(self.to_load[0][1])

    async def cycle(self) -> None:
        """One cycle: what moved at the edge, then what is on offer next."""
        dut = self.dut
        await RisingEdge(dut.ap_clk)
        if str(dut.s_axis_tvalid.value) == "1" and str(dut.s_axis_tready.value) == "1":
            assert self.status & 0x80, f"a pixel was taken with status {self.status:#x}"
            if self.beat == 0:
                assert self.model is not None
                self.expected.append((self.model, self.frame % len(self.job["pixels"])))
            self.beat += 1
            if self.beat == len(self.job["pixels"][0]):
                self.beat, self.frame = 0, self.frame + 1
        if str(dut.s_load_axis_tvalid.value) == "1":
            if str(dut.s_load_axis_tready.value) == "1":
                self.to_load.pop(0)
                self.offer_load()
        else:
            self.offer_load()
        if str(dut.m_axis_tvalid.value) == "1" and str(dut.m_axis_tready.value) == "1":
            self.take(int(dut.m_axis_tdata.value), str(dut.m_axis_tlast.value) == "1")
        self.offer()
        dut.m_axis_tready.value = int(self.rng.random() < 0.8)

    def take(self, word: int, last: bool) -> None:
        """A class sum; a frame's are compared when they are complete."""
        self.sums.append(word)
        if not last:
            return
        assert self.status & 0x80, f"a frame's last sum came with status {self.status:#x}"
        assert self.expected, "sums came, no frame went in"
        model, picture = self.expected.pop(0)
        assert self.sums == self.job["sums"][model][picture], f"picture {picture} of model {model}: {self.sums}"
        self.compared[model] += 1
        self.sums.clear()

    async def cycles(self, count: int) -> None:
        """`count` cycles."""
        for _ in range(count):
            await self.cycle()

    async def frames(self, count: int) -> None:
        """Until `count` more frames have come out right."""
        wanted, patience = sum(self.compared.values()) + count, 0
        while sum(self.compared.values()) < wanted:
            await self.cycle()
            patience += 1
            assert patience < 20 * (count + 2) * self.job["interval_cycles"], f"no {count} frames came, status {self.status:#x}"

    def start(self, data: bytes) -> None:
        """Queue an image."""
        self.to_load = [(byte, i == len(data) - 1) for i, byte in enumerate(data)]

    async def load(self, data: bytes, status: int, model: str | None) -> None:
        """Send an image whole; it must end in `status`. Frames that begin from the moment of writing on are `model`'s."""
        self.start(data)
        patience = 0
        while self.to_load or str(self.dut.s_load_axis_tvalid.value) == "1":
            await self.cycle()
            if self.status & 15 == WRITING:
                assert not self.expected, "weights are written with a frame in work"
                self.model = model
            patience += 1
            assert patience < 3 * len(data) + 40 * self.job["interval_cycles"], f"the image is not taken, status {self.status:#x}"
        await self.cycle()
        assert self.status == status, f"status {self.status:#x}, {status:#x} was expected"


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def loads_and_swaps(dut: Any) -> None:
    """Nothing before a good load; a bad one first; swaps between frames, refused and failed ones; a reset in mid-load and in mid-frame."""
    m = Machine(dut)
    a, b = m.images["a"], m.images["b"]
    assert m.job["sums"]["a"] != m.job["sums"]["b"], "the two models must tell apart"
    await m.reset(4)
    await m.cycles(3 * m.job["interval_cycles"])
    assert m.status == EMPTY and m.frame == m.beat == 0
    await m.load(b[:40] + bytes([b[40] ^ 1]) + b[41:], CRC, None)
    await m.cycles(m.job["interval_cycles"])
    assert m.frame == m.beat == 0

    m.pausing = True
    await m.load(a, IN_USE_GOOD, "a")
    await m.frames(4)
    m.pausing = False
    await m.load(b, IN_USE_GOOD, "b")  # frames are on offer and in work all the time
    await m.frames(4)
    assert min(m.compared.values()) >= 4

    # A machine of another shape: refused, frames go on with the weights they have.
    other = a[:4] + bytes([a[4] ^ 1]) + a[5:-4]
    await m.load(other + zlib.crc32(other).to_bytes(4, "little"), IN_USE_SHAPE, None)
    assert m.model == "b"
    await m.frames(2)

    # Cut off in mid-payload: no weights, no frames; the next load runs again.
    await m.load(a[: len(a) // 2], SHORT, None)
    taken = m.frame, m.beat
    await m.cycles(2 * m.job["interval_cycles"])
    assert (m.frame, m.beat) == taken and not m.expected
    await m.load(a, IN_USE_GOOD, "a")
    await m.frames(2)

    # A reset while a swap writes, and one in mid-frame: empty, and the frame begun is forgotten.
    m.start(b)
    while m.status & 15 != WRITING:
        await m.cycle()
    await m.cycles(10)
    await m.reset(1)
    assert m.status == EMPTY
    await m.cycles(m.job["interval_cycles"])
    assert m.beat == 0 and not m.expected
    await m.load(b, IN_USE_GOOD, "b")
    await m.cycles(m.job["interval_cycles"] // 2)
    await m.reset(1)
    await m.load(a, IN_USE_GOOD, "a")
    await m.frames(3)
    dut._log.info("MEASURED frames=%d", sum(m.compared.values()))
