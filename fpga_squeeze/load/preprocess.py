"""From a picture to what the network reads: geometry (resize, crop), channel order, scale, mean and standard deviation.

The hardware takes raw pixels (uint8, RGB or L); everything after the crop is folded into the first convolution.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fpga_squeeze.errors import InputError

UInt8 = NDArray[np.uint8]
PRESETS = ("torchvision", "caffe", "none", "digits")
_ORDERS = {"RGB": 3, "BGR": 3, "L": 1}
MAX_IMAGE_PIXELS = 64_000_000
"""Largest picture, as stored or after the resize; a few kilobytes of PNG can claim billions of pixels."""
_MAX_SIZE = 4096
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Preprocess:
    """Value fed to the float network, channel by channel in `order`: (pixel * scale - mean) / std.

    `resize`: short side before the crop, in pixels. `size`: side of the square centre crop. `channels`: 1 ("L") or 3 ("RGB", "BGR").
    Raises InputError when the fields contradict each other.
    """

    name: str
    resize: int
    size: int
    channels: int
    order: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        where = f"preprocessing {self.name}"
        if _ORDERS.get(self.order) is None:
            raise InputError(f"{where}: order is {self.order!r}, expected one of {', '.join(_ORDERS)}")
        if self.channels != _ORDERS[self.order]:
            raise InputError(f"{where}: order {self.order} has {_ORDERS[self.order]} channels, but channels is {self.channels}")
        if not 1 <= self.size <= _MAX_SIZE:
            raise InputError(f"{where}: size is {self.size}, expected 1 to {_MAX_SIZE}")
        if not self.size <= self.resize <= 4 * _MAX_SIZE:
            raise InputError(f"{where}: resize is {self.resize}, expected the crop size {self.size} or more, and at most {4 * _MAX_SIZE}")
        for label, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise InputError(f"{where}: {label} has {len(values)} numbers, expected {self.channels}, one a channel")
        if not all(math.isfinite(v) for v in (self.scale, *self.mean, *self.std)):
            raise InputError(f"{where}: scale, mean and std must be finite, got {self.scale}, {self.mean}, {self.std}")
        if self.scale <= 0 or min(self.std) <= 0:
            raise InputError(f"{where}: scale and std must be above 0, got scale {self.scale} and std {self.std}")

    def rgb_index(self, channel: int) -> int:
        """Which channel of the raw pixels feeds the network's channel `channel`.

        >>> caffe = preset("caffe", size=227, channels=3)
        >>> [caffe.rgb_index(c) for c in range(3)]
        [2, 1, 0]
        """
        return self.channels - 1 - channel if self.order == "BGR" else channel

    def pixels(self, image: Image.Image | Path | str) -> UInt8:
        """What the hardware takes: the picture resized and centre-cropped as torchvision's evaluation transform does it.

        Bilinear with PIL's antialiasing; EXIF rotation is not applied and alpha is dropped, as there.

        Args:
            image: a picture or a file of one, of any size and 8-bit mode.
        Returns:
            uint8 (C, size, size), channels in RGB order (or one of luma).
        Raises:
            InputError: not an image, damaged, too large, or deeper than 8 bits a channel.
        """
        if not isinstance(image, Image.Image):
            with open_image(Path(image)) as opened:
                return self.pixels(opened)
        return np.ascontiguousarray(_to_array(self._crop(self.convert(image))))

    def convert(self, image: Image.Image) -> Image.Image:
        """The picture in the mode that `order` asks for: RGB, or L for one channel. Raises InputError for more than 8 bits a channel."""
        if image.mode in _DEEP_MODES:
            raise InputError(f"the image has pixel mode {image.mode}, expected 8 bits a channel; convert it first")
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert("L" if self.channels == 1 else "RGB")

    def _crop(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        short = min(width, height)
        new_w, new_h = int(self.resize * width / short), int(self.resize * height / short)
        if new_w * new_h > MAX_IMAGE_PIXELS:
            raise InputError(f"the image is {width}x{height}; with its short side at {self.resize} it would exceed {MAX_IMAGE_PIXELS} pixels")
        if (new_w, new_h) != (width, height):
            image = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
        top, left = round((new_h - self.size) / 2.0), round((new_w - self.size) / 2.0)
        return image.crop((left, top, left + self.size, top + self.size))

    def normalize(self, pixels: UInt8) -> torch.Tensor:
        """uint8 (N, C, H, W) in RGB order -> float32 (N, C, H, W) in the network's order, computed in float64 and rounded once."""
        if pixels.ndim != 4 or pixels.shape[1] != self.channels or pixels.dtype != np.uint8:
            raise InputError(f"expected uint8 pixels (N, {self.channels}, H, W), got {pixels.dtype} {pixels.shape}")
        out = np.empty(pixels.shape, dtype=np.float32)
        for c in range(self.channels):
            raw = pixels[:, self.rgb_index(c)].astype(np.float64)
            out[:, c] = (raw * self.scale - self.mean[c]) / self.std[c]
        return torch.from_numpy(out)

    def resized(self, size: int) -> Preprocess:
        """The same for square inputs of side `size`: the margin that the crop cuts off stays in proportion."""
        return replace(self, size=size, resize=round(self.resize * size / self.size))

    def to_json(self) -> str:
        """JSON text with every field, as `from_json` and `--preprocess FILE` read it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "preprocessing file") -> Preprocess:
        """Parse `to_json`'s text; unknown, missing or wrongly typed fields raise InputError that begins with `where`.

        >>> p = preset("caffe", size=227, channels=3)
        >>> Preprocess.from_json(p.to_json()) == p
        True
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error})") from error
        if not isinstance(data, dict):
            raise InputError(f"{where}: expected a JSON object with the fields {', '.join(_FIELDS)}, got a {type(data).__name__}")
        for key in data:
            if key not in _FIELDS:
                raise InputError(f"{where}: unknown field {key!r}; the fields are {', '.join(_FIELDS)}")
        missing = [key for key in _FIELDS if key not in data]
        if missing:
            raise InputError(f"{where}: the field {missing[0]!r} is missing; the fields are {', '.join(_FIELDS)}")
        return Preprocess(**{key: _typed(where, key, _FIELDS[key], data[key]) for key in _FIELDS})


_FIELDS = {"name": str, "resize": int, "size": int, "channels": int, "order": str, "scale": float, "mean": tuple, "std": tuple}


def _typed(where: str, key: str, kind: type, value: object) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is tuple and isinstance(value, list):
        return tuple(_typed(where, key, float, v) for v in value)
    if kind is str and isinstance(value, str):
        return value
    if kind is int and number and isinstance(value, int):
        return value
    if kind is float and number:
        assert isinstance(value, (int, float))
        try:
            return float(value)
        except OverflowError as error:
            raise InputError(f"{where}: the field {key!r} holds a number too large for a float") from error
    wanted = {str: "text", int: "a whole number", float: "a number", tuple: "a list of numbers"}[kind]
    raise InputError(f"{where}: the field {key!r} must be {wanted}, got {json.dumps(value)[:60]}")


def preset(name: str, size: int, channels: int) -> Preprocess:
    """A named preprocessing for square inputs of side `size` and 1 or 3 channels.

    torchvision: short side size * 256/224, RGB scaled to 0..1, ImageNet's mean and deviation. caffe: BGR minus (104, 117, 123), unscaled.
    none: raw pixels 0..255. digits: MNIST's mean and deviation, no margin. One-channel models take the average of three-channel constants.

    Raises InputError for an unknown name or channel count.
    """
    if channels not in (1, 3):
        raise InputError(f"preprocessing {name}: pictures have 1 or 3 channels, got {channels}")
    order, scale = "RGB", 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize = round(size * 256 / 224)
    if name == "torchvision":
        scale, mean, std = 1.0 / 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    elif name == "caffe":
        order, mean, resize = "BGR", (104.0, 117.0, 123.0), round(size * 256 / 227)
    elif name == "digits":
        scale, mean, std, resize = 1.0 / 255.0, (0.1307,) * 3, (0.3081,) * 3, size
    elif name != "none":
        raise InputError(f"unknown preprocessing {name!r}; expected {', '.join(PRESETS)} or a JSON file")
    if channels == 1:
        order, mean, std = "L", (round(sum(mean) / 3, 6),), (round(sum(std) / 3, 6),)
    return Preprocess(name, resize, size, channels, order, scale, mean, std)


def read_preprocess(choice: str, size: int | None, default_size: int, channels: int) -> Preprocess:
    """What `--preprocess choice` means: a preset, or the path of a JSON file (whose size must agree with `size` when both are given).

    caffe at no given size means 227 for pictures that would otherwise be 224, the size of the Caffe originals.
    """
    if choice in PRESETS:
        caffe_default = 227 if choice == "caffe" and default_size == 224 else default_size
        return preset(choice, caffe_default if size is None else size, channels)
    path = Path(choice)
    if not path.is_file():
        raise InputError(f"--preprocess {choice}: neither a preset ({', '.join(PRESETS)}) nor a file")
    if path.stat().st_size > 1_000_000:
        raise InputError(f"--preprocess {choice}: larger than 1 MB; expected a JSON file of eight fields")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--preprocess {choice}: cannot be read as text ({error})") from error
    found = Preprocess.from_json(text, where=f"--preprocess {choice}")
    if size is not None and size != found.size:
        raise InputError(f"--preprocess {choice}: its size is {found.size} but --input-size says {size}; make them agree")
    if found.channels != channels:
        raise InputError(f"--preprocess {choice}: it has {found.channels} channels but the model's first layer takes {channels}")
    return found


def open_image(path: Path) -> Image.Image:
    """Open and decode a picture file fully; every way it can be bad becomes one InputError that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
            if image.size[0] * image.size[1] > MAX_IMAGE_PIXELS:
                image.close()
                raise InputError(f"{path}: the image is {image.size[0]}x{image.size[1]}; at most {MAX_IMAGE_PIXELS} pixels are read")
            image.load()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: the image claims too many pixels; at most {MAX_IMAGE_PIXELS} are read") from error
        # PIL's decoders answer a damaged file with any of these
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise InputError(f"{path}: not a readable image ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'})") from error
    return image


def _to_array(image: Image.Image) -> UInt8:
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
