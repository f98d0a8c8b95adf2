"""The output folder: whole or untouched, inside the folder only, unchanged files keep their time stamps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fpga_squeeze.emit import writer
from fpga_squeeze.errors import InputError

FILES = {"hls/top.cpp": b"int main() {}\n", "report/a.json": b"{}\n"}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_writes_in_different_folders_are_identical(tmp_path: Path) -> None:
    writer.write_project(tmp_path / "a", FILES, {"bits": 8})
    writer.write_project(tmp_path / "deep" / "b", dict(reversed(FILES.items())), {"bits": 8})
    assert tree(tmp_path / "a") == tree(tmp_path / "deep" / "b")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["files"]["hls/top.cpp"] == writer.digest(FILES["hls/top.cpp"])
    assert {p.name for p in tmp_path.iterdir()} == {"a", "deep"}, "no temporary folder may stay"


def test_second_export_replaces_its_own_files_and_keeps_foreign_ones(tmp_path: Path) -> None:
    out = tmp_path / "out"
    writer.write_project(out, FILES, {})
    (out / "notes.txt").write_text("mine")
    (out / "build").mkdir()
    (out / "build" / "old.o").write_text("stale")
    os.utime(out / "hls/top.cpp", (1000, 1000))
    writer.write_project(out, {"hls/top.cpp": FILES["hls/top.cpp"], "hls/new.h": b"1"}, {})
    assert set(tree(out)) == {"hls/top.cpp", "hls/new.h", "manifest.json", "notes.txt"}
    assert (out / "hls/top.cpp").stat().st_mtime == 1000


def test_refuses_foreign_folder_without_force(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not an earlier export"):
        writer.write_project(tmp_path, FILES, {})
    assert set(tree(tmp_path)) == {"precious.txt"}
    writer.write_project(tmp_path, FILES, {}, force=True)
    assert set(tree(tmp_path)) == {"precious.txt", "manifest.json", *FILES}


def test_refuses_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="a file is there"):
        writer.check_writable(tmp_path / "f", force=True)


def test_refuses_a_read_only_folder(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        for out in (locked, locked / "new"):
            with pytest.raises(InputError, match="is read-only"):
                writer.write_project(out, FILES, {}, force=True)
        assert list(locked.iterdir()) == []
    finally:
        locked.chmod(0o755)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_paths_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="inside the output folder"):
        writer.write_project(tmp_path / "o", {name: b""}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_export_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    writer.write_project(out, FILES, {})
    before = tree(out)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_stage", broken)
    with pytest.raises(InputError, match="No space left"):
        writer.write_project(out, {"hls/top.cpp": b"new"}, {})
    assert tree(out) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_write_report_is_whole(tmp_path: Path) -> None:
    writer.write_project(tmp_path / "o", FILES, {})
    writer.write_report(tmp_path / "o", "report/verification.json", {"ok": True})
    assert json.loads((tmp_path / "o/report/verification.json").read_text()) == {"ok": True}
    assert not [p for p in (tmp_path / "o/report").iterdir() if p.name.startswith(".")]
