"""A convolution's weights in the order in which its engine uses them."""

from __future__ import annotations

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.engine import Engine
from fpga_squeeze.quantize.qgraph import QConv


def weight_lanes(engine: Engine, qconv: QConv) -> Int64:
    """Weights in memory order: int64 (weight_depth, p_oc * p_k * p_ic), lane ((o * p_k) + t) * p_ic + i; zero where a fold is padded."""
    e, f = engine, engine.fold
    oc, ic, k, _ = qconv.weight.shape
    if (oc, ic, k) != (e.out_shape[0], e.in_shape[0], e.kernel):
        raise InputError(f"layer {e.node}: the plan has weights {(e.out_shape[0], e.in_shape[0], e.kernel)}, the network {(oc, ic, k)}; plan it again")
    padded = np.zeros((e.oc_folds * f.p_oc, e.ic_folds * f.p_ic, k, k), dtype=np.int64)
    padded[:oc, :ic] = qconv.weight
    if f.p_k not in (1, k, k * k):
        raise InputError(f"layer {e.node}: p_k = {f.p_k} does not fold a {k}x{k} kernel; 1, {k} or {k * k} was expected")
    # A fold of K taps is one kernel column, so the columns come first; single taps and whole kernels count row-major.
    by_column = f.p_k == k and k > 1
    taps = (padded.transpose(0, 1, 3, 2) if by_column else padded).reshape(e.oc_folds, f.p_oc, e.ic_folds, f.p_ic, e.k_folds, f.p_k)
    return taps.transpose(0, 4, 2, 1, 5, 3).reshape(e.weight_depth, f.weight_lanes)
