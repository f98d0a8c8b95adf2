"""Bench of fsq_loader: a right image is written to the last bit, every wrong one is named and never called good, and the next load always works."""

from __future__ import annotations

import zlib
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench

P = bench_parameters()
HEADER = P["HEADER"].to_bytes(16, "little")
ENTRIES = [P["TABLE"] >> (48 * i) & (1 << 48) - 1 for i in range(P["MEMORIES"])]
EMPTY, IN_HEADER, WAITING, WRITING, GOOD = range(5)
MAGIC, SHAPE, LENGTH, SHORT, LONG, CRC = range(8, 14)
IN_USE = 0x80
COLUMN_BYTES = 9

Write = tuple[int, int, int, str]
"""(memory, row, column, bits of the data, highest first)."""


def layout() -> list[tuple[int, int, int, int]]:
    """(memory, row, column, bytes) of every write, in order."""
    places = []
    for entry in ENTRIES:
        memory, rows, columns, last = entry >> 36, (entry >> 16 & 0xFFFFF) + 1, (entry >> 4 & 0xFFF) + 1, entry & 15
        for row in range(rows):
            places += [(memory, row, column, COLUMN_BYTES if column < columns - 1 else last) for column in range(columns)]
    return places


def sealed(body: bytes) -> bytes:
    """Header and payload with their CRC."""
    return body + zlib.crc32(body).to_bytes(4, "little")


class Loader:
    """The loader with a machine of frames around it: `idle` follows `hold` after `drain` cycles."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bench = Bench(dut, inputs=("s_load_axis",), outputs=())
        self.writes: list[Write] = []
        self.drain = 3
        self.states: list[int] = []
        self.faults: list[str] = []
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        """Bus, status and hold of every cycle; `idle` as a machine would raise it."""
        held = 0
        self.dut.idle.value = 0
        while True:
            await RisingEdge(self.dut.clk)
            if str(self.dut.rst.value) != "0":
                held = 0
                self.dut.idle.value = 0
                continue
            status = int(self.dut.status.value)
            if not self.states or self.states[-1] != status:
                self.states.append(status)
            hold = int(self.dut.hold.value)
            if status & IN_USE and status & 15 != WAITING and hold:
                self.faults.append(f"frames are held with good weights, status {status:#x}")
            if not status & IN_USE and not hold:
                self.faults.append(f"frames are not held without good weights, status {status:#x}")
            bits = str(self.dut.load_bus.value)
            if bits[0] == "1":
                if status & IN_USE or not int(self.dut.idle.value):
                    self.faults.append(f"a write while frames may be in work, status {status:#x}")
                self.writes.append((int(bits[1:11], 2), int(bits[11:31], 2), int(bits[31:43], 2), bits[43:]))
            elif bits[0] != "0":
                self.faults.append("the write bit is unknown")
            held = held + 1 if hold else 0
            self.dut.idle.value = int(held > self.drain)

    def image(self) -> tuple[bytes, list[Write]]:
        """A right image of random rows and the writes it must give."""
        body, writes = bytearray(HEADER), []
        for memory, row, column, count in layout():
            data = self.bench.rng.randbytes(count)
            body += data
            writes.append((memory, row, column, f"{int.from_bytes(data, 'little'):0{8 * count}b}"))
        return sealed(bytes(body)), writes

    async def send(self, data: bytes, limit: int = 200_000) -> int:
        """One packet; returns the status after it."""
        self.writes.clear()
        self.states.clear()
        self.bench.send(list(data), "s_load_axis")
        await self.bench.finish(limit)
        assert not self.faults, self.faults[0]
        return int(self.dut.status.value)

    async def good(self) -> None:
        """A right image: every column written once, in order, with its data."""
        data, expected = self.image()
        status = await self.send(data)
        assert status == IN_USE | GOOD, f"status {status:#x} after a right image"
        assert len(self.writes) == len(expected) > 0, f"{len(self.writes)} writes, {len(expected)} were expected"
        for got, want in zip(self.writes, expected, strict=True):
            # Above the bytes of a cut column the bus carries anything: the memory has no bits there.
            assert got[:3] == want[:3] and got[3].endswith(want[3]), f"write {got}, {want} was expected"

    async def wrong(self, data: bytes, state: int, in_use: bool = False) -> None:
        """An image that must end in `state`; the weights before stay in use or not."""
        status = await self.send(data)
        want = state | (IN_USE if in_use else 0)
        assert status == want, f"status {status:#x}, {want:#x} was expected"
        assert state & 15 >= 8, "no error was asked for"


async def started(dut: Any, idle: str = "none") -> Loader:
    """A loader after reset, its sender pausing in the pattern `idle`."""
    loader = Loader(dut)
    await loader.bench.reset()
    loader.bench.stall(idle)
    assert int(dut.status.value) == EMPTY and int(dut.hold.value) == 1
    return loader


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def right_images(dut: Any) -> None:
    """Load after reset and swaps, under every pattern of pauses; the states come in their order."""
    loader = await started(dut)
    await loader.good()
    assert loader.states == [EMPTY, IN_HEADER, WAITING, WRITING, IN_USE | GOOD], loader.states
    for pattern in ("light", "heavy", "bursts", "alternate", "late"):
        loader.bench.stall(pattern)
        loader.drain = loader.bench.rng.randrange(0, 60)
        await loader.good()
        # Frames run on during the header, whose bytes may be refused yet, and are held from then on.
        assert loader.states == [IN_USE | GOOD, IN_USE | IN_HEADER, IN_USE | WAITING, WRITING, IN_USE | GOOD], loader.states


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def refused_by_the_header(dut: Any) -> None:
    """Wrong magic, shape or length, found at the first wrong byte: nothing is written, good weights stay in use."""
    loader = await started(dut, "light")
    for in_use in (False, True):
        for place in range(16):
            state = MAGIC if place < 4 else SHAPE if place < 12 else LENGTH
            data, _ = loader.image()
            changed = bytearray(data)
            changed[place] ^= 1 << loader.bench.rng.randrange(8)
            await loader.wrong(sealed(bytes(changed[:-4])), state, in_use)
            assert not loader.writes
        await loader.wrong(HEADER[:3] + b"\0", MAGIC, in_use)  # the wrong byte is the packet's last one
        await loader.good()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def damaged(dut: Any) -> None:
    """One flipped bit anywhere behind the header: bad CRC, no weights in use."""
    loader = await started(dut)
    await loader.good()
    for _ in range(12):
        data, _ = loader.image()
        changed = bytearray(data)
        changed[loader.bench.rng.randrange(16, len(data))] ^= 1 << loader.bench.rng.randrange(8)
        await loader.wrong(bytes(changed), CRC)
    for place in (16, len(data) - 5, len(data) - 4, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 0x80
        await loader.wrong(bytes(changed), CRC)
    await loader.good()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def cut_short(dut: Any) -> None:
    """tlast too early, at every kind of place: short; the weights before stay in use only where the header was cut."""
    loader = await started(dut, "light")
    await loader.good()
    data, _ = loader.image()
    for count in (1, 2, 4, 12, 15):
        await loader.wrong(data[:count], SHORT, in_use=True)
        assert not loader.writes
    await loader.wrong(data[:16], SHORT, in_use=True)
    random = [loader.bench.rng.randrange(17, len(data)) for _ in range(8)]
    for count in (17, 25, len(data) - 5, len(data) - 4, len(data) - 3, len(data) - 1, *random):
        await loader.wrong(data[:count], SHORT)
    await loader.good()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def too_long(dut: Any) -> None:
    """Bytes behind the last one: long, whatever they are; they are taken up to tlast."""
    loader = await started(dut, "light")
    for extra in (1, 2, 40):
        data, _ = loader.image()
        await loader.wrong(data + loader.bench.rng.randbytes(extra), LONG)
        await loader.good()
    await loader.wrong(data + data, LONG)
    await loader.good()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def waits_for_frames(dut: Any) -> None:
    """Frames in work for long: the port is not ready and nothing is written until they have left; a sender that pauses in mid-load is waited for."""
    loader = await started(dut)
    await loader.good()
    loader.drain = 2000
    data, _ = loader.image()
    loader.bench.send(list(data), "s_load_axis")
    for _ in range(600):
        await RisingEdge(dut.clk)
    assert int(dut.status.value) == IN_USE | WAITING and int(dut.hold.value) == 1
    assert str(dut.s_load_axis_tready.value) == "0" and len(loader.bench.accepted["s_load_axis"]) == len(data) + 16
    await loader.bench.finish(20_000)
    assert int(dut.status.value) == IN_USE | GOOD
    loader.drain = 0
    source = loader.bench.sources["s_load_axis"]
    source.clear_pause_generator()
    loader.bench.send(list(data), "s_load_axis")
    for _ in range(40):
        await RisingEdge(dut.clk)
    source.pause = True
    for _ in range(3000):
        await RisingEdge(dut.clk)
    assert int(dut.status.value) == WRITING and int(dut.hold.value) == 1
    source.pause = False
    await loader.bench.finish(20_000)
    assert int(dut.status.value) == IN_USE | GOOD and not loader.faults


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_mid_load(dut: Any) -> None:
    """A reset in header, payload or CRC: empty, frames held, and the next load is right."""
    loader = await started(dut)
    data, _ = loader.image()
    for cycles in (5, 17, 21, 30, len(data) // 2, len(data)):
        loader.bench.send(list(data), "s_load_axis")
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        await loader.bench.reset(1)
        assert int(dut.status.value) == EMPTY and int(dut.hold.value) == 1
        await loader.good()
    await loader.bench.reset(1)
    assert int(dut.status.value) == EMPTY and int(dut.hold.value) == 1
