"""A model of the AXI DMA (PG021) in direct register mode, of an AXI GPIO (PG144), and of the memory behind them, for benches of a machine's host software.

Registers behave as the product guides say: a channel starts when LENGTH is written while it runs, reports Halted, Idle, errors and IOC_Irq in its status
register, halts on an error until reset, and one reset bit resets both channels. What the guides forbid (a register that does not exist, LENGTH written
in mid-transfer or in a halted channel) is noted in `faults`, which a bench holds empty.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiStreamFrame, AxiStreamSink, AxiStreamSource  # type: ignore[import-untyped]

RUN, RESET = 0x1, 0x4
HALTED, IDLE, INTERNAL_ERROR, DECODE_ERROR, COMPLETE, ERROR_IRQ = 0x1, 0x2, 0x10, 0x40, 0x1000, 0x4000
CONTROL, STATUS, ADDRESS, ADDRESS_HIGH, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
S2MM = 0x30
RESET_CYCLES = 16
PAGE = 4096


class Memory:
    """What the DMA reaches: allocated blocks only. Addresses lie above 4 GB, so that a driver which forgets the high half is found."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytearray] = {}
        self._next = 0x1_2345_0000

    def allocate(self, size: int) -> int:
        """A new block of `size` bytes; returns its address."""
        address, self._next = self._next, self._next + -(-size // PAGE) * PAGE + PAGE
        self.blocks[address] = bytearray(b"\xa5" * size)
        return address

    def _block(self, address: int, size: int) -> tuple[bytearray, int] | None:
        for base, block in self.blocks.items():
            if base <= address and address + size <= base + len(block):
                return block, address - base
        return None

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes at `address`; None where nothing is."""
        found = self._block(address, size)
        return bytes(found[0][found[1] : found[1] + size]) if found else None

    def write(self, address: int, data: bytes) -> bool:
        """Write; False where nothing is."""
        found = self._block(address, len(data))
        if found:
            found[0][found[1] : found[1] + len(data)] = data
        return found is not None


class Channel:
    """One direction. `stream`: the source or sink on the machine's side; `aligned`: bytes that an address must be a multiple of."""

    def __init__(self, dma: AxiDma, stream: Any, receives: bool, aligned: int) -> None:
        self.dma, self.stream, self.receives, self.aligned = dma, stream, receives, aligned
        self.task: Any = None
        self.transfers = 0
        self.clear()

    def clear(self) -> None:
        """As after reset."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
        self.control, self.status, self.address, self.length = 0x0001_0002, HALTED, 0, 0

    def write(self, offset: int, value: int) -> None:
        """A register write, `offset` from the channel's first register."""
        if offset == CONTROL:
            self.control = value & ~RESET
            if value & RUN and not self.status & 0x70:
                self.status &= ~HALTED
            elif not value & RUN:
                self.status |= HALTED
        elif offset == STATUS:
            self.status &= ~(value & 0x7000)
        elif offset == ADDRESS:
            self.address = self.address & ~0xFFFFFFFF | value
        elif offset == ADDRESS_HIGH:
            self.address = self.address & 0xFFFFFFFF | value << 32
        elif offset == LENGTH:
            self._start(value)
        else:
            self.dma.faults.append(f"{self.name}: write to register {offset:#x}")

    def read(self, offset: int) -> int:
        """A register read."""
        values = {CONTROL: self.control, STATUS: self.status, ADDRESS: self.address & 0xFFFFFFFF, ADDRESS_HIGH: self.address >> 32, LENGTH: self.length}
        if offset not in values:
            self.dma.faults.append(f"{self.name}: read of register {offset:#x}")
        return values.get(offset, 0)

    @property
    def name(self) -> str:
        """For messages."""
        return "S2MM" if self.receives else "MM2S"

    def _start(self, value: int) -> None:
        if self.status & HALTED or self.task is not None:
            self.dma.faults.append(f"{self.name}: LENGTH written {'while halted' if self.status & HALTED else 'in mid-transfer'}")
            return
        if value >> self.dma.length_bits:
            self.dma.faults.append(f"{self.name}: LENGTH of {value} has more than {self.dma.length_bits} bits")
        if self.address % self.aligned:
            self.dma.faults.append(f"{self.name}: address {self.address:#x} is no multiple of {self.aligned}, and there is no realignment engine")
        self.length = value & ((1 << self.dma.length_bits) - 1)
        self.status &= ~IDLE
        if not self.length:
            self._fail(INTERNAL_ERROR)
            return
        self.task = cocotb.start_soon(self._receive() if self.receives else self._send())

    def _fail(self, error: int) -> None:
        self.status |= error | HALTED | ERROR_IRQ
        self.control &= ~RUN

    async def _send(self) -> None:
        data = self.dma.memory.read(self.address, self.length)
        if data is None:
            self.task = None
            self._fail(DECODE_ERROR)
            return
        await self.stream.send(AxiStreamFrame(data))
        await self.stream.wait()
        self._done()

    async def _receive(self) -> None:
        self.stream.pause = self.dma.hold_receive
        frame = await self.stream.recv(compact=True)
        self.stream.pause = True
        data = bytes(frame.tdata)
        if len(data) > self.length:
            self.task = None
            self._fail(INTERNAL_ERROR)
        elif not self.dma.memory.write(self.address, data):
            self.task = None
            self._fail(DECODE_ERROR)
        else:
            self.length = len(data)
            self._done()

    def _done(self) -> None:
        self.task = None
        self.transfers += 1
        self.status |= IDLE | COMPLETE


class AxiDma:
    """An AXI DMA with a channel for each stream that is given; register offsets as seen by the processor."""

    def __init__(self, clock: Any, memory: Memory, source: AxiStreamSource, sink: AxiStreamSink | None, *, length_bits: int, aligned: int) -> None:
        self.clock, self.memory, self.length_bits = clock, memory, length_bits
        self.faults: list[str] = []
        self.hold_receive = False
        self.send = Channel(self, source, False, aligned)
        self.receive = Channel(self, sink, True, aligned) if sink is not None else None
        self._resetting = False
        if sink is not None:
            sink.pause = True  # nothing is taken before a transfer is set up

    def _channel(self, offset: int) -> tuple[Channel | None, int]:
        return (self.send, offset) if offset < S2MM else (self.receive, offset - S2MM)

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register write."""
        channel, local = self._channel(offset)
        if channel is None or offset % 4:
            self.faults.append(f"write to register {offset:#x}, which is not there")
        elif self._resetting:
            self.faults.append(f"register {offset:#x} written during reset")
        elif local == CONTROL and value & RESET:
            self._resetting = True
            cocotb.start_soon(self._reset())
        else:
            channel.write(local, value)

    def read(self, offset: int) -> int:
        """A 32-bit register read."""
        channel, local = self._channel(offset)
        if channel is None or offset % 4:
            self.faults.append(f"read of register {offset:#x}, which is not there")
            return 0
        return channel.read(local) | (RESET if self._resetting and local == CONTROL else 0)

    async def _reset(self) -> None:
        channels = [c for c in (self.send, self.receive) if c is not None]
        for channel in channels:
            channel.clear()
            channel.stream.assert_reset(True)
        await ClockCycles(self.clock, RESET_CYCLES)
        for channel in channels:
            channel.stream.assert_reset(False)
            channel.stream.clear()
        if self.receive is not None:
            self.receive.stream.pause = True
        self._resetting = False


class AxiGpio:
    """Channel 1 drives `output`, channel 2 reads `value`."""

    def __init__(self, output: Any, value: Any) -> None:
        self.output, self.value = output, value
        self.faults: list[str] = []

    def write(self, offset: int, value: int) -> None:
        """A register write."""
        if offset == 0x0:
            self.output.value = value & 1
        else:
            self.faults.append(f"GPIO: write to register {offset:#x}")

    def read(self, offset: int) -> int:
        """A register read."""
        if offset != 0x8:
            self.faults.append(f"GPIO: read of register {offset:#x}")
            return 0
        return int(self.value.value)
