"""What a verification reports: one row a stage and implementation, with the first difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError


@dataclass(frozen=True)
class Difference:
    """The first value of a stage that differs from the simulator's: position in the tensor (frame, channel, y, x) and both values."""

    frame: int
    channel: int
    y: int
    x: int
    expected: int
    got: int

    def __str__(self) -> str:
        return f"frame {self.frame}, channel {self.channel}, y {self.y}, x {self.x}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class CheckRow:
    """One stage of one implementation ("hls", "rtl", "onnx"): values compared and values that differ."""

    stage: str
    implementation: str
    compared: int
    mismatches: int
    first_difference: Difference | None = None

    @property
    def ok(self) -> bool:
        """Something was compared and nothing differs."""
        return self.compared > 0 and self.mismatches == 0

    def describe(self) -> str:
        """One line for a person.

        >>> CheckRow("fire2.squeeze", "hls", 48400, 1, Difference(0, 3, 7, 9, 12, 13)).describe()
        'hls fire2.squeeze: 1 of 48400 values differ; the first at frame 0, channel 3, y 7, x 9: expected 12, got 13'
        """
        if self.compared == 0:
            return f"{self.implementation} {self.stage}: nothing was compared"
        if self.mismatches == 0:
            return f"{self.implementation} {self.stage}: {self.compared} values equal"
        text = f"{self.implementation} {self.stage}: {self.mismatches} of {self.compared} values differ"
        return text if self.first_difference is None else f"{text}; the first at {self.first_difference}"


def compare(stage: str, implementation: str, expected: NDArray[np.integer], got: NDArray[np.integer]) -> CheckRow:
    """Compare two (N, C, H, W) tensors exactly and name the first difference in stream order (frame, y, x, channel).

    >>> compare("s", "fast", np.zeros((1, 1, 1, 2), int), np.array([[[[0, 3]]]])).describe()
    'fast s: 1 of 2 values differ; the first at frame 0, channel 0, y 0, x 1: expected 0, got 3'
    """
    if expected.shape != got.shape:
        raise InputError(f"stage {stage}: {implementation} gives shape {got.shape}, {expected.shape} was expected; export again")
    wrong = np.argwhere((expected != got).transpose(0, 2, 3, 1))
    if not len(wrong):
        return CheckRow(stage, implementation, int(expected.size), 0)
    n, y, x, c = (int(i) for i in wrong[0])
    return CheckRow(stage, implementation, int(expected.size), len(wrong), Difference(n, c, y, x, int(expected[n, c, y, x]), int(got[n, c, y, x])))
