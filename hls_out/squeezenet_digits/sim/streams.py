"""Golden tensors as stream beats: reading tb_data, writing the testbench's text files, naming the place of a beat. Standard library only."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

MAGIC = b"FSQTENS1"
HEADER_BYTES = 32
TYPES = {(1, 0): "B", (1, 1): "b", (2, 0): "H", (2, 1): "h", (4, 0): "I", (4, 1): "i", (8, 0): "Q", (8, 1): "q"}


class DataError(Exception):
    """A golden file is missing or is not what the network needs; one line."""


def read_tensor(path: Path, shape: Sequence[int]) -> tuple[int, array]:
    """(frames, values) of a golden file whose frames have the shape (channels, height, width); values frame by frame in that order."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); golden tensors of an export were expected") from error
    if data[:8] != MAGIC or len(data) < HEADER_BYTES:
        raise DataError(f"{path}: no golden tensor, it does not begin with FSQTENS1")
    size, signed, frames, *found = struct.unpack("<6I", data[8:HEADER_BYTES])
    code = TYPES.get((size, signed))
    count = frames * found[0] * found[1] * found[2]
    if code is None or found != list(shape) or len(data) != HEADER_BYTES + size * count:
        raise DataError(f"{path}: frames of shape {list(shape)} were expected, got {found} in {len(data)} bytes")
    values = array(code)
    values.frombytes(data[HEADER_BYTES:])
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        values.byteswap()
    return frames, values


def stream_text(values: array, shape: Sequence[int], lanes: int, bits: int, frames: int) -> str:
    """The first `frames` frames as the beats of a stream, one hexadecimal line each: row by row, pixel by pixel, `lanes` channels a beat."""
    channels, height, width = shape
    pixels = height * width
    padded = -(-channels // lanes) * lanes
    lines = []
    for frame in range(frames):
        planes = values[frame * channels * pixels : (frame + 1) * channels * pixels]
        nhwc = array(values.typecode, bytes(padded * pixels * values.itemsize))
        for channel in range(channels):
            nhwc[channel::padded] = planes[channel * pixels : (channel + 1) * pixels]
        lines.append(_byte_lines(nhwc, lanes) if bits == 8 and values.itemsize == 1 else _lines(nhwc, lanes, bits))
    return "".join(lines)


def _byte_lines(values: array, lanes: int) -> str:
    """Lines of values of one byte: the bytes from the end are the beats from the last, each with its highest lane first."""
    text = values.tobytes()[::-1].hex("\n", lanes).split("\n")
    return "\n".join(reversed(text)) + "\n"


def _lines(values: array, lanes: int, bits: int) -> str:
    mask = (1 << bits) - 1
    digits = -(-lanes * bits // 4)
    lines = []
    for beat in range(0, len(values), lanes):
        word = 0
        for value in reversed(values[beat : beat + lanes]):
            word = word << bits | value & mask
        lines.append(f"{word:0{digits}x}\n")
    return "".join(lines)


def best(sums: Sequence[int], count: int) -> list[tuple[int, int]]:
    """The `count` largest sums with their classes, (class, sum), best first; of equal sums the lower class first."""
    order = sorted(range(len(sums)), key=lambda c: (-sums[c], c))
    return [(c, sums[c]) for c in order[:count]]


def beats_a_frame(shape: Sequence[int], lanes: int) -> int:
    """Beats of a frame."""
    return shape[1] * shape[2] * -(-shape[0] // lanes)


def values_in(beats: int, shape: Sequence[int], lanes: int) -> int:
    """Values in the first `beats` beats of a stream, padded lanes not counted."""
    folds = -(-shape[0] // lanes)
    pixels, rest = divmod(beats, folds)
    return pixels * shape[0] + min(rest * lanes, shape[0])


def place(beat: int, lane: int, shape: Sequence[int], lanes: int) -> dict[str, int]:
    """Frame, channel, y and x of a lane of beat `beat`, counted from the first frame's first beat."""
    folds = -(-shape[0] // lanes)
    frame, rest = divmod(beat, beats_a_frame(shape, lanes))
    pixel, fold = divmod(rest, folds)
    y, x = divmod(pixel, shape[2])
    return {"frame": frame, "channel": fold * lanes + lane, "y": y, "x": x}


def lane_values(word: str, lanes: int, bits: int, signed: bool) -> list[int | None]:
    """Values of a beat given as binary digits, lane 0 first; None where a digit is neither 0 nor 1."""
    found: list[int | None] = []
    for lane in range(lanes):
        end = len(word) - lane * bits
        text = word[end - bits : end]
        if set(text) - {"0", "1"}:
            found.append(None)
            continue
        value = int(text, 2)
        found.append(value - (1 << bits) if signed and text[0] == "1" else value)
    return found
