"""What is wrong with a package: the same codes as the C decoder's."""

from __future__ import annotations

from enum import IntEnum

from fpga_squeeze.errors import InputError


class Code(IntEnum):
    """Why a package is refused. The values are those of `enum fsq_error` in fsq_unpack.h."""

    SIZE = 1
    MAGIC = 2
    VERSION = 3
    CRC = 4
    HEADER = 5
    RECORD = 6
    PORT = 7
    SPACE = 8
    SHAPE = 9
    BASE = 10
    STREAM = 11
    VALUE = 12
    RESULT = 13


REASONS = {
    Code.SIZE: "cut short or with bytes behind its end",
    Code.MAGIC: "no package (it does not begin with FSQP)",
    Code.VERSION: "a package of another format version; version 1 was expected",
    Code.CRC: "damaged (its CRC-32 is wrong); copy it again",
    Code.HEADER: "damaged or not written by fpga-squeeze: its header is not possible",
    Code.RECORD: "damaged or not written by fpga-squeeze: a layer's sizes are not possible",
    Code.PORT: "of a machine without a load port: its weights are in the bitstream, so there is no load image; --integers writes them as arrays",
    Code.SPACE: "larger than the room for its load image",
    Code.SHAPE: "for a machine of another shape",
    Code.BASE: "a delta against another base",
    Code.STREAM: "damaged or not written by fpga-squeeze: a layer's coded weights do not end where they should",
    Code.VALUE: "damaged or not written by fpga-squeeze: a number is beyond its width",
    Code.RESULT: "damaged or not written by fpga-squeeze: what it unpacks to has another digest than it says",
}


class PackageError(InputError):
    """A package that is refused; `code` says why."""

    def __init__(self, code: Code, where: str = "the package") -> None:
        super().__init__(f"{where}: {REASONS[code]}")
        self.code = code
