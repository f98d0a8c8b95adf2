"""A package back to what it was made of: the load image, as the C decoder makes it, and on the host every integer, held to the digests."""

from __future__ import annotations

from fpga_squeeze.package.coder import decode_layer
from fpga_squeeze.package.container import CHANGE, DELTA, FRESH, FULL, Package, Record, parse
from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.layout import assemble, image_crc, image_of, is_image_of, memories, memories_over, values_of
from fpga_squeeze.package.network import MAX_IMAGE_BYTES, Network


def restore_image(content: bytes, base: bytes | None = None, shape: bytes | None = None, capacity: int = MAX_IMAGE_BYTES) -> bytes:
    """What `fsq_unpack` of the C decoder does: a package, for a delta with the base's load image, becomes a load image.

    Looks at CRCs alone, as a device does. `shape`: refuse a package for another machine. `capacity`: bytes that the image may have.
    Raises:
        PackageError: with the same code as the C decoder, for every package.
    """
    package = parse(content)
    if not package.has_port:
        raise PackageError(Code.PORT)
    if shape is not None and shape != package.shape_digest:
        raise PackageError(Code.SHAPE)
    if package.image_bytes > capacity:
        raise PackageError(Code.SPACE)
    if package.kind == FULL:
        base = None
    elif base is None or not is_image_of(base, package.shape_digest, package.image_bytes, package.base_crc):
        raise PackageError(Code.BASE)
    layers = ((r.offset, _memories(r, base)) for r in package.records if r.geometry.loaded)
    image = assemble(package.shape_digest, package.image_bytes, layers, base)
    if image_crc(image) != package.image_crc:
        raise PackageError(Code.RESULT)
    return image


def _memories(record: Record, base: bytes | None) -> bytes:
    """A record's memories; `base`: the image that a change is against."""
    g = record.geometry
    if record.coding == FRESH or base is None:
        return memories(g, decode_layer(g, record.stream))
    before = base[record.offset : record.offset + g.image_bytes]
    return memories_over(g, decode_layer(g, record.stream, values_of(g, before)), before)


def restore_network(package: Package, base: Network | None = None) -> Network:
    """Every integer of a package, for a delta with its base; held to the SHA-256 digests and, with a load port, to the image's CRC.

    Raises:
        PackageError: BASE for a delta without its very base; SHAPE for one of other layers; STREAM, VALUE or RESULT for contents that are not what
            the header says.
    """
    if package.kind == DELTA:
        if base is None or base.content_digest() != package.base_digest:
            raise PackageError(Code.BASE)
        geometry, values = list(base.geometry), list(base.values)
        _check_layers(package, base)
        for r in package.records:
            values[r.index] = decode_layer(r.geometry, r.stream, base.values[r.index] if r.coding == CHANGE else None)
    else:
        geometry = [r.geometry for r in package.records]
        values = [decode_layer(r.geometry, r.stream) for r in package.records]
    network = Network(tuple(geometry), tuple(values), package.shape_digest)
    _check_result(package, network)
    return network


def _check_layers(package: Package, base: Network) -> None:
    """The layers of a delta are those of its base, at their places."""
    same = package.layout_digest == base.layout_digest() and package.shape_digest == base.shape_digest and package.layers == len(base.geometry)
    if not same or any(r.geometry != base.geometry[r.index] or r.offset != base.offsets[r.index] for r in package.records):
        raise PackageError(Code.SHAPE)


def _check_result(package: Package, network: Network) -> None:
    image = image_of(network)
    same = package.layout_digest == network.layout_digest() and package.content_digest == network.content_digest()
    if not same or (len(image), image_crc(image)) != (package.image_bytes, package.image_crc):
        raise PackageError(Code.RESULT)


def read_network(content: bytes, base: Network | None = None) -> Network:
    """`restore_network` of a file's bytes."""
    return restore_network(parse(content), base)
