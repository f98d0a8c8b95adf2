"""What a model file of `fpga-squeeze train` says beside its tensors, under the key "fpga_squeeze": plain texts, nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.prescribed import Prescribed

METADATA_KEY = "fpga_squeeze"
METADATA_VERSION = 1


@dataclass(frozen=True)
class Trained:
    """`prescribed` is None after float training; `classes` are the names in class order."""

    arch: str
    preprocess: Preprocess
    classes: tuple[str, ...]
    prescribed: Prescribed | None


def read_trained(path: Path, data: object) -> Trained | None:
    """Parse a loaded file's metadata; None when it has none. Raises InputError that names the file when it is not as `train` writes it."""
    body = data.get(METADATA_KEY) if isinstance(data, Mapping) else None
    if body is None:
        return None
    where = f"{path}: its {METADATA_KEY} entry"
    if not isinstance(body, Mapping) or body.get("version") != METADATA_VERSION:
        raise InputError(f"{where}: a dict of version {METADATA_VERSION} was expected")
    unknown = sorted(str(key) for key in body if key not in ("version", "arch", "preprocess", "classes", "prescribed"))
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0][:80]!r}")
    for key in ("arch", "preprocess", "prescribed"):
        if not isinstance(body.get(key), str) and (key != "prescribed" or key in body):
            raise InputError(f"{where}: {key} must be text, got {type(body.get(key)).__name__}")
    classes = body.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{where}: classes must be a list of names")
    prescribed = Prescribed.from_json(body["prescribed"], f"{where}: prescribed") if "prescribed" in body else None
    return Trained(body["arch"], Preprocess.from_json(body["preprocess"], f"{where}: preprocess"), tuple(classes), prescribed)
