"""Golden tensors for the testbenches, as files of tb_data/.

A file is little-endian: the 8 characters "FSQTENS1", then six 32-bit words (bytes a value: 1, 2, 4 or 8; 1 if signed, else 0; frames; channels;
height; width), then the values, frame by frame, each in the order channel, row, column.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.hls_context import file_stem
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph

MAGIC = b"FSQTENS1"
HEADER_BYTES = 32


def value_bytes(fmt: TensorFormat) -> int:
    """Bytes a value of `fmt` takes in a golden file.

    >>> value_bytes(TensorFormat(8, 0, signed=False)), value_bytes(TensorFormat(12, 3, signed=True)), value_bytes(TensorFormat(40, 0, signed=True))
    (1, 2, 8)
    """
    return next(size for size in (1, 2, 4, 8) if fmt.bits <= 8 * size)


def golden_file(values: NDArray[np.integer], fmt: TensorFormat) -> bytes:
    """One tensor, (N, C, H, W), as the bytes of a golden file. Raises InputError when a value lies outside `fmt`."""
    if values.size and (int(values.min()) < fmt.qmin or int(values.max()) > fmt.qmax):
        raise InputError(f"golden values {int(values.min())} to {int(values.max())} lie outside {fmt}")
    size = value_bytes(fmt)
    header = MAGIC + struct.pack("<6I", size, int(fmt.signed), *values.shape)
    return header + np.ascontiguousarray(values, dtype=f"<{'i' if fmt.signed else 'u'}{size}").tobytes()


def read_golden_file(data: bytes) -> NDArray[np.int64]:
    """The tensor in a golden file, int64 (N, C, H, W). Raises InputError when the file is damaged."""
    if data[:8] != MAGIC or len(data) < HEADER_BYTES:
        raise InputError("no golden tensor: the file does not begin with FSQTENS1; export again")
    size, signed, *shape = struct.unpack("<6I", data[8:HEADER_BYTES])
    expected = HEADER_BYTES + size * int(np.prod(shape, dtype=np.int64))
    if size not in (1, 2, 4, 8) or len(data) != expected:
        raise InputError(f"golden tensor of {len(data)} bytes: {expected} were expected; export again")
    return np.frombuffer(data, dtype=f"<{'i' if signed else 'u'}{size}", offset=HEADER_BYTES).astype(np.int64).reshape(shape)


def golden_files(
    qgraph: QuantGraph, plan: FoldPlan, frames: NDArray[np.uint8], traces: Mapping[str, NDArray[np.integer]]
) -> dict[str, bytes]:
    """Files of tb_data/ for every tensor that a stage takes or makes, by path relative to OUT.

    Args:
        frames: uint8 (N, C, H, W). `traces`: the simulator's tensors by node name, (N, C, H, W) each; the class sums may be (N, classes).
    Raises:
        InputError: a tensor is missing or has another shape than the network's.
    """
    files: dict[str, bytes] = {}
    for link in (*plan.links, *plan.bypasses):
        values: NDArray[np.integer] = frames if link.tensor == qgraph.input.name else traces[link.tensor]
        shape = (frames.shape[0], *qgraph[link.tensor].shape)
        if values.size != int(np.prod(shape)):
            raise InputError(f"layer {link.tensor}: golden values of shape {shape} were expected, got {values.shape}")
        files[f"tb_data/{file_stem(link.tensor)}.bin"] = golden_file(values.reshape(shape), qgraph[link.tensor].fmt)
    return dict(sorted(files.items()))


def read_frames(out: Path, qgraph: QuantGraph) -> NDArray[np.uint8]:
    """The golden input frames of an export, uint8 (N, C, H, W). Raises InputError when they are missing or damaged."""
    path = out / "tb_data" / f"{file_stem(qgraph.input.name)}.bin"
    try:
        values = read_golden_file(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); export again") from error
    if values.ndim != 4 or values.shape[1:] != qgraph.input.shape or not len(values):
        raise InputError(f"{path}: frames of shape {qgraph.input.shape} were expected, got {values.shape}; export again")
    return values.astype(np.uint8)
