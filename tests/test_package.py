"""Packages as bytes: whole ones and deltas give back every integer and the load image; whatever is not one is refused by a code."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.emit.load_image import load_image, shape_digest
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.package import container
from fpga_squeeze.package.build import check_same_machine, delta_package, full_package
from fpga_squeeze.package.container import CHANGE, FRESH, parse
from fpga_squeeze.package.errors import REASONS, Code, PackageError
from fpga_squeeze.package.layout import image_of, memories, values_of
from fpga_squeeze.package.network import IN_BITSTREAM, Geometry, Network, Values, network_of
from fpga_squeeze.package.restore import read_network, restore_image
from fpga_squeeze.quantize.qgraph import QuantGraph
from tests.load_cases import loaded
from tests.machines import tiny
from tests.package_cases import random_geometry, random_network, random_values, sealed, with_values


def code_of(content: bytes, base: bytes | None = None) -> Code:
    with pytest.raises(PackageError) as caught:
        restore_image(content, base)
    return caught.value.code


# ---------------------------------------------------------------- layout


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1))
def test_integers_come_back_out_of_their_memories(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = random_geometry(rng, "layer")
    values = random_values(rng, g)
    content = memories(g, values)
    assert len(content) == g.image_bytes and values_of(g, content).equals(values)


@pytest.mark.parametrize("rom", [(), ("conv1", "fire2.expand")])
def test_the_image_is_the_exports(rom: tuple[str, ...]) -> None:
    """Of the machine's own weights and of another model's: load_image of the emitter is the definition."""
    qgraph = tiny(seed=3)
    plan = loaded(qgraph, rom)
    network = network_of(qgraph, plan)
    assert network.shape_digest == shape_digest(qgraph, plan) and [g.loaded for g in network.geometry].count(False) == (3 if rom else 0)
    content = full_package(network).to_bytes()
    assert image_of(network) == restore_image(content) == load_image(qgraph, plan)
    assert content == full_package(network).to_bytes() == parse(content).to_bytes()
    assert all(a.equals(b) for a, b in zip(read_network(content).values, network.values, strict=True))
    if not rom:
        other = tiny(seed=4)
        delta = delta_package(network, network_of(other, plan, qgraph)).to_bytes()
        assert restore_image(delta, load_image(qgraph, plan)) == load_image(other, plan, qgraph)


def test_a_machine_without_a_load_port_keeps_its_integers() -> None:
    qgraph, other = tiny(seed=3), tiny(seed=4)
    old, new = (network_of(q, plan_machine(q, 200.0, 400_000.0)) for q in (qgraph, other))
    assert not old.has_port and old.image_bytes == 0 and all(vars(old.geometry[0])[k] == v for k, v in IN_BITSTREAM.items())
    content, delta = full_package(old).to_bytes(), delta_package(old, new).to_bytes()
    assert read_network(content).content_digest() == old.content_digest()
    assert read_network(delta, read_network(content)).content_digest() == new.content_digest() != old.content_digest()
    assert code_of(content) is code_of(delta, b"") is Code.PORT


def test_the_format_is_frozen() -> None:
    """Devices in the field read version 1: other bytes for the same integers need another version. The header is read here as the documentation has it."""
    g = Geometry("conv", 4, 3, 3, 6, 12, 3, -2, 2, 2, 9, True)
    weight = (np.arange(4 * 3 * 9) ** 2 % 61 - 30).reshape(4, 3, 3, 3)
    network = Network((g,), (Values(weight * (weight % 3 > 0), np.array([-2000, 0, 77, 1500]), np.array([-2, 5, 0, 1])),), bytes(range(8)))
    content = full_package(network).to_bytes()
    image = image_of(network)
    words = [int.from_bytes(content[at : at + 4], "little") for at in (12, 24, 28, 32)]
    assert words == [len(content) - 136, len(image), int.from_bytes(image[-4:], "little"), 0]
    assert content[:12] == b"FSQP\1\0\2\0\1\0\1\0" and content[16:24] == bytes(range(8)) and content[36:68] == network.layout_digest()
    assert content[68:100] == network.content_digest() and content[100:132] == bytes(32) and content[168] == 4 and content[169:173] == b"conv"
    assert hashlib.sha256(content).hexdigest() == "2262205d140c313e0bb5c7aa0477f4a2f3b70ec5da252d75a5d7ea95b0d14856"


# ---------------------------------------------------------------- deltas


def test_a_delta_holds_what_changed_and_how_it_is_smaller() -> None:
    old = random_network(1, 5)
    new = with_values(old, 2, (1, 3))
    delta = delta_package(old, new)
    assert [r.index for r in delta.records] == [1, 3] and delta.records[0].coding == CHANGE
    assert restore_image(delta.to_bytes(), image_of(old)) == image_of(new)
    assert read_network(delta.to_bytes(), old).content_digest() == new.content_digest()
    same = delta_package(old, old)
    assert same.records == () and len(same.to_bytes()) == container.HEADER_BYTES + 4 and restore_image(same.to_bytes(), image_of(old)) == image_of(old)


def test_a_layer_that_has_nothing_of_its_base_is_coded_on_its_own() -> None:
    geometry = Geometry("a", 32, 32, 1, 8, 20, 4, 0, 4, 4, 1, True)
    rng = np.random.default_rng(0)
    first, second = random_values(rng, geometry), random_values(rng, geometry)
    second = replace(second, weight=second.weight // 64)
    old, new = (Network((geometry,), (v,), bytes(8)) for v in (first, second))
    delta = delta_package(old, new)
    assert delta.records[0].coding == FRESH and len(delta.to_bytes()) < 0.6 * len(full_package(old).to_bytes())
    assert restore_image(delta.to_bytes(), image_of(old)) == image_of(new)


def test_a_delta_refuses_another_base() -> None:
    old, other = random_network(1), with_values(random_network(1), 5, (0,))
    delta = delta_package(old, with_values(old, 2, (1,))).to_bytes()
    image = image_of(old)
    for base in (None, b"", image_of(other), image[:-1], image + b"\0", image[:20] + bytes([image[20] ^ 1]) + image[21:], image[:5] + b"?" + image[6:]):
        assert code_of(delta, base) is Code.BASE
    for network in (None, other):
        with pytest.raises(PackageError, match="a delta against another base"):
            read_network(delta, network)


def test_deltas_of_other_machines_are_refused_by_the_layer() -> None:
    old = random_network(1)
    g = old.geometry
    cases = [
        (replace(old, shape_digest=bytes(8)), "machines of other shapes"),
        (replace(old, geometry=(replace(g[0], p_oc=1, p_ic=1, oc=g[0].oc + 1), *g[1:])), r"layer layer0: oc is \d+ in the old package and \d+ in the new"),
        (replace(old, geometry=(g[0], replace(g[1], name="other"), g[2])), "layer other: the two packages have other layers from here"),
        (replace(old, geometry=g[:2], values=old.values[:2]), "layer layer2: the two packages have other layers"),
    ]
    check_same_machine(old, old)
    for new, message in cases:
        with pytest.raises(InputError, match=message):
            delta_package(old, new)


# ---------------------------------------------------------------- what is no package


def test_each_byte_of_the_header_counts() -> None:
    """Flipped and sealed again, so that the CRC is right: a byte that the image depends on is refused; digests are for the host, which refuses them."""
    network = random_network(7)
    content = full_package(network).to_bytes()
    for at in range(container.HEADER_BYTES):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        assert code_of(bytes(damaged)) in (Code.CRC, Code.MAGIC, Code.VERSION, Code.SIZE, Code.HEADER)
        again = sealed(bytes(damaged))
        with pytest.raises(PackageError):
            read_network(again)
        if not 36 <= at < 100:
            assert code_of(again) in (Code.MAGIC, Code.VERSION, Code.SIZE, Code.HEADER, Code.RECORD, Code.RESULT), at
        else:
            assert restore_image(again) == image_of(network)


def test_every_reason_is_one_line_and_the_c_header_has_the_codes() -> None:
    header = (Path(__file__).parents[1] / "templates/ota/fsq_unpack.h").read_text()
    for code in Code:
        assert f"FSQ_{code.name} = {code.value}" in header and "\n" not in REASONS[code]
    assert len(REASONS) == len(Code)


def test_truncated_anywhere_and_longer() -> None:
    content = full_package(random_network(8)).to_bytes()
    for end in range(len(content)):
        assert code_of(content[:end]) is Code.SIZE
    assert code_of(content + b"\0") is Code.SIZE and code_of(b"PK\3\4" + content) is Code.MAGIC and code_of(b"F?") is Code.MAGIC


def edited(content: bytes, at: int, value: bytes) -> bytes:
    return sealed(content[:at] + value + content[at + len(value) :])


def test_impossible_records() -> None:
    """One field of the first record at a time, sealed."""
    network = random_network(9)
    content, at = full_package(network).to_bytes(), container.HEADER_BYTES
    word = lambda v: v.to_bytes(4, "little")  # noqa: E731
    cases = {
        "index": (0, b"\1\0"), "coding": (2, b"\2"), "a change in a full package": (2, b"\1"), "loaded": (3, b"\2"), "no channels": (4, word(0)),
        "too many": (4, word(65537)), "no inputs": (8, word(0)), "no kernel": (12, b"\0"), "kernel": (12, b"\x41"), "weight bits": (13, b"\1"),
        "more weight bits": (13, b"\x11"), "bias bits": (14, b"\0"), "more bias bits": (14, b"\x39"), "shift bits": (15, b"\x11"), "p_k": (18, b"\5\0"),
        "p_oc": (20, word(99)), "no p_oc": (20, word(0)), "p_ic": (24, word(99)), "no p_ic": (24, word(0)), "offset": (28, word(17)),
        "offset before": (28, word(15)), "stream": (32, word(1 << 31)), "no name": (36, b"\0"), "a long name": (36, b"\xff"), "name": (37, b"/"),
    }  # fmt: skip
    for name, (place, value) in cases.items():
        assert code_of(edited(content, at + place, value)) is Code.RECORD, name
    # Weights beyond the limit are refused before anything of their size is made.
    huge = edited(edited(edited(content, at + 4, word(65536)), at + 8, word(65536)), at + 12, b"\x40")
    assert code_of(huge) is Code.RECORD
    assert code_of(edited(content, 28, word(1))) is Code.RESULT


def test_layers_of_a_delta_do_not_overlap() -> None:
    old = random_network(1, 4)
    content = delta_package(old, with_values(old, 2, (1, 3))).to_bytes()
    first = parse(content).records[0]
    second = container.HEADER_BYTES + len(first.pack())
    for offset in (first.offset, first.offset + first.geometry.image_bytes - 1, old.image_bytes):
        assert code_of(edited(content, second + 28, offset.to_bytes(4, "little")), image_of(old)) is Code.RECORD
    # Where the device's order is kept but not the network's, the host finds it.
    with pytest.raises(PackageError, match="for a machine of another shape"):
        read_network(edited(content, second, b"\2\0"), old)


def test_networks_that_are_too_large_are_refused() -> None:
    qgraph = tiny(seed=3)
    plan = loaded(qgraph)
    nodes = tuple(replace(n, op=replace(n.op, bias=n.op.bias + (1 << 60))) if n.name == "conv1" else n for n in qgraph.nodes)  # type: ignore[type-var]
    with pytest.raises(InputError, match="layer conv1: larger than a package can hold"):
        network_of(QuantGraph(nodes, qgraph.output), plan)
