"""Writes a build plan (relative path -> content) to the output folder: nothing half written, nothing outside the folder, unchanged files untouched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from fpga_squeeze import __version__
from fpga_squeeze.errors import InputError

MANIFEST = "manifest.json"
TOOL = "fpga-squeeze"
# Made after the export by verify, evaluate and the builds: they describe the old design, so a new export drops them.
_DERIVED = ("build", "board", "report/verification.json", "report/accuracy.json", "report/synthesis.json")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal.

    >>> digest(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()


def manifest_bytes(files: Mapping[str, bytes], options: Mapping[str, object]) -> bytes:
    """manifest.json: tool, version, options and the digest of every file, in sorted order."""
    body = {
        "tool": TOOL,
        "version": __version__,
        "options": dict(sorted(options.items())),
        "files": {name: digest(files[name]) for name in sorted(files)},
    }
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


EXPORT = "export"
"""The kind of folder that has no other kind among the options of its manifest."""


def read_manifest(out: Path, kind: str = EXPORT) -> dict[str, object] | None:
    """The manifest of an earlier folder of that kind in `out`, or None when there is none that this tool wrote."""
    try:
        body = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not (isinstance(body, dict) and body.get("tool") == TOOL and isinstance(body.get("files"), dict)):
        return None
    options = body.get("options")
    return body if (options.get("kind", EXPORT) if isinstance(options, dict) else EXPORT) == kind else None


def check_writable(out: Path, force: bool, kind: str = EXPORT) -> None:
    """Refuse, before any long work, an output folder that cannot or must not be written.

    Raises:
        InputError: `out` is a file, is not empty and no earlier folder of that `kind` (without `force`), or cannot be written.
    """
    if out.is_symlink() or out.exists():
        if not out.is_dir():
            raise InputError(f"output folder {out}: a folder was expected, a file is there; choose another -o")
        if any(out.iterdir()) and read_manifest(out, kind) is None and not force:
            raise InputError(f"output folder {out}: not empty and not an earlier {kind}; choose another -o, or --force to write into it")
    parent = _existing_parent(out.absolute())
    probes = [parent, out] if out.is_dir() else [parent]
    for folder in probes:
        if not folder.stat().st_mode & 0o222:  # the mode speaks even where root could write all the same
            raise InputError(f"output folder {out}: {folder} is read-only; choose another -o")
        try:
            with tempfile.TemporaryDirectory(prefix=".fpga-squeeze-", dir=folder):
                pass
        except OSError as error:
            raise InputError(f"output folder {out}: cannot write in {folder} ({error.strerror}); choose another -o") from error


def write_project(out: Path, files: Mapping[str, bytes], options: Mapping[str, object], force: bool = False) -> None:
    """Write every file and the manifest: into a temporary folder beside `out` first, then by one rename.

    Files of `out` that no export wrote are kept; files of an earlier export that are not part of this one go. A file whose bytes did not
    change keeps its time stamp, so that a build over the folder rebuilds only what changed.

    Args:
        files: path relative to `out` with forward slashes -> content. `options`: with a "kind" where the folder is no export.
    Raises:
        InputError: as check_writable, or a path that would leave the folder.
    """
    for name in files:
        _check_relative(name)
    kind = str(options.get("kind", EXPORT))
    check_writable(out, force, kind)
    out = out.absolute()
    if out.is_symlink():
        out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    everything = dict(files)
    everything[MANIFEST] = manifest_bytes(files, options)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    try:
        staging.chmod(0o755)
        for name in sorted(everything):
            _stage(staging / name, everything[name], out / name)
        if out.is_dir():
            _swap(staging, out, everything, kind)
        else:
            staging.rename(out)
    except OSError as error:
        raise InputError(f"output folder {out}: {error.strerror or error}; nothing was changed there") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_report(out: Path, name: str, body: object) -> None:
    """Write one JSON report into an existing export, whole or not at all."""
    write_file(out, name, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())


def write_file(out: Path, name: str, content: bytes) -> None:
    """Write one file into an existing folder of an export, whole or not at all."""
    _check_relative(name)
    path = out / name
    handle, temporary = tempfile.mkstemp(prefix=".report-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _check_relative(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise InputError(f"generated file {name!r}: a path inside the output folder was expected")


def _existing_parent(path: Path) -> Path:
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    return parent


def _stage(path: Path, content: bytes, current: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if current.is_file() and not current.is_symlink() and current.stat().st_size == len(content) and current.read_bytes() == content:
        shutil.copystat(current, path)


def _swap(staging: Path, out: Path, everything: Mapping[str, bytes], kind: str) -> None:
    """Put `staging` in the place of `out`, carrying over the files that no earlier folder of its kind had."""
    old = read_manifest(out, kind) or {}
    old_files = old.get("files")
    written = set(old_files) | {MANIFEST} if isinstance(old_files, dict) else set()
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        derived = any(name == d or name.startswith(d + "/") for d in _DERIVED)
        if (path.is_dir() and not path.is_symlink()) or name in everything or name in written or (derived and written):
            continue
        kept = staging / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept, follow_symlinks=False)
    backup = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    backup.rmdir()
    out.rename(backup)
    try:
        staging.rename(out)
    except OSError:
        backup.rename(out)
        raise
    shutil.rmtree(backup, ignore_errors=True)
