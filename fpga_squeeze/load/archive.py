"""Zip archives of untrusted origin, read within bounds; and what kind of model a file holds, by its content."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.features import clean
from fpga_squeeze.load.model_file import MAX_FILE_BYTES, ZIP_MAGIC, first_bytes, open_zip

MAX_TEXT_BYTES = 16_000_000
_ONNX_TAGS = frozenset(b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72")
"""First byte of a serialized ModelProto: the tag of one of its fields."""

STATE_DICT, ONNX, EXPORTED_PROGRAM, TORCHSCRIPT = "state dict", "ONNX", "torch.export", "TorchScript"


class Archive:
    """A zip archive whose entries are read by their path below the archive's one top folder (torch names it after the file)."""

    def __init__(self, path: Path) -> None:
        """Raises InputError when the table of contents is damaged or promises more than the limits."""
        self.path = path
        self._zip = open_zip(path)
        items = self._zip.infolist()
        tops = {item.filename.partition("/")[0] for item in items if "/" in item.filename}
        flat = any("/" not in item.filename for item in items)
        self._top = f"{next(iter(tops))}/" if len(tops) == 1 and not flat else ""
        self.names = frozenset(item.filename.removeprefix(self._top) for item in items)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
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
        except Exception as error:  # zipfile and zlib answer a damaged entry with nearly any exception type
            raise InputError(f"{self.path}: the entry {clean(name)!r} is damaged ({type(error).__name__}); copy the file again") from error

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
        magic = first_bytes(path)
        if magic != ZIP_MAGIC:
            return ONNX if magic[:1] and magic[0] in _ONNX_TAGS else STATE_DICT
        with open_zip(path) as archive:
            names = archive.namelist()
    except InputError:
        return STATE_DICT
    if any(n.endswith("serialized_exported_program.json") or n.endswith("archive_format") for n in names):
        return EXPORTED_PROGRAM
    if any(n.endswith("/constants.pkl") for n in names):
        return TORCHSCRIPT
    return STATE_DICT
