"""Load images: from the integers of a package, and the integers out of an image. The rows are packed by emit/weights.py, as for every export."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.load_image import MAGIC
from fpga_squeeze.emit.weights import pack_bias_rows, pack_rows, pack_shift_rows, row_bytes
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.package.network import IMAGE_CRC_BYTES, IMAGE_HEAD_BYTES, Geometry, Network, Values

Bytes = NDArray[np.uint8]


def memories(geometry: Geometry, values: Values) -> bytes:
    """The layer's weight, bias and shift memories, as they follow each other in a load image."""
    engine, op = geometry.engine(), values.convolution(geometry)
    widths = (geometry.p_oc * geometry.p_ic * geometry.p_k * geometry.weight_bits, geometry.p_oc * geometry.bias_bits, geometry.p_oc * geometry.shift_bits)
    rows = (pack_rows(engine, op), pack_bias_rows(engine, op), pack_shift_rows(engine, op))
    # A memory of no bits (all shifts are the same) has no bytes in the image.
    return b"".join(row_bytes(r, bits).tobytes() for r, bits in zip(rows, widths, strict=True) if bits)


def values_of(geometry: Geometry, content: bytes) -> Values:
    """The inverse of `memories`; `content` has geometry.image_bytes bytes. Bits that no value uses are not looked at."""
    g = geometry
    weight_bytes, bias_bytes, _ = g.memory_bytes
    raw = np.frombuffer(content, dtype=np.uint8)
    lanes = _fields(raw[:weight_bytes], g.p_oc * g.p_ic * g.p_k, g.weight_bits)
    oc_folds, ic_folds, k = -(-g.oc // g.p_oc), -(-g.ic // g.p_ic), g.kernel
    taps = lanes.reshape(oc_folds, k * k // g.p_k, ic_folds, g.p_oc, g.p_k, g.p_ic).transpose(0, 3, 2, 5, 1, 4)
    padded = taps.reshape(oc_folds * g.p_oc, ic_folds * g.p_ic, k, k)
    if g.p_k == k and k > 1:  # a fold is a kernel column
        padded = padded.transpose(0, 1, 3, 2)
    weight = np.ascontiguousarray(_signed(padded[: g.oc, : g.ic], g.weight_bits))
    bias = _fields(raw[weight_bytes : weight_bytes + bias_bytes], g.p_oc, g.bias_bits).reshape(-1)[: g.oc]
    shift = _fields(raw[weight_bytes + bias_bytes :], g.p_oc, g.shift_bits).reshape(-1)[: g.oc] if g.shift_bits else np.zeros(g.oc, dtype=np.int64)
    return Values(weight, _signed(bias, g.bias_bits), shift + g.shift_min)


def _fields(content: Bytes, lanes: int, bits: int) -> Int64:
    """Rows of `lanes` fields of `bits` bits, each row whole bytes: uint8 (bytes,) -> int64 (rows, lanes), unsigned."""
    rows = content.reshape(-1, -(-lanes * bits // 8))
    field = np.unpackbits(rows, axis=1, bitorder="little")[:, : lanes * bits].reshape(len(rows), lanes, bits)
    found = np.zeros(field.shape[:2], dtype=np.int64)
    for i in range(bits):
        found |= field[:, :, i].astype(np.int64) << i
    return found


def _signed(values: Int64, bits: int) -> Int64:
    half = np.int64(1) << (bits - 1)
    return np.asarray((values ^ half) - half, dtype=np.int64)


def image_of(network: Network) -> bytes:
    """The load image; empty without a load port."""
    layers = ((at, memories(g, v)) for at, g, v in zip(network.offsets, network.geometry, network.values, strict=True) if g.loaded)
    return assemble(network.shape_digest, network.image_bytes, layers) if network.has_port else b""


def memories_over(geometry: Geometry, values: Values, before: bytes) -> bytes:
    """`memories` written field by field over what was there: bits that no value uses stay as they are."""
    shape = (geometry.oc, geometry.ic, geometry.kernel, geometry.kernel)
    top = geometry.shift_min + (1 << geometry.shift_bits) - 1
    ones = Values(np.full(shape, -1, dtype=np.int64), np.full(geometry.oc, -1, dtype=np.int64), np.full(geometry.oc, top, dtype=np.int64))
    mask, new, old = (np.frombuffer(content, dtype=np.uint8) for content in (memories(geometry, ones), memories(geometry, values), before))
    return (old & ~mask | new).tobytes()


def assemble(shape_digest: bytes, image_bytes: int, layers: Iterable[tuple[int, bytes]], base: bytes | None = None) -> bytes:
    """A load image of `image_bytes` with layers' memories at their places, on a base's or on zeros; header and CRC are made here."""
    body = bytearray(base if base is not None else bytes(image_bytes))
    body[:IMAGE_HEAD_BYTES] = MAGIC + shape_digest + (image_bytes - IMAGE_HEAD_BYTES - IMAGE_CRC_BYTES).to_bytes(4, "little")
    for at, content in layers:
        body[at : at + len(content)] = content
    body[-IMAGE_CRC_BYTES:] = zlib.crc32(body[:-IMAGE_CRC_BYTES]).to_bytes(4, "little")
    return bytes(body)


def image_crc(image: bytes) -> int:
    """The CRC-32 that ends an image; 0 for none."""
    return int.from_bytes(image[-IMAGE_CRC_BYTES:], "little")


def is_image_of(image: bytes, shape_digest: bytes, image_bytes: int, crc: int) -> bool:
    """True for a whole image of a machine of this shape that ends in this CRC."""
    head = MAGIC + shape_digest + (image_bytes - IMAGE_HEAD_BYTES - IMAGE_CRC_BYTES).to_bytes(4, "little")
    return len(image) == image_bytes and image[:IMAGE_HEAD_BYTES] == head and image_crc(image) == crc == zlib.crc32(image[:-IMAGE_CRC_BYTES])
