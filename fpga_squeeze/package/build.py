"""Packages out of networks: whole ones, and deltas against a deployed one."""

from __future__ import annotations

from collections.abc import Callable

from fpga_squeeze.errors import InputError
from fpga_squeeze.package.coder import encode_layer
from fpga_squeeze.package.container import CHANGE, DELTA, FRESH, FULL, Package, Record
from fpga_squeeze.package.layout import image_crc, image_of
from fpga_squeeze.package.network import Geometry, Network, Values

Tick = Callable[[int, int], None]
_REMEDY = "; pack the new model for the deployed machine: fpga-squeeze pack OUT --model"


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


def full_package(network: Network, tick: Tick = _silent) -> Package:
    """Every layer, coded on its own. `tick`: called with (layers done, layers)."""
    records = []
    for i, (g, v, offset) in enumerate(zip(network.geometry, network.values, network.offsets, strict=True)):
        tick(i, len(network.geometry))
        records.append(Record(i, FRESH, g, offset, encode_layer(g, v)))
    return _package(FULL, network, tuple(records))


def delta_package(old: Network, new: Network, tick: Tick = _silent) -> Package:
    """The layers of `new` that differ from `old`, each as its change or on its own, whichever is smaller.

    Raises:
        InputError: the two are not for the same machine; names the first layer that differs.
    """
    check_same_machine(old, new)
    records = []
    for i, (g, before, after) in enumerate(zip(new.geometry, old.values, new.values, strict=True)):
        tick(i, len(new.geometry))
        if after.equals(before):
            continue
        coding, stream = smaller_coding(g, before, after)
        records.append(Record(i, coding, g, new.offsets[i], stream))
    return _package(DELTA, new, tuple(records), old)


def smaller_coding(geometry: Geometry, before: Values, after: Values) -> tuple[int, bytes]:
    """(FRESH or CHANGE, stream) of a layer that changed; CHANGE where both are as long."""
    change, fresh = encode_layer(geometry, after, before), encode_layer(geometry, after)
    return (FRESH, fresh) if len(fresh) < len(change) else (CHANGE, change)


def check_same_machine(old: Network, new: Network) -> None:
    """Raise InputError unless the integers of both fill the same memories, and a machine that takes one's load image takes the other's."""
    names = [[g.name for g in n.geometry] for n in (old, new)]
    if names[0] != names[1]:
        odd = next((b for a, b in zip(*names, strict=False) if a != b), None) or (set(names[0]) ^ set(names[1])).pop()
        raise InputError(f"layer {odd}: the two packages have other layers from here; packages of one machine were expected")
    for a, b in zip(old.geometry, new.geometry, strict=True):
        if a != b:
            key = next(k for k in vars(a) if vars(a)[k] != vars(b)[k])
            were = f"{key} is {vars(a)[key]} in the old package and {vars(b)[key]} in the new"
            raise InputError(f"layer {a.name}: {were}; packages of one machine were expected{_REMEDY}")
    if old.shape_digest != new.shape_digest:
        digests = f"{old.shape_digest.hex()} and {new.shape_digest.hex()}"
        raise InputError(f"the packages are for machines of other shapes ({digests}){_REMEDY}")


def _package(kind: int, network: Network, records: tuple[Record, ...], base: Network | None = None) -> Package:
    image = image_of(network)
    crcs = image_crc(image), image_crc(image_of(base)) if base is not None else 0
    base_digest = base.content_digest() if base is not None else bytes(32)
    return Package(
        kind, len(network.geometry), network.has_port, network.shape_digest, len(image), *crcs, network.layout_digest(), network.content_digest(), base_digest,
        records,
    )  # fmt: skip
