"""Statistics of a tensor over the calibration images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 2048


@dataclass(frozen=True, eq=False)
class TensorStats:
    """Range and histogram of one tensor over all calibration images: `counts` int64 (BINS,) over equal bins of [low, high]."""

    low: float
    high: float
    counts: NDArray[np.int64]

    def scaled(self, factor: float) -> TensorStats:
        """Statistics of the tensor multiplied by a positive factor."""
        return TensorStats(self.low * factor, self.high * factor, self.counts)

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin, (BINS,)."""
        step = (self.high - self.low) / BINS
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * step, dtype=np.float64)
