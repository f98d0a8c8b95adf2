"""What the board templates print: clock, serial line and the machine's ports. Computed and checked here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fpga_squeeze.board.pll import Pll, ecp5_pll
from fpga_squeeze.board.table import Board
from fpga_squeeze.emit.rtl_context import RtlDesign
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import FoldPlan

RTL = "../../rtl"
"""The export's RTL as seen from the folder of a build, OUT/board/NAME."""

TIMEOUT_SECONDS = 0.1
PIXEL_FIFO = 512
CLASS_BITS = 16
_BAUD = (1200, 12_000_000)
_MIN_DIVISOR = 4
_DIVISOR_ERROR = 0.015
"""Share by which a bit may be off; both ends together must stay under about 4 percent."""


@dataclass(frozen=True)
class BoardDesign:
    """A machine on a board. `machine` is the module of the network, `top` and `serial` are the modules around it."""

    board: Board
    machine: str
    digest: str
    pll: Pll
    baud: int
    divisor: int
    timeout_cycles: int
    channels: int
    pixels: int
    classes: int
    sum_bits: int
    out_bits: int
    top_k: int
    pixel_fifo: int = PIXEL_FIFO

    @property
    def top(self) -> str:
        """Top module; the machine's own name never begins with fsq_."""
        return f"fsq_board_{self.board.name.replace('-', '_')}"

    @property
    def serial(self) -> str:
        """Module of the machine behind its serial line, without clock and pins."""
        return "fsq_serial_machine"

    @property
    def weights(self) -> str:
        """Folder of the memory files, seen from the folder of the build."""
        return f"{RTL}/weights/"

    @property
    def family(self) -> str:
        """Family of the part, as the clock generator is named."""
        return self.board.family

    @property
    def clock_mhz(self) -> float:
        """Clock of the machine."""
        return self.pll.output_mhz

    @property
    def frame_bytes(self) -> int:
        """Bytes of an image."""
        return self.channels * self.pixels

    @property
    def sum_bytes(self) -> int:
        """Bytes of a class sum in an answer."""
        return self.sum_bits // 8

    @property
    def lights(self) -> tuple[str, ...]:
        """What the LEDs show, the top bit first."""
        return self.board.lights

    @property
    def light_signals(self) -> tuple[str, ...]:
        """The signals of `lights`."""
        named = {"receiving": "receiving", "failed": "failed_reg", "blink": "blink_reg"}
        return tuple(named.get(light) or light.replace("class", "class_index") for light in self.board.lights)


def board_design(design: RtlDesign, plan: FoldPlan, board: Board, clock_mhz: float | None = None, baud: int | None = None) -> BoardDesign:
    """The machine `design` on `board`, at its clock and baud rate unless others are given.

    Raises:
        InputError: a clock that the PLL cannot make, a baud rate that the clock cannot, a machine slower than its line, or weights that are loaded.
    """
    loaded = [engine.node for stage in plan.stages for engine in stage.engines if engine.loaded]
    if loaded:
        raise InputError(f"--board {board.name}: weights in the bitstream were expected, those of {loaded[0]} are loaded; export with --weights rom")
    if design.classes > 1 << CLASS_BITS:
        raise InputError(f"--board {board.name}: at most {1 << CLASS_BITS} classes fit an answer, the network has {design.classes}")
    if design.in_bits % 8:
        raise InputError(f"--board {board.name}: pixels of whole bytes were expected, got {design.in_bits} bits")
    pll = ecp5_pll(board.oscillator_mhz, clock_mhz or board.clock_mhz)
    rate = baud or board.baud
    found = BoardDesign(
        board=board, machine=design.top, digest=design.digest, pll=pll, baud=rate, divisor=_divisor(pll.output_mhz * 1e6, rate),
        timeout_cycles=math.ceil(TIMEOUT_SECONDS * pll.output_mhz * 1e6), channels=design.in_bits // 8, pixels=design.pixels, classes=design.classes,
        sum_bits=design.sum_bits, out_bits=design.out_bits, top_k=design.top_k,
    )  # fmt: skip
    line_cycles = found.frame_bytes * 10 * found.divisor
    if plan.interval_cycles > line_cycles:
        slower = int(rate * line_cycles / plan.interval_cycles)
        raise InputError(
            f"--baud {rate}: the line brings an image in {line_cycles:,} cycles, the machine takes {plan.interval_cycles:,}; use --baud {slower} or less"
        )
    return found


def _divisor(clock_hz: float, baud: int) -> int:
    """Clock cycles a bit. Raises InputError when no whole number is near enough."""
    if not _BAUD[0] <= baud <= _BAUD[1]:
        raise InputError(f"--baud: {_BAUD[0]} to {_BAUD[1]} was expected, got {baud}")
    divisor = round(clock_hz / baud)
    error = abs(clock_hz / max(divisor, 1) / baud - 1)
    if divisor < _MIN_DIVISOR or error > _DIVISOR_ERROR:
        raise InputError(
            f"--baud {baud}: {clock_hz / baud:.2f} cycles of {clock_hz / 1e6:g} MHz a bit, {_MIN_DIVISOR} or more and within "
            f"{100 * _DIVISOR_ERROR:g}% of a whole number was expected"
        )
    return divisor
