"""What a verification reports: one row a stage and implementation, with the first difference."""

from __future__ import annotations

from dataclasses import dataclass


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
