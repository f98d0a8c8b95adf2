"""Folders of labelled images for training: class sub-folders in sorted order, an optional held-out part, seeded augmentation.

What a picture looks like in an epoch depends on the seed, the epoch and the picture alone, so that neither the number of processes nor an
interruption changes anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.images import list_images
from fpga_squeeze.load.preprocess import Preprocess, UInt8, open_image

CROP_AREA = (0.6, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
SPLIT_SEED = 20160224
"""Apart from the training seed: a picture held out once is held out always."""
AUGMENTATIONS = ("crop", "flip")
Sample = tuple[Path, int]
Item = tuple[UInt8 | None, int, str]
"""(pixels (C, H, W), label, "") or (None, label, why the picture cannot be read)."""


@dataclass(frozen=True)
class ImageFolder:
    """`samples` in sorted order; `classes` are the sub-folders' names, class index = position."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def digest(self) -> str:
        """Of the class names, the file names and the labels: tells whether a resumed training sees the same data."""
        text = "\n".join([*self.classes, *(f"{label} {path.name}" for path, label in self.samples)])
        return hashlib.sha256(text.encode()).hexdigest()


def read_folder(option: str, folder: Path, classes: tuple[str, ...] | None = None) -> ImageFolder:
    """Class sub-folders with images. `classes`: the training's names, which a validation folder's must be among.

    Raises InputError that begins with `option`: no folder, images outside sub-folders, a class without images or an unknown one.
    """
    images = list_images(folder) if folder.is_dir() else ()
    if not images:
        raise InputError(f"{option} {folder}: a folder with one sub-folder of images a class was expected, no folder is there")
    stray = [p for p in images if p.parent == folder]
    if stray:
        raise InputError(f"{option} {folder}: {stray[0].name} lies outside the class sub-folders; every image belongs into its class's sub-folder")
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    found = [p.relative_to(folder).parts[0] for p in images]
    empty = [name for name in names if name not in set(found)]
    if empty:
        raise InputError(f"{option} {folder}: the class sub-folder {empty[0]} has no images; fill or remove it")
    known = names if classes is None else classes
    strangers = [name for name in names if name not in known]
    if strangers:
        raise InputError(f"{option} {folder}: the class {strangers[0]} is not among the {len(known)} of the training data")
    index = {name: i for i, name in enumerate(known)}
    return ImageFolder(tuple(zip(images, (index[name] for name in found), strict=True)), known)


def split(folder: ImageFolder, share: float) -> tuple[ImageFolder, ImageFolder]:
    """(the rest, `share` of every class held out): at least one picture of a class stays, and the choice does not depend on the training seed."""
    rng = np.random.default_rng(SPLIT_SEED)
    held: set[int] = set()
    for c in range(len(folder.classes)):
        members = [i for i, (_, label) in enumerate(folder.samples) if label == c]
        count = min(round(share * len(members)), len(members) - 1)
        held.update(int(i) for i in rng.permutation(members)[:count])
    parts = [tuple(s for i, s in enumerate(folder.samples) if (i in held) is wanted) for wanted in (False, True)]
    if not parts[1]:
        raise InputError(f"--val split: {share:g} of {len(folder.samples)} images in {len(folder.classes)} classes leaves nothing to hold out")
    return ImageFolder(parts[0], folder.classes), ImageFolder(parts[1], folder.classes)


@dataclass(frozen=True)
class Augmentation:
    """`crop`: a random rectangle of 0.6 to all of the area, ratio 3:4 to 4:3, instead of the centre; `flip`: mirrored every other time."""

    crop: bool = False
    flip: bool = False

    @staticmethod
    def parse(text: str) -> Augmentation:
        """`none`, `crop`, `flip` or `crop,flip`; anything else raises InputError.

        >>> Augmentation.parse("crop")
        Augmentation(crop=True, flip=False)
        """
        names = [] if text == "none" else text.split(",")
        unknown = [name for name in names if name not in AUGMENTATIONS]
        if unknown:
            raise InputError(f"--augment {text}: none, crop, flip or crop,flip was expected")
        return Augmentation("crop" in names, "flip" in names)

    def apply(self, image: Image.Image, preprocess: Preprocess, rng: np.random.Generator) -> UInt8:
        """uint8 (C, size, size) as `preprocess` gives them, but for the part of the picture and its side."""
        image = preprocess.convert(image)
        if self.crop:
            box = _box(image.size, rng)
            image = image.resize((preprocess.size, preprocess.size), Image.Resampling.BILINEAR, box=box)
            preprocess = replace(preprocess, resize=preprocess.size)
        pixels = preprocess.pixels(image)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.flip and rng.random() < 0.5 else pixels


def _box(size: tuple[int, int], rng: np.random.Generator) -> tuple[float, float, float, float]:
    width, height = size
    area = rng.uniform(*CROP_AREA) * width * height
    ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
    w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, left + w, top + h


@dataclass(frozen=True)
class Pictures(Dataset[Item]):
    """Decodes picture (epoch, index); epoch -1 means without augmentation. A picture that cannot be read comes back as its reason."""

    samples: tuple[Sample, ...]
    preprocess: Preprocess
    augmentation: Augmentation = Augmentation()
    seed: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        path, label = self.samples[index]
        try:
            if epoch < 0:
                return self.preprocess.pixels(path), label, ""
            with open_image(path) as image:
                return self.augmentation.apply(image, self.preprocess, np.random.default_rng([self.seed, epoch, index])), label, ""
        except InputError as error:
            return None, label, str(error)


def batches(pictures: Pictures, keys: Sequence[Sequence[tuple[int, int]]], workers: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Decoded batches in the order of `keys`: (uint8 (N, C, H, W), int64 (N,)), read by `workers` processes (0: by this one).

    Raises InputError about the first picture that cannot be read.
    """
    sampler = [list(batch) for batch in keys]
    loader: DataLoader[Item] = DataLoader(pictures, batch_sampler=sampler, num_workers=workers, collate_fn=list)
    for items in loader:
        pixels, labels = [], []
        for picture, label, reason in items:
            if picture is None:
                raise InputError(f"{reason}; remove or mend it")
            pixels.append(picture)
            labels.append(label)
        yield np.stack(pixels), np.array(labels, dtype=np.int64)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch sees the pictures: a permutation of 0 ... count-1 that depends on the seed and the epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def rank_slice(length: int, rank: int, world: int) -> slice:
    """Which part of a global batch of `length` a process takes: contiguous, sizes differ by one at most, may be empty.

    >>> [rank_slice(7, r, 3) for r in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    base, more = divmod(length, world)
    start = rank * base + min(rank, more)
    return slice(start, start + base + (rank < more))


def as_float(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """uint8 pixels as float32 on the device, values 0..255."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).to(torch.float32)
