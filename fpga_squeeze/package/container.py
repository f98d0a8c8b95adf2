"""The file: header, records, CRC-32, signature. Bytes are untrusted: every length is checked before it is used, in the order of the C decoder."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.network import GEOMETRY_BYTES, IMAGE_CRC_BYTES, IMAGE_HEAD_BYTES, MAX_IMAGE_BYTES, MAX_LAYERS, MAX_WEIGHTS, Geometry, good_name

MAGIC = b"FSQP"
VERSION = 1
FULL, DELTA = 0, 1
FRESH, CHANGE = 0, 1
SIGNED, PORT = 1, 2
SIGNATURE_BYTES = 64
CRC_BYTES = 4

_HEADER = struct.Struct("<4sBBBBHHI8sIII32s32s32s")
HEADER_BYTES = _HEADER.size
_BEFORE, _BEHIND = struct.Struct("<HB"), struct.Struct("<IIB")
RECORD_BYTES = _BEFORE.size + GEOMETRY_BYTES + _BEHIND.size


@dataclass(frozen=True)
class Record:
    """One layer of a package. `index`: its place in the network; `coding`: FRESH, or CHANGE against the base; `offset`: its place in the load image."""

    index: int
    coding: int
    geometry: Geometry
    offset: int
    stream: bytes

    def pack(self) -> bytes:
        """The record's bytes."""
        name = self.geometry.name.encode()
        behind = _BEHIND.pack(self.offset, len(self.stream), len(name))
        return _BEFORE.pack(self.index, self.coding) + self.geometry.pack() + behind + name + self.stream


@dataclass(frozen=True)
class Package:
    """A package apart from its signature. CRCs are those that end load images, 0 without a load port; base fields are 0 in a full package."""

    kind: int
    layers: int
    has_port: bool
    shape_digest: bytes
    image_bytes: int
    image_crc: int
    base_crc: int
    layout_digest: bytes
    content_digest: bytes
    base_digest: bytes
    records: tuple[Record, ...]
    signature: bytes | None = None

    def unsigned_bytes(self, signed: bool) -> bytes:
        """Everything but the signature, which is what a signature is made of; `signed`: one follows."""
        body = b"".join(r.pack() for r in self.records)
        flags = SIGNED * signed | PORT * self.has_port
        content = _HEADER.pack(
            MAGIC, VERSION, self.kind, flags, 0, self.layers, len(self.records), len(body), self.shape_digest, self.image_bytes, self.image_crc,
            self.base_crc, self.layout_digest, self.content_digest, self.base_digest,
        )  # fmt: skip
        content += body
        return content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")

    def to_bytes(self) -> bytes:
        """The file."""
        return self.unsigned_bytes(self.signature is not None) + (self.signature or b"")


def parse(content: bytes) -> Package:
    """Read a package, apart from the streams.

    Raises:
        PackageError: SIZE, MAGIC, VERSION, CRC, HEADER or RECORD, the first that is wrong.
    """
    if len(content) < HEADER_BYTES + CRC_BYTES:
        raise PackageError(Code.SIZE if content[:4] == MAGIC[: len(content)] else Code.MAGIC)
    fields = _HEADER.unpack_from(content)
    magic, version, kind, flags, zero, layers, count, body_bytes, shape, image_bytes, image_crc, base_crc, layout, digest, base_digest = fields
    if magic != MAGIC:
        raise PackageError(Code.MAGIC)
    if version != VERSION:
        raise PackageError(Code.VERSION)
    end = HEADER_BYTES + body_bytes
    if len(content) != end + CRC_BYTES + SIGNATURE_BYTES * (flags & SIGNED):
        raise PackageError(Code.SIZE)
    if zlib.crc32(content[:end]) != int.from_bytes(content[end : end + CRC_BYTES], "little"):
        raise PackageError(Code.CRC)
    full, has_port = kind == FULL, bool(flags & PORT)
    possible = kind <= DELTA and flags <= (SIGNED | PORT) and not zero and 1 <= layers <= MAX_LAYERS and (count == layers if full else count <= layers)
    smallest = IMAGE_HEAD_BYTES + IMAGE_CRC_BYTES
    sizes = smallest < image_bytes <= MAX_IMAGE_BYTES if has_port else not (image_bytes or image_crc or base_crc or any(shape))
    if not possible or not sizes or (full and (base_crc or any(base_digest))):
        raise PackageError(Code.HEADER)
    records = _records(content[HEADER_BYTES:end], layers, count, full, image_bytes)
    signature = content[end + CRC_BYTES :] if flags & SIGNED else None
    return Package(kind, layers, has_port, shape, image_bytes, image_crc, base_crc, layout, digest, base_digest, records, signature)


def _records(body: bytes, layers: int, count: int, full: bool, image_bytes: int) -> tuple[Record, ...]:
    """`count` records that fill `body` exactly, in the order of layers; the loaded ones lie in the image one behind the other, without gaps when `full`."""
    at, place, last, weights, found = 0, IMAGE_HEAD_BYTES, -1, 0, []
    image_end = image_bytes - IMAGE_CRC_BYTES
    for _ in range(count):
        record, at = _record(body, at)
        g, index = record.geometry, record.index
        weights += g.weights
        wrong_place = index <= last or index >= layers or (full and record.coding != FRESH) or weights > MAX_WEIGHTS
        if g.loaded:
            wrong_place |= record.offset < place or (full and record.offset != place) or record.offset + g.image_bytes > image_end
            place = record.offset + g.image_bytes
        elif record.offset:
            wrong_place = True
        if wrong_place:
            raise PackageError(Code.RECORD)
        last = index
        found.append(record)
    if at != len(body) or (full and image_bytes and place != image_end):
        raise PackageError(Code.RECORD)
    return tuple(found)


def _record(body: bytes, at: int) -> tuple[Record, int]:
    """(the record at `at`, where the next one begins)."""
    if len(body) - at < RECORD_BYTES:
        raise PackageError(Code.RECORD)
    index, coding = _BEFORE.unpack_from(body, at)
    behind = at + _BEFORE.size + GEOMETRY_BYTES
    offset, stream_bytes, name_bytes = _BEHIND.unpack_from(body, behind)
    start = at + RECORD_BYTES + name_bytes
    end = start + stream_bytes
    name = body[at + RECORD_BYTES : start]
    geometry = Geometry.unpack(body[behind - GEOMETRY_BYTES : behind], name.decode("ascii", "replace"))
    if coding > CHANGE or end > len(body) or not good_name(name) or geometry is None:
        raise PackageError(Code.RECORD)
    return Record(index, coding, geometry, offset, body[start:end]), end
