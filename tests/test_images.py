"""Folders, labels and damaged pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.images import labelled, list_images, load_folder
from fpga_squeeze.load.preprocess import preset

GREY = preset("none", 4, 1)


def put(path: Path, value: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 5), value).save(path)
    return path


def test_listing_is_sorted_deep_and_knows_pictures_only(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/c.png", ".hidden/x.png", ".x.png"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ["a/c.png", "a/z.JPG", "b.png"]


def test_empty_missing_or_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images found; expected files ending in"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="found nothing"):
        load_folder(tmp_path / "none", GREY)
    with pytest.raises(InputError, match="found a file"):
        list_images(put(tmp_path / "a.png"))


def test_damaged_pictures_are_named_skipped_and_counted(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / f"{i}.png", 10 * i)
    (tmp_path / "1.png").write_bytes(b"broken")
    seen: list[tuple[int, int]] = []
    images = load_folder(tmp_path, GREY, progress=lambda done, total: seen.append((done, total)))
    assert [p.name for p in images.files] == ["0.png", "2.png", "3.png"]
    assert images.pixels.shape == (3, 1, 4, 4) and images.pixels.dtype == np.uint8
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 20, 30]
    assert [p.name for p, _ in images.skipped] == ["1.png"] and "not a readable image" in images.skipped[0][1]
    assert str(tmp_path) not in images.skipped[0][1].split(":")[0]
    assert seen == [(1, 4), (1, 4), (2, 4), (3, 4)]


def test_the_limit_counts_good_pictures(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"broken")
    assert [p.name for p in load_folder(tmp_path, GREY, limit=2).files] == ["1.png", "2.png"]
    with pytest.raises(InputError, match="limit is 0, expected 1 or more"):
        load_folder(tmp_path, GREY, limit=0)


def test_nothing_but_damaged_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"none of the 1 images could be read; the first, a\.png: not a readable image"):
        load_folder(tmp_path, GREY)


def test_labels_from_names(tmp_path: Path) -> None:
    for name in ("0005.jpg", "0010_brambling.jpg", "7_0123.png"):
        put(tmp_path / name)
    assert [(p.name, label) for p, label in labelled(tmp_path)] == [("0005.jpg", 5), ("0010_brambling.jpg", 10), ("7_0123.png", 7)]
    put(tmp_path / "dog.png")
    with pytest.raises(InputError, match=r"dog\.png: the name must begin with the class index"):
        labelled(tmp_path)


def test_labels_from_sub_folders(tmp_path: Path) -> None:
    for name in ("cat/2.png", "cat/1.png", "ant/9.png", "dog/deep/3.png"):
        put(tmp_path / name)
    found = [(p.relative_to(tmp_path).as_posix(), label) for p, label in labelled(tmp_path)]
    assert found == [("ant/9.png", 0), ("cat/1.png", 1), ("cat/2.png", 1), ("dog/deep/3.png", 2)]
    (tmp_path / "bee").mkdir()
    with pytest.raises(InputError, match="bee: a class sub-folder without images"):
        labelled(tmp_path)
    (tmp_path / "bee").rmdir()
    put(tmp_path / "stray.png")
    with pytest.raises(InputError, match=r"images beside class sub-folders \(stray\.png\)"):
        labelled(tmp_path)


@pytest.mark.parametrize("heading", ["", "file,class\n"])
def test_labels_from_a_table(tmp_path: Path, heading: str) -> None:
    put(tmp_path / "b.png")
    put(tmp_path / "sub" / "a.png")
    table = tmp_path / "mine.csv"
    table.write_text(f"{heading}sub/a.png, 12\n\nb.png,3\n")
    assert [(p.name, label) for p, label in labelled(tmp_path, table)] == [("b.png", 3), ("a.png", 12)]
    table.rename(tmp_path / "labels.csv")
    assert [label for _, label in labelled(tmp_path)] == [3, 12]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no rows"),
        ("a.png\n", "line 1: expected file,class-index"),
        ("a.png,1,2\n", "line 1: expected file,class-index"),
        ("a.png,dog\n", "line 1: expected file,class-index"),
        ("a.png,-1\n", "line 1: expected file,class-index"),
        ("a.png,1\nnone.png,2\n", "line 2: none.png is not in"),
        ("a.png,1\na.png,2\n", "line 2: a.png is listed twice"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, part: str) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=part):
        labelled(tmp_path, tmp_path / "t.csv")


def test_unreadable_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a table"):
        labelled(tmp_path, tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as a table"):
        labelled(tmp_path, tmp_path / "t.csv")
