"""Which post-training methods a quantization uses: the two quantizers, and every single method for the ablation (benchmarks/bench_quantizer.py)."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.errors import InputError

FINE_BITS = 8
"""Weights of so many bits err less than activations of 8 bits do: `channel_ranges` and `clipped_reference` act where all have one such width."""


@dataclass(frozen=True)
class Methods:
    """One switch a method, in the order in which they act.

    `error_ranges`: scales of activations and weights by least error; else the finest that clip nothing. `equalize`: channels evened out
    (quantize/equalize.py). `answer_ranges`: scales of activations by what they do to the answer (quantize/answer_ranges.py). `channel_ranges`:
    channels evened out by the ranges that serve the answer best (quantize/channel_ranges.py). `clipped_reference`: `refit` and `correct_bias` take the float
    network's tensors as clipped to the formats' ranges (quantize/propagate.py). `refit`: weights fitted to the quantized network's own activations before they
    are rounded. `compensate`: rounding errors made up for by the weights rounded later (GPTQ). `descend`:
    rounding improved weight by weight on AdaRound's objective. `correct_bias`: every channel keeps its mean.
    """

    error_ranges: bool = True
    equalize: bool = True
    answer_ranges: bool = False
    channel_ranges: bool = False
    clipped_reference: bool = False
    refit: bool = False
    compensate: bool = True
    descend: bool = False
    correct_bias: bool = True


PLAIN = Methods(error_ranges=False, equalize=False, compensate=False, correct_bias=False)
FAST = Methods()
BEST = Methods(answer_ranges=True, channel_ranges=True, clipped_reference=True, refit=True, descend=True)
QUANTIZERS = {"plain": PLAIN, "fast": FAST, "best": BEST}
"""`plain`, scales by the maximum and nothing but rounding, is there to compare with."""


def find_methods(quantizer: str) -> Methods:
    """The methods of a quantizer by name. Raises InputError for a name that is none."""
    if quantizer not in QUANTIZERS:
        raise InputError(f"--quantizer: one of {', '.join(QUANTIZERS)} was expected, got {quantizer!r}")
    return QUANTIZERS[quantizer]
