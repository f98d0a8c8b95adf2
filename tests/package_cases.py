"""Networks for the package tests: small ones with random geometry, and the compiled C decoder."""

from __future__ import annotations

import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpga_squeeze.package.container import HEADER_BYTES
from fpga_squeeze.package.network import Geometry, Network, Values

ROOT = Path(__file__).parents[1]
DECODER = ROOT / "templates/ota"
SHAPE = bytes(range(1, 9))
STRICT = ("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def random_geometry(rng: np.random.Generator, name: str, loaded: bool = True) -> Geometry:
    """A small layer whose folds need not divide its channels."""
    oc, ic, kernel = (int(v) for v in (rng.integers(1, 8), rng.integers(1, 8), rng.integers(1, 4)))
    p_k = int(rng.choice([1, kernel, kernel**2]))
    p_oc, p_ic = int(rng.integers(1, oc + 1)), int(rng.integers(1, ic + 1))
    weight_bits, bias_bits, shift_bits = int(rng.integers(2, 17)), int(rng.integers(1, 57)), int(rng.integers(0, 6))
    return Geometry(name, oc, ic, kernel, weight_bits, bias_bits, shift_bits, int(rng.integers(-20, 20)), p_oc, p_ic, p_k, loaded)


def random_values(rng: np.random.Generator, g: Geometry) -> Values:
    """Integers over the whole range of their widths, weights with zeros among them."""
    half, bias_half = 1 << (g.weight_bits - 1), 1 << (g.bias_bits - 1)
    shape = (g.oc, g.ic, g.kernel, g.kernel)
    weight = rng.integers(-half, half, shape) * rng.integers(0, 2, shape)
    weight.reshape(-1)[0] = -half
    return Values(weight, rng.integers(-bias_half, bias_half, g.oc), rng.integers(g.shift_min, g.shift_min + (1 << g.shift_bits), g.oc))


def random_network(seed: int, layers: int = 3) -> Network:
    """A network of random layers, all loaded."""
    rng = np.random.default_rng(seed)
    geometry = tuple(random_geometry(rng, f"layer{i}") for i in range(layers))
    return Network(geometry, tuple(random_values(rng, g) for g in geometry), SHAPE)


def with_values(network: Network, seed: int, changed: tuple[int, ...]) -> Network:
    """The same machine with other integers in some layers: a few weights moved by one in the first of them, all new in the others."""
    rng = np.random.default_rng(seed)
    values = list(network.values)
    for place, i in enumerate(changed):
        g, v = network.geometry[i], values[i]
        if place:
            values[i] = random_values(rng, g)
        else:
            half = 1 << (g.weight_bits - 1)
            values[i] = Values(np.clip(v.weight + rng.integers(-1, 2, v.weight.shape), -half, half - 1), v.bias, v.shift)
    return Network(network.geometry, tuple(values), network.shape_digest)


def sealed(content: bytes) -> bytes:
    """A changed package with its CRC made right again, where the length in its header still says where that is."""
    end = HEADER_BYTES + int.from_bytes(content[12:16], "little")
    if end + 4 > len(content):
        return content
    return content[:end] + zlib.crc32(content[:end]).to_bytes(4, "little") + content[end + 4 :]


@dataclass(frozen=True)
class Case:
    """A package for the C decoder; `base`: what the image buffer holds before."""

    package: bytes
    base: bytes = b""
    shape: bytes | None = None
    capacity: int = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What the C decoder said, the image it left, and what it gives as the image's size."""

    code: int
    image: bytes
    image_bytes: int


def compile_decoder(folder: Path, compiler: str, flags: tuple[str, ...] = (*STRICT, *SANITIZERS), sources: Path = DECODER) -> Path:
    """Build the harness; raises AssertionError with the compiler's messages."""
    program = folder / f"fsq_harness_{Path(compiler).name}"
    command = [compiler, *flags, "-I", str(sources), str(ROOT / "tests/fsq_harness.c"), str(sources / "fsq_unpack.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run_decoder(program: Path, cases: list[Case]) -> list[Answer]:
    """Every case through one process; a finding of a sanitizer ends it, which raises AssertionError."""
    sent = b"".join(
        struct.pack("<IIIB", len(c.package), len(c.base), c.capacity, c.shape is not None) + (c.shape or bytes(8)) + c.package + c.base for c in cases
    )
    done = subprocess.run([program], input=sent, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    answers, at = [], 0
    for _ in cases:
        code, image_bytes, kept = struct.unpack_from("<III", done.stdout, at)
        answers.append(Answer(code, done.stdout[at + 12 : at + 12 + kept], image_bytes))
        at += 12 + kept
    assert at == len(done.stdout)
    return answers
