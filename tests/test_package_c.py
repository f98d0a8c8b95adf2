"""The device's decoder in C under the address and undefined-behaviour sanitizers: the same answer as Python to every package, good, damaged or made up."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpga_squeeze.package import contexts
from fpga_squeeze.package.build import delta_package, full_package
from fpga_squeeze.package.container import HEADER_BYTES, Package
from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.layout import image_of
from fpga_squeeze.package.network import IMAGE_HEAD_BYTES, Network
from fpga_squeeze.package.restore import restore_image
from tests.package_cases import DECODER, SHAPE, Answer, Case, compile_decoder, random_network, run_decoder, sealed, with_values

COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs gcc or clang")


@pytest.fixture(scope="module", params=COMPILERS or ["gcc"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_decoder(tmp_path_factory.mktemp("decoder"), request.param)


def expected(case: Case) -> tuple[int, bytes]:
    """Python's answer: (code, image)."""
    try:
        return 0, restore_image(case.package, case.base or None, case.shape, case.capacity)
    except PackageError as error:
        return int(error.code), b""


def check(decoder: Path, cases: list[Case]) -> list[Answer]:
    """Run the cases and hold every answer to Python's."""
    answers = run_decoder(decoder, cases)
    for case, answer in zip(cases, answers, strict=True):
        code, image = expected(case)
        assert answer.code == code, (Code(code) if code else "accepted", answer.code, case.package[:200].hex())
        if code == 0:
            assert answer.image == image and answer.image_bytes == len(image)
        elif code <= Code.BASE:
            assert answer.image == case.base, "nothing is written before everything was checked"
        else:
            assert answer.image[:IMAGE_HEAD_BYTES] == bytes(min(IMAGE_HEAD_BYTES, len(case.base))), "no loader may take what is left"
    return answers


def deployed(seed: int) -> tuple[bytes, bytes, bytes]:
    """(a whole package, a delta against it, the image it unpacks to) of small random networks."""
    old = random_network(seed)
    new = with_values(old, seed, (seed % 3, (seed + 1) % 3))
    return full_package(old).to_bytes(), delta_package(old, new).to_bytes(), image_of(old)


def in_bitstream(seed: int) -> bytes:
    """A package of a machine without a load port."""
    network = random_network(seed)
    geometry = tuple(replace(g, loaded=False) for g in network.geometry)
    return full_package(Network(geometry, network.values, bytes(8))).to_bytes()


def test_it_is_small_plain_c_without_a_heap(tmp_path: Path) -> None:
    text = (DECODER / "fsq_unpack.c").read_text()
    assert text.count("\n") < 300
    assert not re.search(r"\b(malloc|calloc|realloc|free|alloca|printf|fopen|exit)\s*\(", text)
    assert re.findall(r"#include (\S+)", text + (DECODER / "fsq_unpack.h").read_text()) == ['"fsq_unpack.h"', "<string.h>", "<stdint.h>"]
    for compiler in COMPILERS:
        compile_decoder(tmp_path, compiler, ("-std=c99", "-O3", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wvla", "-Werror"))


def test_it_has_pythons_models() -> None:
    text = (DECODER / "fsq_unpack.c").read_text()
    for name in ("WEIGHT", "BIAS", "SHIFT"):
        kind = vars(contexts)[name]
        assert f"{name} = {{{kind.head}, {kind.sign}, {kind.tree}, {kind.depth}, {kind.longest}}}" in text
    for name in ("P_BITS", "LEARN_LIMIT"):
        assert f"{name} = {vars(contexts)[name]}," in text
    assert f"#define FSQ_MODELS {contexts.MODELS}\n" in (DECODER / "fsq_unpack.h").read_text()


def test_whole_packages_and_deltas(decoder: Path) -> None:
    cases = []
    for seed in range(120):
        full, delta, image = deployed(seed)
        cases += [Case(full), Case(full, shape=SHAPE), Case(full, base=bytes(100)), Case(delta, base=image), Case(delta, base=image, shape=SHAPE)]
    assert [a.code for a in check(decoder, cases)] == [0] * len(cases)


def test_refusals(decoder: Path) -> None:
    full, delta, image = deployed(3)
    other = bytes(8)
    cases = {
        Code.SHAPE: Case(full, shape=other), Code.BASE: Case(delta, base=image[:-1] + bytes([image[-1] ^ 1])), Code.MAGIC: Case(b"PK\3\4" * 60),
        Code.SIZE: Case(full[:-1]), Code.CRC: Case(full[:-5] + bytes([full[-5] ^ 1]) + full[-4:]), Code.VERSION: Case(full[:4] + b"\2" + full[5:]),
        Code.RESULT: Case(sealed(full[:28] + b"????" + full[32:])), Code.HEADER: Case(sealed(full[:5] + b"\2" + full[6:])),
        Code.PORT: Case(in_bitstream(3)), Code.RECORD: Case(sealed(full[:HEADER_BYTES] + b"\2" + full[HEADER_BYTES + 1 :])),
    }  # fmt: skip
    assert [a.code for a in check(decoder, list(cases.values()))] == list(cases)
    small = run_decoder(decoder, [Case(full, capacity=len(image) - 1), Case(full, capacity=len(image))])
    assert [a.code for a in small] == [Code.SPACE, 0] and small[1].image == image


def test_cut_anywhere(decoder: Path) -> None:
    full, delta, image = deployed(5)
    check(decoder, [Case(full[:end]) for end in range(len(full))] + [Case(delta[:end], base=image) for end in range(0, len(delta), 3)])


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """One to four changes: a bit, a byte, a field of ones or zeros, a piece left out, doubled or moved."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        # Half of the changes fall on header and first record, where the structure is.
        at = int(rng.integers(0, min(len(data), HEADER_BYTES + 60) if rng.random() < 0.5 else len(data)))
        kind, length = int(rng.integers(7)), int(rng.integers(1, 9))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.integers(256))
        elif kind in (2, 3):
            data[at : at + length] = (b"\xff" if kind == 2 else b"\0") * len(data[at : at + length])
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length]
        else:
            data[at] = (data[at] + int(rng.choice([1, 255]))) & 255
        if not data:
            break
    return bytes(data)


def test_thousands_of_mutations(decoder: Path) -> None:
    """Half of them with a right CRC and a right length, so that what stands behind these checks is reached; every reason must have been met."""
    seed = 20
    rng = np.random.default_rng(seed)
    cases = []
    for network in range(24):
        full, delta, image = deployed(network)
        for content, base in ((full, b""), (delta, image), (in_bitstream(network), b"")):
            for i in range(120):
                changed = mutated(rng, content)
                if i % 3 and len(changed) > HEADER_BYTES + 4:
                    length = len(changed) - HEADER_BYTES - 4
                    changed = sealed(changed[:12] + length.to_bytes(4, "little") + changed[16:])
                cases.append(Case(changed, base=base, shape=SHAPE if i % 5 == 0 else None))
    answers = check(decoder, cases)
    met = {a.code for a in answers}
    assert met >= {0, *Code} - {Code.VALUE}, f"seed {seed}: {sorted(set(Code) - met)} never met"
    assert len(cases) > 8000


def test_streams_of_noise(decoder: Path) -> None:
    """Records that are right, with any bytes for a stream: the decoder ends, within its buffers, and says the same."""
    rng = np.random.default_rng(21)
    cases = []
    for seed in range(150):
        network = random_network(seed)
        package = full_package(network)
        for fill in (lambda n: rng.bytes(n), lambda n: bytes(n), lambda n: b"\xff" * n, lambda n: b"\xff\xff\xff\xfe" + b"\xff" * (n - 4)):
            records = list(package.records)
            at = int(rng.integers(len(records)))
            stream = fill(len(records[at].stream) + int(rng.integers(-4, 9)))
            records[at] = type(records[at])(**{**vars(records[at]), "stream": stream})
            cases.append(Case(Package(**{**vars(package), "records": tuple(records)}).to_bytes()))
    met = {a.code for a in check(decoder, cases)}
    assert met >= {Code.STREAM, Code.VALUE}


def test_a_decoder_with_a_fault_is_found(tmp_path: Path) -> None:
    """The comparison can fail: a decoder that learns a little slower, and one that writes one byte too many."""
    full, _, image = deployed(1)
    text = (DECODER / "fsq_unpack.c").read_text()
    for old, new in (("p -= p / (n + 2);", "p -= p / (n + 3);"), ("(size_t)y->image_bytes)", "(size_t)y->image_bytes + 100)")):
        assert text.count(old) == 1
        folder = tmp_path / str(len(new))
        folder.mkdir()
        (folder / "fsq_unpack.c").write_text(text.replace(old, new))
        shutil.copy(DECODER / "fsq_unpack.h", folder)
        broken = compile_decoder(folder, COMPILERS[0], sources=folder)
        with pytest.raises(AssertionError):
            check(broken, [Case(full, capacity=len(image))])
