"""Zip archives of untrusted origin, read within bounds; and what kind of model a file holds, by its content."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.features import clean

MAX_BYTES = 512_000_000
MAX_ENTRIES = 20_000
MAX_TEXT_BYTES = 16_000_000
ZIP_MAGIC = b"PK\x03\x04"
_ONNX_TAGS = frozenset(b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72")
"""First byte of a serialized ModelProto: the tag of one of its fields."""

STATE_DICT, ONNX, EXPORTED_PROGRAM, TORCHSCRIPT = "state dict", "ONNX", "torch.export", "TorchScript"


class Archive:
    """A zip archive whose entries are read by their path below the archive's one top folder (torch names it after the file)."""

    def __init__(self, path: Path) -> None:
        """Raises InputError when the table of contents is damaged or promises more than the limits."""
        self.path = path
        damaged = InputError(f"{path}: damaged or cut short (it begins like a PyTorch file but has no valid table of contents); copy it again")
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path}: {path.stat().st_size} bytes; models of at most {MAX_BYTES} bytes are read")
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError) as error:
            raise damaged from error
        items = self._zip.infolist()
        unpacked = sum(item.file_size for item in items)
        if unpacked > MAX_BYTES or len(items) > MAX_ENTRIES:
            self._zip.close()
            limits = f"{MAX_BYTES} bytes and {MAX_ENTRIES} entries"
            raise InputError(f"{path}: unpacks to {unpacked} bytes in {len(items)} entries; models of at most {limits} are read")
        tops = {item.filename.partition("/")[0] for item in items if "/" in item.filename}
        flat = any("/" not in item.filename for item in items)
        self._top = f"{next(iter(tops))}/" if len(tops) == 1 and not flat else ""
        self.names = frozenset(item.filename.removeprefix(self._top) for item in items)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """An entry's bytes. Raises InputError when it is missing, damaged or longer than `limit`."""
        try:
            item = self._zip.getinfo(self._top + name)
            if item.file_size > limit:
                raise InputError(f"{self.path}: {clean(name)} has {item.file_size} bytes; at most {limit} are read")
            return self._zip.read(item)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(f"{self.path}: the entry {clean(name)!r} is missing from the archive; it is damaged or of an unknown version") from error
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError, RuntimeError, zipfile.error) as error:
            raise InputError(f"{self.path}: the entry {clean(name)!r} is damaged ({type(error).__name__}); copy the file again") from error
        except Exception as error:  # zlib.error and the like from damaged deflate streams
            raise InputError(f"{self.path}: the entry {clean(name)!r} cannot be unpacked ({type(error).__name__}); copy the file again") from error

    def text(self, name: str, limit: int = MAX_TEXT_BYTES) -> str:
        """An entry as UTF-8 text."""
        try:
            return self.read(name, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: the entry {clean(name)!r} is no text; the file is damaged") from error


def kind_of(path: Path) -> str:
    """STATE_DICT, ONNX, EXPORTED_PROGRAM or TORCHSCRIPT, from the file's first bytes and table of contents, never from its name.

    What is none of them, or no readable file, counts as a state dict, whose reader says what is wrong with it.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError:
        return STATE_DICT
    if magic != ZIP_MAGIC:
        return ONNX if magic[:1] and magic[0] in _ONNX_TAGS else STATE_DICT
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[: MAX_ENTRIES + 1]
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError):
        return STATE_DICT
    if any(n.endswith("serialized_exported_program.json") or n.endswith("archive_format") for n in names):
        return EXPORTED_PROGRAM
    if any(n.endswith("/constants.pkl") for n in names):
        return TORCHSCRIPT
    return STATE_DICT
