"""What `train --data` can be told, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.errors import InputError
from fpga_squeeze.quantize.ptq import QuantOptions
from fpga_squeeze.train.data import Augmentation

OPTIMIZERS = ("adamw", "sgd")
DEFAULT_ARCH = "squeezenet1_1"
DEFAULT_SPLIT = 0.2


@dataclass(frozen=True)
class TrainOptions:
    """One training.

    `data`: ImageFolder; `out`: folder of the results. `init`: weights to begin with. `val`: a folder, `split` (a fifth of each class held out),
    `split:SHARE`, or None. `arch`, `input_size`, `preprocess`: None means as in `init`, else the arch's own. `qat` trains the machine in
    `weight_bits` and `act_bits`; formats are chosen at the start of the first `format_epochs` epochs and then frozen (None: once, or for half
    of the epochs where conv10 is new). `lr` is the peak of the cosine. `checkpoint_steps`: also save every so many steps inside an epoch.
    """

    data: Path
    out: Path
    arch: str | None = None
    init: Path | None = None
    val: str | None = None
    epochs: int = 10
    lr: float = 1e-3
    batch_size: int = 64
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    qat: bool = False
    weight_bits: int = 8
    act_bits: int = 8
    format_epochs: int | None = None
    input_size: int | None = None
    preprocess: str | None = None
    augment: str = "crop,flip"
    seed: int = 0
    workers: int = 0
    resume: bool = False
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        for option, value, low, high in (
            ("--epochs", self.epochs, 1, 100_000),
            ("--batch-size", self.batch_size, 1, 65_536),
            ("--workers", self.workers, 0, 256),
            ("--seed", self.seed, 0, 2**32 - 1),
            ("--format-epochs", 1 if self.format_epochs is None else self.format_epochs, 1, 100_000),
            ("--checkpoint-steps", 1 if self.checkpoint_steps is None else self.checkpoint_steps, 1, 10**9),
            ("--input-size", 8 if self.input_size is None else self.input_size, 8, 2048),
        ):
            if not low <= value <= high:
                raise InputError(f"{option}: {low} to {high} was expected, got {value}")
        for option, number, above in (("--lr", self.lr, 0.0), ("--weight-decay", self.weight_decay, -1e-300)):
            if not (math.isfinite(number) and above < number <= 100.0):
                raise InputError(f"{option}: a number from 0 to 100 was expected, got {number:g}")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"--optimizer {self.optimizer}: {' or '.join(OPTIMIZERS)} was expected")
        QuantOptions(self.weight_bits, self.act_bits)
        Augmentation.parse(self.augment)
        self.val_share()

    def val_share(self) -> float | None:
        """The share that `--val split` holds out; None when `val` is a folder or nothing."""
        if self.val is None or not (self.val == "split" or self.val.startswith("split:")):
            return None
        text = self.val.partition(":")[2] or str(DEFAULT_SPLIT)
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        if not 0.0 < share < 1.0:
            raise InputError(f"--val {self.val}: a share between 0 and 1 was expected, as split:0.2")
        return share
