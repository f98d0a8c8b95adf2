"""What the templates of OUT/board print: widths, sizes and addresses of the machine behind its DMA. Computed here, never in a template."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.emit.board_table import ZynqBoard, load_zynq_boards
from fpga_squeeze.emit.rtl_context import RtlDesign
from fpga_squeeze.hardware.plan import FoldPlan

LENGTH_BITS = 26
"""Bits of the DMA's length register, the most it can have: a transfer of up to 64 MB less one byte."""

BATCH_BYTES = 1 << 22
"""The driver's default batch is the largest whose pixels fit in so many bytes, between 1 and 64 frames."""

BLOCKS = ("dma", "control", "load_dma")
"""Register blocks in the order of their addresses."""


@dataclass(frozen=True)
class PictureSize:
    """How a picture becomes the machine's input: its short side is resized to `resize`, then the centre of `size` x `size` is cut out."""

    resize: int
    size: int


@dataclass(frozen=True)
class BoardDesign:
    """The machine as its host sees it.

    A pixel is `pixel_bits` in a beat of `in_bits`; a beat of sums has `sum_beat_bits` in `out_bits`. `load_bytes`: bytes of the weights' image, 0
    without a load port. `boards`: (board, addresses of its register blocks); `default_board` the one that the export was made for, or "".
    """

    top: str
    digest: str
    files: bool
    uses_uram: bool
    channels: int
    height: int
    width: int
    pixel_bits: int
    in_bits: int
    classes: int
    top_k: int
    sum_bits: int
    index_bits: int
    sum_beat_bits: int
    out_bits: int
    out_beats: int
    load_bytes: int
    clock_mhz: float
    interval_cycles: int
    picture: PictureSize
    boards: tuple[ZynqBoard, ...]
    default_board: str

    @property
    def pixels(self) -> int:
        """Beats of a frame on the input."""
        return self.height * self.width

    @property
    def count_bits(self) -> int:
        """Bits that count the beats of a frame."""
        return max(1, (self.pixels - 1).bit_length())

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory."""
        return self.in_bits // 8

    @property
    def out_bytes(self) -> int:
        """Bytes of a beat of sums in memory."""
        return self.out_bits // 8

    @property
    def sum_bytes(self) -> int:
        """Bytes of a class sum."""
        return self.sum_bits // 8

    @property
    def index_bytes(self) -> int:
        """Bytes of a class index; it stands behind its sum."""
        return self.index_bits // 8 if self.top_k else 0

    @property
    def out_pad(self) -> int:
        """Unused high bits of a beat of sums."""
        return self.out_bits - self.sum_beat_bits

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame in memory."""
        return self.pixels * self.pixel_bytes

    @property
    def answer_bytes(self) -> int:
        """Bytes of a frame's sums in memory."""
        return self.out_beats * self.out_bytes

    @property
    def max_batch(self) -> int:
        """Frames of the driver's default batch."""
        return max(1, min(64, BATCH_BYTES // self.frame_bytes))

    @property
    def fps(self) -> float:
        """Frames a second that the plan predicts at `clock_mhz`."""
        return round(self.clock_mhz * 1e6 / self.interval_cycles, 3)

    @property
    def memory_in_bits(self) -> int:
        """Width of the DMA's memory side that reads pixels: at least 32, at least the stream's."""
        return max(32, self.in_bits)

    @property
    def memory_out_bits(self) -> int:
        """Width of the DMA's memory side that writes sums."""
        return max(32, self.out_bits)

    @property
    def length_bits(self) -> int:
        """Bits of the DMA's length registers."""
        return LENGTH_BITS

    @property
    def max_transfer(self) -> int:
        """Most bytes of a transfer."""
        return (1 << LENGTH_BITS) - 1

    @property
    def clock_text(self) -> str:
        """The clock in MHz, as a Tcl script takes it."""
        return f"{self.clock_mhz:g}"

    @property
    def masters(self) -> int:
        """Masters that reach the memory: two of the DMA, one of the load DMA."""
        return 3 if self.load_bytes else 2

    @property
    def blocks(self) -> tuple[str, ...]:
        """Register blocks that this machine has: cells of the block design."""
        return BLOCKS if self.load_bytes else BLOCKS[:2]

    @property
    def board_addresses(self) -> tuple[tuple[ZynqBoard, tuple[tuple[str, str], ...]], ...]:
        """(board, ((block, address), ...)) for every board."""
        return tuple((board, tuple((block, board.address(n)) for n, block in enumerate(self.blocks))) for board in self.boards)


def padded_bits(bits: int) -> int:
    """Width of an AXI DMA stream that holds `bits`: a power of two, 8 or more.

    >>> padded_bits(8), padded_bits(24), padded_bits(64), padded_bits(96)
    (8, 32, 64, 128)
    """
    return max(8, 1 << (bits - 1).bit_length())


def board_design(design: RtlDesign, plan: FoldPlan, picture: PictureSize, default_board: ZynqBoard | None) -> BoardDesign:
    """The machine of an RTL emission as a DMA meets it."""
    channels, height, width = plan.links[0].shape
    return BoardDesign(
        top=design.top, digest=design.digest, files=design.files, uses_uram=any(e.weight_storage == "uram" for s in plan.stages for e in s.engines),
        channels=channels, height=height, width=width, pixel_bits=design.in_bits, in_bits=padded_bits(design.in_bits), classes=design.classes,
        top_k=design.top_k, sum_bits=design.sum_bits, index_bits=design.index_bits, sum_beat_bits=design.out_bits, out_bits=padded_bits(design.out_bits),
        out_beats=design.out_beats, load_bytes=design.loader.bytes if design.loader else 0, clock_mhz=plan.clock_mhz, interval_cycles=plan.interval_cycles,
        picture=picture, boards=load_zynq_boards(), default_board=default_board.name if default_board else "",
    )  # fmt: skip
