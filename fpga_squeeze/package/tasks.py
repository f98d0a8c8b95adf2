"""What `pack`, `unpack` and `diff` do, apart from printing. Whatever is read is untrusted; a file is written whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from fpga_squeeze import pipeline
from fpga_squeeze.emit.load_image import shape_digest
from fpga_squeeze.emit.render import static_files
from fpga_squeeze.emit.writer import write_file
from fpga_squeeze.errors import InputError
from fpga_squeeze.new_weights import quantize_for
from fpga_squeeze.package.build import delta_package, full_package
from fpga_squeeze.package.container import CHANGE, DELTA, Package, parse
from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.layout import image_of
from fpga_squeeze.package.network import Network, network_of
from fpga_squeeze.package.restore import restore_network
from fpga_squeeze.package.sign import check_signature, sign
from fpga_squeeze.pipeline import Progress, no_progress
from fpga_squeeze.quantize.store import Arrays, npz_bytes

MAX_PACKAGE_BYTES = 64_000_000
"""Largest file that is read; the largest network a package holds takes less."""
DECODER_FOLDER = "ota"


@dataclass(frozen=True)
class LayerSize:
    """A layer in a package. `coding`: "fresh" or "change"; `coded_bytes` of its stream; `raw_bytes` of its integers at a fixed width each."""

    name: str
    coding: str
    weights: int
    raw_bytes: int
    coded_bytes: int


@dataclass(frozen=True)
class Packed:
    """A package that was written; `raw_bytes`: all integers of the network at a fixed width each, in a delta as well."""

    file: Path
    kind: str
    bytes: int
    raw_bytes: int
    image_bytes: int
    signed: bool
    content_sha256: str
    layers: tuple[LayerSize, ...]
    decoder: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Every field; files as text, layers as objects."""
        body = {**vars(self), "file": str(self.file), "layers": [vars(row) for row in self.layers]}
        return {**body, "decoder": [str(path) for path in self.decoder]}


@dataclass(frozen=True)
class Unpacked:
    """A file that was written from a package: `what` is "image" or "integers"; `signature` "good", "not checked" or "none"."""

    file: Path
    what: str
    bytes: int
    sha256: str
    kind: str
    signature: str

    def to_json(self) -> dict[str, object]:
        """Every field; the file as text."""
        return {**vars(self), "file": str(self.file)}


def pack(
    out: Path, target: Path, model: Path | None, calibration: str | None, key: Path | None, decoder: Path | None, progress: Progress = no_progress
) -> Packed:
    """The network of the export in `out`, or `model` quantized for its machine, as a package in `target`.

    Args:
        key: signs with this private key. `decoder`: a folder that gets the C decoder.
    Raises:
        InputError: no export there, a model that its machine cannot take, a bad key, or a file that cannot be written.
    """
    check_target(target)
    if decoder is not None and decoder.exists() and not decoder.is_dir():
        raise InputError(f"--with-decoder {decoder}: a folder was expected, a file is there")
    if model is None:
        if calibration is not None:
            raise InputError("--calibration: only with --model, which names the weights to quantize; the export is packed as it is")
        opened = pipeline.open_export(out)
        network = network_of(opened.qgraph, pipeline.open_plan(opened))
    else:
        other = quantize_for(out, model, calibration, progress)
        network = network_of(other.qgraph, other.plan, other.machine.qgraph)
    package = _signed(full_package(network, lambda done, total: progress("code", done, total)), key)
    written = () if decoder is None else write_decoder(decoder)
    return replace(_write(target, package, network), decoder=written)


def diff(old: Path, new: Path, target: Path, key: Path | None, progress: Progress = no_progress) -> Packed:
    """A delta package in `target` that makes the package `new` out of the deployed package `old`; both are whole packages of one machine.

    Raises:
        InputError: a package that is damaged, a delta or of another machine, a bad key, or a file that cannot be written.
    """
    check_target(target)
    networks: list[Network] = []
    for path in (old, new):
        progress("read", len(networks), 2)
        package, _ = read_package(path)
        if package.kind == DELTA:
            raise InputError(f"{path}: a delta; a whole package was expected (fpga-squeeze pack), keep the one that is deployed")
        networks.append(_restored(path, package, None))
    delta = delta_package(networks[0], networks[1], lambda done, total: progress("code", done, total))
    return _write(target, _signed(delta, key), networks[1])


@dataclass(frozen=True)
class UnpackOptions:
    """`base`: the whole package that a delta was made against. `machine`: an export that the image must be for. `public_key`: refuse a package that its
    owner did not sign. `integers`: write the integers as .npz instead of the load image."""

    base: Path | None = None
    machine: Path | None = None
    public_key: Path | None = None
    integers: bool = False


def unpack(path: Path, target: Path, options: UnpackOptions) -> Unpacked:
    """Write the load image of a package, or its integers as arrays NAME.weight, NAME.bias and NAME.shift.

    Raises:
        InputError: a package that is damaged, for another machine or without its base, a signature that is missing or wrong, or no load image to be had.
    """
    check_target(target)
    package, content = read_package(path)
    if options.public_key is not None:
        check_signature(content[: len(content) - len(package.signature or b"")], package.signature, options.public_key, str(path))
    if not options.integers and not package.has_port:
        raise PackageError(Code.PORT, str(path))
    if options.machine is not None:
        _check_machine(path, package, options.machine)
    if (package.kind == DELTA) != (options.base is not None):
        need = "a delta: --base with the package it was made against was expected" if package.kind == DELTA else "a whole package: --base is for deltas"
        raise InputError(f"{path}: {need}")
    network = _restored(path, package, options.base)
    written = _integers(network) if options.integers else image_of(network)
    write_target(target, written)
    signature = "good" if options.public_key is not None else "none" if package.signature is None else "not checked"
    digest, kind = hashlib.sha256(written).hexdigest(), "delta" if package.kind == DELTA else "full"
    return Unpacked(target, "integers" if options.integers else "image", len(written), digest, kind, signature)


def read_package(path: Path) -> tuple[Package, bytes]:
    """(the package, the file's bytes). Raises InputError, naming the file, for one that cannot be read, is too large or is no package."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}; a package written by `fpga-squeeze pack` was expected")
        with path.open("rb") as stream:
            content = stream.read(MAX_PACKAGE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_PACKAGE_BYTES:
        raise InputError(f"{path}: larger than {MAX_PACKAGE_BYTES} bytes, which no package is")
    try:
        return parse(content), content
    except PackageError as error:
        raise PackageError(error.code, str(path)) from error


def check_target(target: Path) -> None:
    """Raise InputError unless `target` can be a file in a folder that is there, before any long work."""
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise InputError(f"-o {target}: a file in an existing folder was expected")


def write_target(target: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises InputError when it cannot be written."""
    try:
        write_file(target.absolute().parent, target.name, content)
    except OSError as error:
        raise InputError(f"-o {target}: cannot be written ({error.strerror})") from error


def write_decoder(folder: Path) -> tuple[Path, ...]:
    """The C decoder's files in `folder`, which is made. Raises InputError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--with-decoder {folder}: cannot be written ({error.strerror})") from error
    found = {**static_files(DECODER_FOLDER, ".c"), **static_files(DECODER_FOLDER, ".h")}
    for name, content in found.items():
        write_target(folder / name, content)
    return tuple(folder / name for name in found)


def _restored(path: Path, package: Package, base: Path | None) -> Network:
    """The package's network; a delta's with its base, which may not be a delta itself."""
    base_network = None
    if base is not None:
        base_package, _ = read_package(base)
        if base_package.kind == DELTA:
            raise InputError(f"{base}: a delta; the whole package that {path.name} was made against was expected")
        if base_package.content_digest != package.base_digest:
            raise PackageError(Code.BASE, str(path))
        base_network = _restored(base, base_package, None)
    try:
        return restore_network(package, base_network)
    except PackageError as error:
        raise PackageError(error.code, str(path)) from error


def _check_machine(path: Path, package: Package, out: Path) -> None:
    opened = pipeline.open_export(out)
    own = shape_digest(opened.qgraph, pipeline.open_plan(opened))
    if own != package.shape_digest:
        raise InputError(f"{path}: for a machine of shape {package.shape_digest.hex()}, the one in {out} has {own.hex()}; pack it for this machine")


def _signed(package: Package, key: Path | None) -> Package:
    return package if key is None else replace(package, signature=sign(package.unsigned_bytes(signed=True), key))


def _write(target: Path, package: Package, network: Network) -> Packed:
    content = package.to_bytes()
    write_target(target, content)
    rows = []
    for r in package.records:
        raw_bytes = -(-network.values[r.index].raw_bits(r.geometry) // 8)
        rows.append(LayerSize(r.geometry.name, "change" if r.coding == CHANGE else "fresh", r.geometry.weights, raw_bytes, len(r.stream)))
    kind, signed, digest = "delta" if package.kind == DELTA else "full", package.signature is not None, package.content_digest.hex()
    return Packed(target, kind, len(content), network.raw_bytes, package.image_bytes, signed, digest, tuple(rows))


def _integers(network: Network) -> bytes:
    arrays: Arrays = {}
    for g, v in zip(network.geometry, network.values, strict=True):
        arrays |= {f"{g.name}.weight": v.weight.astype("<i4"), f"{g.name}.bias": v.bias.astype("<i8"), f"{g.name}.shift": v.shift.astype("<i8")}
    return npz_bytes(arrays)
