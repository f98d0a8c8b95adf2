"""The boards with an AMD Zynq that OUT/board is written for, from templates/board_amd/boards.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache

from fpga_squeeze.emit.render import static_file
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.devices import Device, find_device

ZYNQ_FAMILIES = {"zynq7": "zynq7000", "zynqmp": "zynqmp"}
"""Family of devices.toml by processing system."""

REGISTER_BLOCK = 0x1_0000
"""Bytes between two register blocks: the smallest range Vivado maps for an AXI DMA."""


@dataclass(frozen=True)
class ZynqBoard:
    """One board. The fields are described in the head of boards.toml; `registers` is the first register address, as a number in text."""

    name: str
    title: str
    device: str
    part: str
    board_part: str
    board_files: str
    ps: str
    control_port: str
    memory_port: str
    memory_bits: int
    address_bits: int
    registers: str

    @property
    def has_uram(self) -> bool:
        """The part has UltraRAM."""
        return find_device(self.device).uram > 0

    def address(self, block: int) -> str:
        """Address of register block number `block`, in hexadecimal.

        >>> load_zynq_boards()[0].address(2)
        '0x40420000'
        """
        return f"0x{int(self.registers, 0) + block * REGISTER_BLOCK:08X}"


@cache
def load_zynq_boards() -> tuple[ZynqBoard, ...]:
    """Every known board, in the file's order. Raises InputError when the packaged file is damaged."""
    return read_zynq_boards(static_file("board_amd/boards.toml").decode())


def read_zynq_boards(text: str) -> tuple[ZynqBoard, ...]:
    """The boards of a boards.toml. Raises InputError that names the entry and the field."""
    try:
        entries = tomllib.loads(text)["board"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f"board_amd/boards.toml: [[board]] entries were expected ({error})") from error
    return tuple(_board(entry) for entry in entries)


def board_of_device(device: Device | None, asked: str | None) -> ZynqBoard | None:
    """The board that an export's --device means: named itself, or the first one with that part. None without a device or board."""
    if device is None:
        return None
    boards = [board for board in load_zynq_boards() if board.device == device.name]
    key = (asked or "").strip().lower().replace("_", "-")
    return next((board for board in boards if board.name == key), boards[0] if boards else None)


def for_zynq(device: Device | None) -> bool:
    """An export gets board files unless it was made for a part that has no processing system."""
    return device is None or device.family in ZYNQ_FAMILIES.values()


def _board(entry: dict[str, object]) -> ZynqBoard:
    where = f"board_amd/boards.toml, board {entry.get('name', '?')}"
    types = {f.name: {"str": str, "int": int}[str(f.type)] for f in fields(ZynqBoard)}
    odd = sorted(set(types) ^ set(entry))
    if odd:
        raise InputError(f"{where}: {odd[0]} is {'missing' if odd[0] in types else 'not known'}")
    wrong = [key for key, value in entry.items() if type(value) is not types[key]]
    if wrong:
        raise InputError(f"{where}: {wrong[0]} is {entry[wrong[0]]!r}, a {types[wrong[0]].__name__} was expected")
    board = ZynqBoard(**entry)  # type: ignore[arg-type]
    device = find_device(board.device)
    if ZYNQ_FAMILIES.get(board.ps) != device.family or board.part != device.part:
        raise InputError(f"{where}: ps {board.ps!r} and part {board.part} do not belong to device {device.name} ({device.family}, {device.part})")
    return board
