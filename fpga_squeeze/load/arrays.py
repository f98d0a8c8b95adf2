"""Pictures that are already in memory: numpy arrays and PIL images become the pixels that the hardware takes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.images import ImageSet
from fpga_squeeze.load.preprocess import Preprocess, UInt8

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""A file, a PIL image, or one uint8 array: (H, W), (C, H, W) or (H, W, C), channels in RGB order."""


def picture_pixels(preprocess: Preprocess, image: ImageLike) -> UInt8:
    """One picture as the hardware takes it: uint8 (C, size, size), channels in RGB order.

    Files and PIL images are resized and cropped as on the command line. An array that already has the network's size is taken as it is; one of
    another size is treated as a picture.

    Raises InputError: an unreadable file, or an array that is no uint8 picture with the network's channels.
    """
    if isinstance(image, Image.Image):
        return preprocess.pixels(image)
    if not isinstance(image, np.ndarray):
        return preprocess.pixels(Path(image))
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise InputError(f"image: a uint8 array (H, W), (C, H, W) or (H, W, C) was expected, got {image.dtype} {image.shape}")
    flat = image[np.newaxis] if image.ndim == 2 else image
    pixels: UInt8 = batch_pixels(preprocess, flat[np.newaxis])[0]
    return pixels


def batch_pixels(preprocess: Preprocess, pictures: NDArray[np.uint8]) -> UInt8:
    """Many pictures: uint8 (N, C, H, W) or (N, H, W, C) -> uint8 (N, C, size, size). Pictures of the network's size pass through unchanged.

    >>> from fpga_squeeze.load.preprocess import preset
    >>> batch_pixels(preset("none", 8, 3), np.zeros((2, 8, 8, 3), np.uint8)).shape
    (2, 3, 8, 8)
    """
    channels, size = preprocess.channels, preprocess.size
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or 0 in pictures.shape:
        raise InputError(f"images: a uint8 array (N, C, H, W) or (N, H, W, C) of at least one was expected, got {pictures.dtype} {pictures.shape}")
    first, last = pictures.shape[1] == channels, pictures.shape[3] == channels
    if first and last:  # 3 channels and 3 columns: only the network's own size can tell
        first, last = pictures.shape[2:] == (size, size), pictures.shape[1:3] == (size, size)
    if first == last:
        raise InputError(f"images: an array (N, {channels}, H, W) or (N, H, W, {channels}) was expected, got {pictures.shape}")
    nchw = pictures if first else pictures.transpose(0, 3, 1, 2)
    if nchw.shape[2:] == (size, size):
        return np.ascontiguousarray(nchw)
    rows = [np.ascontiguousarray(p[0] if channels == 1 else p.transpose(1, 2, 0)) for p in nchw]
    return np.stack([preprocess.pixels(Image.fromarray(row)) for row in rows])


def array_set(preprocess: Preprocess, pictures: NDArray[np.uint8]) -> ImageSet:
    """`batch_pixels` as an ImageSet whose files are numbers: picture 0, picture 1, ..."""
    pixels = batch_pixels(preprocess, pictures)
    return ImageSet(pixels, tuple(Path(f"picture {i}") for i in range(len(pixels))), ())
