"""Model files of untrusted origin: what is looked at before any reader sees one. Every reader takes its limits from here."""

from __future__ import annotations

import zipfile
from pathlib import Path

from fpga_squeeze.errors import InputError

MAX_FILE_BYTES = 512_000_000
"""Largest model, as stored, unpacked, and with external data. The largest SqueezeNet is 5 MB; ten times its optimizer state fits with room to spare."""
MAX_ENTRIES = 20_000
ZIP_MAGIC = b"PK\x03\x04"


def check_file(path: Path) -> None:
    """Raises InputError unless `path` is a readable regular file within the limits (of what it unpacks to, when it is a zip archive)."""
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file; expected a model (.pt, .pth, .pt2, .onnx)")
        if not path.is_file():
            raise InputError(f"{path}: not a regular file; expected a model (.pt, .pth, .pt2, .onnx)")
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty; expected a PyTorch or ONNX model")
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size} bytes; models of at most {MAX_FILE_BYTES} bytes are read")
    if first_bytes(path) == ZIP_MAGIC:
        open_zip(path).close()


def first_bytes(path: Path) -> bytes:
    """The first four bytes. Raises InputError when the file cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """The archive, open. Raises InputError when its table of contents is damaged or promises more than the limits."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile answers a malformed table of contents with nearly any exception type
        raise InputError(f"{path}: damaged or cut short (it begins like a PyTorch file but has no valid table of contents); copy it again") from error
    items = archive.infolist()
    unpacked = sum(item.file_size for item in items)
    if unpacked > MAX_FILE_BYTES or len(items) > MAX_ENTRIES:
        archive.close()
        limits = f"{MAX_FILE_BYTES} bytes and {MAX_ENTRIES} entries"
        raise InputError(f"{path}: unpacks to {unpacked} bytes in {len(items)} entries; models of at most {limits} are read")
    return archive
