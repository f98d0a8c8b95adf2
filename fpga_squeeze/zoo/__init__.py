"""The SqueezeNet family: tables, torch modules, training, and the embedded digits model with its pictures."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fpga_squeeze.errors import InputError

PICTURE_SETS = ("calibration", "test")


def embedded_model_path() -> Path:
    """The committed state dict of `squeezenet_digits`, trained on real handwritten digits."""
    return _resource("squeezenet_digits.pt")


def embedded_images(which: str) -> Path:
    """Folder of 100 real digits as PNG, ten a class, names beginning with the class (7_0123.png).

    "calibration" comes from the training digits, "test" from the held-out ones. Raises InputError for any other name.
    """
    if which not in PICTURE_SETS:
        raise InputError(f"no embedded pictures called {which!r}; expected {' or '.join(PICTURE_SETS)}")
    return _resource("digits") / which


def _resource(name: str) -> Path:
    path = Path(str(files("fpga_squeeze.zoo").joinpath(name)))
    if not path.exists():
        raise InputError(f"{name} is missing from the installed package; install fpga-squeeze again")
    return path


__all__ = ["PICTURE_SETS", "embedded_images", "embedded_model_path"]
