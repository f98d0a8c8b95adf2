"""Bench of a board's serial machine, pin to pin: bits in on rxd, answers out on txd, class and sum against the golden simulator.

FSQ_BOARD names a JSON file: {"host": path of the generated host.py, "frames": [{"pixels": hex, "class", "sum"}], "divisor", "timeout"}. Frames are
made and answers read by that host.py, so both ends of the line are proven together. Inputs change a little after the clock edge.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer, with_timeout

from sim.streams import measured

PERIOD_NS = 10
CASE = json.loads(Path(os.environ["FSQ_BOARD"]).read_text())
FRAMES: list[dict[str, Any]] = CASE["frames"]
BIT_NS = PERIOD_NS * int(CASE["divisor"])
SILENCE_NS = PERIOD_NS * (int(CASE["timeout"]) + 50)
ANSWER_NS = PERIOD_NS * int(CASE["answer_cycles"])
BAD_CLASS = 0xFFFF


def _host() -> ModuleType:
    spec = importlib.util.spec_from_file_location("board_host", CASE["host"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOST = _host()


class Line:
    """Both directions of the serial line of one machine under test."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.received = bytearray()
        self.answers = 0

    async def start(self) -> None:
        """Clock, reset, and the receiver of txd."""
        self.dut.rxd.value = 1
        self.dut.rst.value = 1
        Clock(self.dut.clk, PERIOD_NS, "ns").start()
        await self.reset()
        cocotb.start_soon(self._receive())

    async def reset(self) -> None:
        """A reset of eight cycles."""
        self.dut.rst.value = 1
        for _ in range(8):
            await RisingEdge(self.dut.clk)
        await Timer(1, "ns")
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    async def _receive(self) -> None:
        while True:
            await FallingEdge(self.dut.txd)
            await Timer(BIT_NS * 3 // 2, "ns")
            value = 0
            for n in range(8):
                value |= int(self.dut.txd.value) << n
                await Timer(BIT_NS, "ns")
            assert int(self.dut.txd.value) == 1, "stop bit of an answer is low"
            self.received.append(value)

    async def send(self, data: bytes, bit_ns: int = BIT_NS, stop: int = 1) -> None:
        """Bytes on rxd; `bit_ns`: length of a bit, `stop`: level of the stop bit of the last byte."""
        for index, value in enumerate(data):
            last = stop if index == len(data) - 1 else 1
            for level in (0, *((value >> n) & 1 for n in range(8)), last):
                self.dut.rxd.value = level
                await Timer(bit_ns, "ns")
        self.dut.rxd.value = 1
        if not stop:
            await Timer(2 * bit_ns, "ns")

    async def quiet(self) -> None:
        """Silence that ends every frame that has begun."""
        await Timer(SILENCE_NS, "ns")

    async def answer(self) -> bytes:
        """The next whole answer; fails when none comes in time."""

        async def whole() -> None:
            while len(self.received) < HOST.ANSWER_BYTES:
                await Timer(BIT_NS, "ns")

        await with_timeout(whole(), ANSWER_NS, "ns")
        data = bytes(self.received[: HOST.ANSWER_BYTES])
        del self.received[: HOST.ANSWER_BYTES]
        self.answers += 1
        return data

    async def good(self, tag: int, index: int) -> None:
        """The next answer is the golden one of frame `index`."""
        found = HOST.parse_answer(await self.answer(), tag)
        want = (FRAMES[index]["class"], FRAMES[index]["sum"])
        assert found == want, f"frame {index}: class and sum {found}, the simulator has {want}"

    async def bad(self, status: int, tag: int) -> None:
        """The next answer reports `status`, with a right CRC and no class."""
        data = await self.answer()
        assert data[:4] == bytes([0x73, 0x71, tag, status]), f"status {status} of frame {tag} was expected, got {data.hex(' ')}"
        assert HOST.crc16(data[2:]) == 0, f"wrong CRC in {data.hex(' ')}"
        assert int.from_bytes(data[4:6], "little") == BAD_CLASS

    async def proves_itself(self, tag: int = 77) -> None:
        """Nothing more is on its way, and the next good frame is answered as the simulator does."""
        await self.quiet()
        assert not self.received, f"{bytes(self.received).hex(' ')} came, nothing was expected"
        await self.send(HOST.frame(tag, pixels(0)))
        await self.good(tag, 0)
        await self.quiet()
        assert not self.received and self.answers > 0
        assert int(self.dut.class_index.value) == FRAMES[0]["class"]


def pixels(index: int) -> bytes:
    """Pixel bytes of a golden frame."""
    return bytes.fromhex(FRAMES[index]["pixels"])


async def started(dut: Any) -> Line:
    """A line to a machine just reset."""
    line = Line(dut)
    await line.start()
    return line


def spoilt(data: bytes, bit: int) -> bytes:
    """`data` with one bit turned over."""
    return bytes([*data[: bit // 8], data[bit // 8] ^ 1 << bit % 8, *data[bit // 8 + 1 :]])


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def golden_frames(dut: Any) -> None:
    """Every golden frame, one answer each; then all of them without waiting in between."""
    line = await started(dut)
    for index in range(len(FRAMES)):
        await line.send(HOST.frame(index, pixels(index)))
        await line.good(index, index)
    for index in range(len(FRAMES)):
        await line.send(HOST.frame(200 + index, pixels(index)))
    for index in range(len(FRAMES)):
        await line.good(200 + index, index)
    measured(dut, "answers", line.answers)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def wrong_crc(dut: Any) -> None:
    """A turned bit in the tag, a pixel or the CRC: status 4, and the result of the machine is not given out."""
    line = await started(dut)
    whole = HOST.frame(9, pixels(0))
    for bit, tag in ((16, 8), (48 + 11, 9), (8 * len(whole) - 1, 9)):
        await line.send(spoilt(whole, bit))
        await line.bad(4, tag)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def broken_off(dut: Any) -> None:
    """Frames that end early, everywhere: one answer with status 3 each, and the machine stays in step."""
    line = await started(dut)
    whole = HOST.frame(5, pixels(0))
    for length in (1, 4, 6, 6 + HOST.CHANNELS, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        await line.send(whole[:length])
        await line.quiet()
        await line.bad(3, 5 if length >= 6 else 0)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def line_break(dut: Any) -> None:
    """A break in an idle line, and one in mid frame."""
    line = await started(dut)
    dut.rxd.value = 0
    await Timer(30 * BIT_NS, "ns")
    dut.rxd.value = 1
    await line.bad(1, 0)
    whole = HOST.frame(6, pixels(0))
    await line.send(whole[: len(whole) // 2])
    dut.rxd.value = 0
    await Timer(30 * BIT_NS, "ns")
    dut.rxd.value = 1
    await Timer(2 * BIT_NS, "ns")
    await line.send(whole[len(whole) // 2 + 1 :])  # the break stands for one byte: as long as a frame should be, but wrong
    await line.bad(4, 6)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def wrong_stop_bit(dut: Any) -> None:
    """A good CRC does not help a frame with a low stop bit."""
    line = await started(dut)
    whole = HOST.frame(7, pixels(0))
    await line.send(whole[:40], stop=0)
    await line.send(whole[40:])
    await line.bad(4, 7)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def wrong_length(dut: Any) -> None:
    """A frame of another length is refused once, whatever follows, one byte short and one byte long."""
    line = await started(dut)
    for change in (-1, 1):
        count = len(pixels(0)) + change
        await line.send(HOST.frame(3, bytes(count)))
        await line.bad(2, 3)
        await line.quiet()
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def garbage_first(dut: Any) -> None:
    """Bytes that begin no frame are reported once; a frame right behind them is taken, also behind a lone S."""
    line = await started(dut)
    await line.send(b"hello?SX" + b"\x00\xff")
    await line.send(HOST.frame(11, pixels(0)))
    await line.bad(1, 0)
    await line.good(11, 0)
    await line.send(b"S" + HOST.frame(12, pixels(0)))
    await line.bad(1, 0)
    await line.good(12, 0)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def other_clock(dut: Any) -> None:
    """A sender two percent fast, and one two percent slow."""
    line = await started(dut)
    for tag, bit in ((1, BIT_NS * 98 // 100), (2, BIT_NS * 102 // 100)):
        await line.send(HOST.frame(tag, pixels(0)), bit_ns=bit)
        await line.good(tag, 0)
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """The button: whatever was on its way is forgotten, in every part."""
    line = await started(dut)
    whole = HOST.frame(4, pixels(0))
    await line.send(whole[: len(whole) // 2])
    await line.reset()
    assert int(dut.txd.value) == 1
    await line.proves_itself()


@cocotb.test(timeout_time=500, timeout_unit="ms", skip=not CASE["overruns"])
async def machine_too_slow(dut: Any) -> None:
    """Frames faster than the machine: some end with status 5, every other answer is exact, and afterwards all is well."""
    line = await started(dut)
    count = int(CASE["overruns"])
    for tag in range(count):
        await line.send(HOST.frame(tag, pixels(tag % len(FRAMES))))
    statuses = []
    for tag in range(count):
        data = await line.answer()
        statuses.append(data[3])
        assert data[2] == tag and HOST.crc16(data[2:]) == 0, f"answer {tag} is {data.hex(' ')}"
        if data[3] == 0:
            assert HOST.parse_answer(data, tag) == (FRAMES[tag % len(FRAMES)]["class"], FRAMES[tag % len(FRAMES)]["sum"])
    assert set(statuses) == {0, 5}, f"statuses {statuses}"
    await line.proves_itself()
