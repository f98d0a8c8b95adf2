"""Folders of pictures: which files, in which order, with which labels; damaged ones are named and skipped, never silently."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.preprocess import Preprocess, UInt8

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm"})
_CLASS_PREFIX = re.compile(r"(\d{1,6})(?=[_.\-])")
Progress = Callable[[int, int], None]
"""Called with (done, total) after each picture."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """`pixels` uint8 (N, C, H, W) ready for the hardware, the `files` they came from, and the `skipped` files each with the reason."""

    pixels: UInt8
    files: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]


def list_images(folder: Path) -> tuple[Path, ...]:
    """Every picture under `folder`, sub-folders included, hidden ones not, sorted by path. Raises InputError when there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of images, found {'a file' if folder.exists() else 'nothing'}")
    found: list[Path] = []
    visited: set[str] = set()
    # links are followed, as data sets are often linked together; `visited` ends loops
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(root) / f for f in files if not f.startswith(".") and Path(f).suffix.lower() in EXTENSIONS]
    if not found:
        raise InputError(f"{folder}: no images found; expected files ending in {' '.join(sorted(EXTENSIONS))}")
    return tuple(sorted(found, key=lambda p: p.relative_to(folder).parts))


def load_files(files: tuple[Path, ...], preprocess: Preprocess, limit: int | None = None, progress: Progress | None = None) -> ImageSet:
    """Read pictures in order until `limit` good ones are there; damaged ones are skipped with their reason. Raises InputError when none is good."""
    if limit is not None and limit < 1:
        raise InputError(f"the image limit is {limit}, expected 1 or more")
    total = len(files) if limit is None else min(limit, len(files))
    pixels: list[UInt8] = []
    good: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for file in files:
        if len(good) == total:
            break
        try:
            pixels.append(preprocess.pixels(file))
            good.append(file)
        except InputError as error:
            skipped.append((file, str(error).removeprefix(f"{file}: ")))
        if progress is not None:
            progress(len(good), total)
    if not good:
        first = f"; the first, {skipped[0][0].name}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"none of the {len(files)} images could be read{first}")
    return ImageSet(np.stack(pixels), tuple(good), tuple(skipped))


def load_folder(folder: Path, preprocess: Preprocess, limit: int | None = None, progress: Progress | None = None) -> ImageSet:
    """`load_files` over `list_images(folder)`."""
    return load_files(list_images(folder), preprocess, limit, progress)


def labelled(folder: Path, labels_file: Path | None = None) -> tuple[tuple[Path, int], ...]:
    """Pictures with their class index, in sorted order.

    The class comes from `labels_file` (or `labels.csv` in the folder) with rows file,class-index; else from class sub-folders in sorted
    order, as torchvision's ImageFolder counts them; else from file names that begin with it (0005.jpg, 0005_electric_ray.jpg).
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of labelled images, found {'a file' if folder.exists() else 'nothing'}")
    table = labels_file if labels_file is not None else folder / "labels.csv"
    if labels_file is not None or table.is_file():
        return _from_table(folder, table)
    images = list_images(folder)
    nested = [p for p in images if p.parent != folder]
    if not nested:
        return tuple((p, _from_name(p)) for p in images)
    if len(nested) != len(images):
        stray = next(p for p in images if p.parent == folder)
        raise InputError(f"{folder}: images beside class sub-folders ({stray.name}); expected only sub-folders, or give --labels FILE")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    index = {name: i for i, name in enumerate(classes)}
    result = tuple((p, index[p.relative_to(folder).parts[0]]) for p in images)
    empty = set(range(len(classes))) - {label for _, label in result}
    if empty:
        raise InputError(f"{folder / classes[min(empty)]}: a class sub-folder without images; classes are counted by sub-folder, so fill or remove it")
    return result


def _from_name(path: Path) -> int:
    match = _CLASS_PREFIX.match(path.name)
    if match is None:
        raise InputError(f"{path}: the name must begin with the class index, as 0005_electric_ray.jpg; or use class sub-folders or --labels FILE")
    return int(match.group(1))


def _from_table(folder: Path, table: Path) -> tuple[tuple[Path, int], ...]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as a table of file,class-index ({error})") from error
    result: dict[Path, int] = {}
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and len(cells) == 2 and not cells[1].isdecimal() and not (folder / cells[0]).exists()):
            continue  # blank line, or a heading
        if len(cells) != 2 or not (cells[1].isascii() and cells[1].isdecimal()):
            raise InputError(f"{table} line {number}: expected file,class-index, got {','.join(cells)[:80]!r}")
        path = folder / cells[0]
        if not path.is_file():
            raise InputError(f"{table} line {number}: {cells[0]} is not in {folder}")
        if path in result:
            raise InputError(f"{table} line {number}: {cells[0]} is listed twice")
        result[path] = int(cells[1])
    if not result:
        raise InputError(f"{table}: no rows; expected file,class-index")
    return tuple(sorted(result.items(), key=lambda item: item[0].relative_to(folder).parts))
