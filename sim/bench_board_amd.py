"""Bench of OUT/board/pynq/driver.py against the RTL: the machine behind its DMA adapter, a model of the AXI DMA's and AXI GPIO's registers, and PYNQ's
library stood in by a thin layer over these registers. The driver's own code runs unchanged.

The job is board_job.json in the run folder: {"pynq": the overlay folder, "images": .npy of uint8 (N, H, W, C), "sums": {"a": .npy (N, classes), ...},
"weights": {"a": file, "b": file}, "timeout_s"}. "b" is another model's; without a load port there is only "a" and no weights.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource  # type: ignore[import-untyped]

from sim.axi_dma_model import AxiDma, AxiGpio, Memory
from sim.pynq_standin import SimulatedTime, install

PERIOD_NS = 4
JOB: dict[str, Any] = json.loads(Path(os.environ["FSQ_BOARD_JOB"]).read_text())
FOLDER = Path(JOB["pynq"])
MACHINE: dict[str, Any] = json.loads((FOLDER / "machine.json").read_text())
IMAGES = np.load(JOB["images"])
SUMS = {name: np.load(path) for name, path in JOB["sums"].items()}
WEIGHTS = {name: Path(path).read_bytes() for name, path in JOB["weights"].items()}
TIMEOUT_S = float(JOB["timeout_s"])
COMPARED = {"sums": 0}


class System:
    """The board: machine, DMA, GPIO, memory, and the driver's module."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for port in ("s_axis", "m_axis", "s_load_axis"):
            logging.getLogger(f"cocotb.{dut._name}.{port}").setLevel(logging.WARNING)  # else every frame, in full
        Clock(dut.ap_clk, PERIOD_NS, "ns").start()
        self.memory = Memory()

        def stream(kind: Any, name: str) -> Any:
            return kind(AxiStreamBus.from_prefix(dut, name), dut.ap_clk, dut.ap_rst_n, reset_active_level=False)

        self.source, self.sink = stream(AxiStreamSource, "s_axis"), stream(AxiStreamSink, "m_axis")
        bits = int(MACHINE["max_transfer"]).bit_length()
        align = max(4, MACHINE["pixel_bytes"], MACHINE["out_bytes"])
        self.dma = AxiDma(dut.ap_clk, self.memory, self.source, self.sink, length_bits=bits, aligned=align)
        self.gpio = AxiGpio(dut.control, dut.status)
        models: dict[str, Any] = {"dma": self.dma, "control": self.gpio}
        if MACHINE["load_bytes"]:
            self.load = AxiDma(dut.ap_clk, self.memory, stream(AxiStreamSource, "s_load_axis"), None, length_bits=bits, aligned=4)
            models["load_dma"] = self.load
        self.models = models
        install(dut.ap_clk, self.memory, models, align)
        self.driver = _module()

    async def start(self) -> None:
        """Power up."""
        self.dut.control.value = 0
        self.dut.ap_rst_n.value = 0
        await ClockCycles(self.dut.ap_clk, 8)
        self.dut.ap_rst_n.value = 1
        await ClockCycles(self.dut.ap_clk, 8)

    def accelerator(self, **options: Any) -> Any:
        """A driver object."""
        return self.driver.Accelerator(timeout_s=TIMEOUT_S, **options)

    def finish(self) -> None:
        """No register was misused and nothing is left under way."""
        faults = [fault for model in self.models.values() for fault in model.faults]
        assert not faults, faults
        status = int(self.dut.status.value)
        assert status >> 16 & 0xFF == status >> 24, f"frames are left inside: status {status:#x}"
        assert self.source.empty() and self.sink.empty() and COMPARED["sums"], "streams are not empty, or nothing was compared"


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("driver", FOLDER / "driver.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.time = SimulatedTime()  # type: ignore[attr-defined]
    return module


def equal(got: Any, wanted: Any) -> None:
    """Class sums, all of them."""
    np.testing.assert_array_equal(got, wanted)
    assert got.size
    COMPARED["sums"] += int(got.size)


def raises(kind: type[Exception], text: str, action: Callable[[], object]) -> str:
    """`action` must raise `kind` with `text` in its message; returns the message."""
    try:
        action()
    except kind as error:
        assert text in str(error), f"{text!r} was expected in: {error}"
        return str(error)
    raise AssertionError(f"{kind.__name__} with {text!r} was expected, nothing was raised")


async def run(dut: Any, body: Callable[[System], None], finish: bool = True) -> None:
    """`body` as a program on the board."""
    system = System(dut)
    await system.start()
    await bridge(body)(system)
    if finish:
        system.finish()
    dut._log.info("MEASURED sums=%d", COMPARED["sums"])


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def images_batches_notebook(dut: Any) -> None:
    """Check, class sums, classes, batches of several transfers, wrong arrays, throughput, and the notebook's cells."""

    def body(system: System) -> None:
        machine = system.accelerator(max_batch=3)
        assert machine.check() == np.load(FOLDER / "golden_sums.npy").size
        transfers = system.dma.send.transfers
        equal(machine.class_sums(IMAGES), SUMS["a"])
        assert system.dma.send.transfers - transfers == -(-len(IMAGES) // 3), "one transfer a batch was expected"
        equal(machine.class_sums(IMAGES[0]), SUMS["a"][:1])
        classes, sums = machine.classify(IMAGES[:2], k=3)
        best = np.argsort(-SUMS["a"][:2], axis=1, kind="stable")[:, :3]
        np.testing.assert_array_equal(classes, best)
        equal(sums, np.take_along_axis(SUMS["a"][:2], best, axis=1))
        assert machine.class_sums(IMAGES[:0]).shape == (0, MACHINE["classes"])
        raises(ValueError, "was expected, got", lambda: machine.class_sums(IMAGES[:1].astype(np.float32)))
        raises(ValueError, "was expected, got", lambda: machine.class_sums(IMAGES[:1, 1:]))
        raises(ValueError, "k: 1 to", lambda: machine.classify(IMAGES[:1], k=MACHINE["classes"] + 1))
        result = machine.throughput(batches=2)
        assert result["frames"] == 6 and result["fps"] > 0
        if MACHINE["load_bytes"] == 0:
            raises(system.driver.AcceleratorError, "in the bitstream", lambda: machine.load_weights(b"FSQ1"))
        machine.close()
        notebook(system)

    await run(dut, body)


def notebook(system: System) -> None:
    """Every code cell of the notebook, in the overlay folder."""
    import sys

    cells = json.loads(next(FOLDER.glob("*.ipynb")).read_text())["cells"]
    system.driver.Accelerator.__init__.__defaults__ = (None, TIMEOUT_S, 4, None)  # simulated time: shorter, fewer frames
    sys.modules["driver"] = system.driver
    before, space = Path.cwd(), {"__name__": "__main__"}
    os.chdir(FOLDER)
    try:
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert len(codes) >= 5
        for code in codes:
            exec(compile(code, "notebook", "exec"), space)
    finally:
        os.chdir(before)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """The same sums when pixels come and sums are taken haltingly."""

    def pauses() -> Iterator[bool]:
        rng = random.Random(3)
        while True:
            yield rng.random() < 0.4

    def body(system: System) -> None:
        machine = system.accelerator(max_batch=len(IMAGES))
        system.source.set_pause_generator(pauses())
        equal(machine.class_sums(IMAGES), SUMS["a"])
        system.source.clear_pause_generator()
        system.source.pause = False

    await run(dut, body)


@cocotb.test(timeout_time=100, timeout_unit="ms", skip=not MACHINE["top_k"])
async def best_classes(dut: Any) -> None:
    """A machine that sends its best classes only: class and sum of each, best first."""

    def body(system: System) -> None:
        machine = system.accelerator(max_batch=3)
        best = np.argsort(-SUMS["a"], axis=1, kind="stable")[:, : MACHINE["top_k"]]
        for k in (1, MACHINE["top_k"]):
            classes, sums = machine.classify(IMAGES, k=k)
            np.testing.assert_array_equal(classes, best[:, :k])
            equal(sums, np.take_along_axis(SUMS["a"], best[:, :k], axis=1))
        assert machine.check() == len(np.load(FOLDER / "golden_sums.npy")) * MACHINE["top_k"]
        raises(system.driver.AcceleratorError, "best classes only", lambda: machine.class_sums(IMAGES))
        raises(ValueError, "k: 1 to", lambda: machine.classify(IMAGES, k=MACHINE["top_k"] + 1))

    await run(dut, body)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def timeouts(dut: Any) -> None:
    """Sums that nobody takes and pixels that do not come: a clear error in time, and everything right afterwards. So with a frame cut short."""

    def body(system: System) -> None:
        machine = system.accelerator(max_batch=4)
        late, error = system.driver.TransferTimeout, system.driver.AcceleratorError
        system.dma.hold_receive = True
        started = system.driver.time.monotonic()
        text = raises(late, "dma receive not done after", lambda: machine.class_sums(IMAGES[:2]))
        assert "2 frames came in whole and 0 left" in text, text
        assert system.driver.time.monotonic() - started < 3 * TIMEOUT_S
        system.dma.hold_receive = False
        equal(machine.class_sums(IMAGES[:2]), SUMS["a"][:2])

        system.source.pause = True
        raises(late, "dma send and dma receive not done after", lambda: machine.class_sums(IMAGES[:1]))
        system.source.pause = False
        equal(machine.class_sums(IMAGES[:1]), SUMS["a"][:1])

        # A packet that ends inside a frame: the machine waits for the rest and says so.
        whole = machine.machine["frame_bytes"]
        machine.machine["frame_bytes"] = whole // 2 // 16 * 16
        raises(late, "a packet ended inside a frame", lambda: machine.class_sums(IMAGES[:1]))
        machine.machine["frame_bytes"] = whole
        equal(machine.class_sums(IMAGES[-2:]), SUMS["a"][-2:])

        # Memory that is not there.
        pixels, machine._pixels = machine._pixels, machine._allocate(shape=machine._pixels.shape, dtype=np.uint8)
        machine._pixels.freebuffer()
        raises(error, "dma send reports decode error", lambda: machine.class_sums(IMAGES[:1]))
        machine._pixels = pixels
        equal(machine.class_sums(IMAGES[:3]), SUMS["a"][:3])

    await run(dut, body)


@cocotb.test(timeout_time=200, timeout_unit="ms", skip=not WEIGHTS)
async def weights(dut: Any) -> None:
    """Nothing runs without weights; damaged and foreign ones are refused by name; another model's come and go between batches; a timeout keeps them."""

    def body(system: System) -> None:
        error = system.driver.AcceleratorError
        bad = WEIGHTS["a"][:40] + bytes([WEIGHTS["a"][40] ^ 1]) + WEIGHTS["a"][41:]
        raises(error, "damaged on their way", lambda: system.accelerator(weights=bad))
        machine = system.accelerator(weights=WEIGHTS["b"], max_batch=4)
        equal(machine.class_sums(IMAGES), SUMS["b"])
        machine.load_weights(WEIGHTS["a"])
        equal(machine.class_sums(IMAGES), SUMS["a"])
        foreign = WEIGHTS["b"][:4] + bytes([WEIGHTS["b"][4] ^ 1]) + WEIGHTS["b"][5:]
        raises(error, "another shape", lambda: machine.load_weights(foreign))
        equal(machine.class_sums(IMAGES[:1]), SUMS["a"][:1])
        raises(error, "cut short", lambda: machine.load_weights(WEIGHTS["a"][:-8]))
        raises(error, "takes no frames", lambda: machine.class_sums(IMAGES[:1]))
        machine.load_weights(WEIGHTS["b"])
        system.dma.hold_receive = True
        raises(system.driver.TransferTimeout, "dma receive", lambda: machine.class_sums(IMAGES[:1]))
        system.dma.hold_receive = False
        assert machine.status().ready, "the weights in use were to be loaded again"
        equal(machine.class_sums(IMAGES[:2]), SUMS["b"][:2])
        machine.reset()
        raises(error, "no weights came since reset", lambda: machine.class_sums(IMAGES[:1]))
        raises(ValueError, "it is empty", lambda: machine.load_weights(b""))
        machine.load_weights(FOLDER / "weights.bin")
        equal(machine.class_sums(IMAGES[:1]), SUMS["a"][:1])

    await run(dut, body)
