"""The boards that `build` knows, from templates/board/boards.toml."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, fields
from functools import cache

from fpga_squeeze.emit.render import static_file
from fpga_squeeze.errors import InputError

FAMILIES = ("ecp5",)
"""Families that there is a clock generator (fsq_clock_FAMILY) and a flow for."""

_LIGHT = re.compile(r"receiving|failed|blink|class\[\d+\]")


@dataclass(frozen=True)
class Board:
    """One board. Ports are named as in its constraints file; `reset_port` may be empty; `high_ports` are driven high for good.

    `size`, `package`, `speed`: the part as nextpnr names it. `lights`: what the LEDs show, the top bit first. `program`: the command that loads a
    bitstream, without the file's name.
    """

    name: str
    title: str
    device: str
    family: str
    size: str
    package: str
    speed: int
    oscillator_mhz: float
    clock_mhz: float
    baud: int
    clock_port: str
    reset_port: str
    reset_active_high: bool
    rx_port: str
    tx_port: str
    high_ports: tuple[str, ...]
    led_port: str
    led_active_low: bool
    lights: tuple[str, ...]
    program: str

    @property
    def leds(self) -> int:
        """Width of the LED port."""
        return len(self.lights)

    def constraints(self) -> bytes:
        """The board's constraints file as it is."""
        return static_file(f"board/{self.name}.lpf")


@cache
def load_boards() -> tuple[Board, ...]:
    """Every known board, in the file's order. Raises InputError when the packaged file is damaged."""
    return read_boards(static_file("board/boards.toml").decode())


def read_boards(text: str) -> tuple[Board, ...]:
    """The boards of a boards.toml. Raises InputError that names the entry and the field."""
    try:
        entries = tomllib.loads(text)["board"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f"boards.toml: [[board]] entries were expected ({error})") from error
    return tuple(_board(entry) for entry in entries)


def _board(entry: dict[str, object]) -> Board:
    where = f"boards.toml, board {entry.get('name', '?')}"
    known = {f.name for f in fields(Board)}
    odd = sorted(known ^ set(entry))
    if odd:
        raise InputError(f"{where}: {odd[0]} is {'missing' if odd[0] in known else 'not known'}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    board = Board(**values)  # type: ignore[arg-type]
    if board.family not in FAMILIES:
        raise InputError(f"{where}: family {board.family!r}, one of {', '.join(FAMILIES)} was expected")
    wrong = [light for light in board.lights if not _LIGHT.fullmatch(light)]
    if wrong or not board.lights:
        raise InputError(f"{where}: lights are receiving, failed, blink or class[N], got {wrong[0] if wrong else 'none'}")
    return board


def find_board(name: str) -> Board:
    """The board of that name; case and underscores do not matter. Raises InputError with close matches.

    >>> find_board("ULX3S").size, find_board("colorlight_i5").size
    ('85k', '25k')
    """
    key = name.strip().lower().replace("_", "-")
    names = [board.name for board in load_boards()]
    if key not in names:
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
        raise InputError(f"--board {name}: not known; {hint}")
    return load_boards()[names.index(key)]
