"""Stands in for the PYNQ library over simulated registers: Overlay, allocate and the DMA's channels, with the behaviour of PYNQ's own, nothing more.

A register access takes simulated time, so code that polls lets the simulation run. Buffers are cached: the DMA sees what was flushed, the program what was
invalidated, as PYNQ's transfer() and wait() do it. `install` puts it where `from pynq import ...` finds it, and gives a module the simulated time.
Works inside a function that cocotb.task.bridge runs.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from cocotb.task import resume
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from sim.axi_dma_model import Memory

ACCESS_CYCLES = 10


class Buffer(np.ndarray):
    """A numpy array with a physical address, a cache in front of the memory."""

    memory: Memory
    physical_address: int

    def flush(self) -> None:
        """Cache to memory."""
        self.memory.write(self.physical_address, self.tobytes())

    def invalidate(self) -> None:
        """Memory to cache."""
        data = self.memory.read(self.physical_address, self.nbytes)
        assert data is not None
        self[...] = np.frombuffer(data, dtype=self.dtype).reshape(self.shape)

    def freebuffer(self) -> None:
        """The memory is gone: the DMA finds nothing there any more."""
        del self.memory.blocks[self.physical_address]


class Block:
    """An IP with registers: read and write take time on the bus."""

    def __init__(self, clock: Any, model: Any) -> None:
        self._clock, self._model = clock, model

    def read(self, offset: int) -> int:
        """A register."""

        async def access() -> int:
            await ClockCycles(self._clock, ACCESS_CYCLES)
            return int(self._model.read(offset))

        return resume(access)()

    def write(self, offset: int, value: int) -> None:
        """A register."""

        async def access() -> None:
            await ClockCycles(self._clock, ACCESS_CYCLES)
            self._model.write(offset, value)

        resume(access)()


class DmaChannel:
    """pynq.lib.dma's channel in direct register mode: transfer() starts, wait() polls and never gives up."""

    def __init__(self, block: Block, offset: int, sends: bool, max_size: int, align: int) -> None:
        self._block, self._offset, self._sends, self._max_size, self._align = block, offset, sends, max_size, align
        self._buffer: Buffer | None = None
        self.transferred = 0
        self.start()

    @property
    def running(self) -> bool:
        """Not halted."""
        return not self._block.read(self._offset + 0x04) & 0x1

    @property
    def idle(self) -> bool:
        """The last transfer is done."""
        return bool(self._block.read(self._offset + 0x04) & 0x2)

    @property
    def error(self) -> bool:
        """An error bit is set."""
        return bool(self._block.read(self._offset + 0x04) & 0x70)

    def start(self) -> None:
        """Run, and wait until it does."""
        self._block.write(self._offset, 0x0001)
        while not self.running:
            pass
        self._first = True

    def transfer(self, array: Buffer, start: int = 0, nbytes: int = 0) -> None:
        """Start a transfer of `nbytes` (0: all) from byte `start` on."""
        if not self.running:
            raise RuntimeError("DMA channel not started")
        if not self.idle and not self._first:
            raise RuntimeError("DMA channel not idle")
        size = nbytes or array.nbytes - start
        if size > self._max_size:
            raise ValueError(f"transfer of {size} bytes, {self._max_size} is the most")
        address = array.physical_address + start
        if address % self._align:
            raise RuntimeError("DMA does not support unaligned transfers")
        if self._sends:
            array.flush()
        self.transferred = 0
        self._block.write(self._offset + 0x18, address & 0xFFFFFFFF)
        self._block.write(self._offset + 0x1C, address >> 32)
        self._block.write(self._offset + 0x28, size)
        self._buffer, self._first = array, False

    def wait(self) -> None:
        """Until idle."""
        if not self.running:
            raise RuntimeError("DMA channel not started")
        while not self.idle:
            if self.error:
                raise RuntimeError("DMA error")
        if not self._sends:
            assert self._buffer is not None
            self._buffer.invalidate()
        self.transferred = self._block.read(self._offset + 0x28)


class Dma(Block):
    """pynq.lib.dma.DMA."""

    def __init__(self, clock: Any, model: Any, align: int) -> None:
        super().__init__(clock, model)
        limit = (1 << model.length_bits) - 1
        self.sendchannel = DmaChannel(self, 0x00, True, limit, align)
        if model.receive is not None:
            self.recvchannel = DmaChannel(self, 0x30, False, limit, align)


def install(clock: Any, memory: Memory, models: dict[str, Any], align: int) -> types.ModuleType:
    """A module `pynq` whose overlay has the blocks `models`: DMAs by `length_bits`, all others plain registers."""

    class Overlay:
        """pynq.Overlay: needs the .bit and the .hwh of the same name beside it."""

        def __init__(self, bitfile: str) -> None:
            for path in (Path(bitfile), Path(bitfile).with_suffix(".hwh")):
                if not path.is_file():
                    raise OSError(f"{path} does not exist")
            for name, model in models.items():
                setattr(self, name, Dma(clock, model, align) if hasattr(model, "length_bits") else Block(clock, model))

    def allocate(shape: Any, dtype: Any = "u4") -> Buffer:
        buffer = np.zeros(shape, dtype=dtype).view(Buffer)
        buffer.memory = memory
        buffer.physical_address = memory.allocate(buffer.nbytes)
        return buffer

    module = types.ModuleType("pynq")
    module.Overlay, module.allocate = Overlay, allocate  # type: ignore[attr-defined]
    sys.modules["pynq"] = module
    return module


class SimulatedTime:
    """`time` for the driver: simulated seconds."""

    def monotonic(self) -> float:
        """Seconds of simulated time."""
        return float(get_sim_time("sec"))
