"""Activation formats: the power-of-two scale of each tensor by least error over the calibration images."""

from __future__ import annotations

from dataclasses import replace
from math import floor, log2

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool
from fpga_squeeze.quantize.equalize import cap_factor, capped, tied_groups, unscaled_groups
from fpga_squeeze.quantize.groups import format_groups
from fpga_squeeze.quantize.stats import TensorStats

FRAC_LIMIT = 40
FACTOR_STEPS = 8
CLIP_WEIGHT = 16.0
CLIPPING_CANDIDATES = 4


def choose_formats(
    graph: Graph,
    stats: dict[str, TensorStats],
    act_bits: int,
    *,
    clip: bool = True,
    fracs: dict[str, int] | None = None,
    own_bits: dict[str, int] | None = None,
) -> dict[str, TensorFormat]:
    """The format of every node but global sums, by name.

    Unsigned where all producers of a group rectify (or add rectified values), signed otherwise. The scale has the least squared error over
    the tensors that arithmetic reads: what a pool drops does not count. If not `clip`, it is the finest that clips nothing; where `fracs` names it, it is
    given for `act_bits`. `own_bits`: other bits than `act_bits`, by node name: the same range in finer or coarser steps, for all that share its format.
    """
    groups = format_groups(graph)
    own = {groups[name]: bits for name, bits in (own_bits or {}).items()}
    members: dict[str, list[str]] = {}
    for n in graph.nodes:
        if not isinstance(n.op, GlobalAveragePool):
            members.setdefault(groups[n.name], []).append(n.name)
    formats: dict[str, TensorFormat] = {}
    for leader, names in members.items():
        if isinstance(graph[leader].op, Input):
            fmt = TensorFormat(8, 0, signed=False)
        else:
            signed = _group_sign(graph, names, formats)
            caps = {name: cap for name, cap in capped(graph).items() if name in names}
            if caps and leader not in own:
                formats.update(dict.fromkeys(names, _capped_format(caps, act_bits)))
                continue
            read = [name for name in names if _is_read(graph, name)]
            fmt = best_format(tuple(stats[name] for name in read), act_bits, signed, CLIPPING_CANDIDATES if clip else 1)
            if fracs and leader in fracs:
                fmt = replace(fmt, frac=max(-FRAC_LIMIT, min(FRAC_LIMIT, fracs[leader])))
            if leader in own:
                frac = fmt.frac + own[leader] - fmt.bits
                fmt = replace(fmt, bits=own[leader], frac=max(-FRAC_LIMIT, min(FRAC_LIMIT, frac)))
        formats.update(dict.fromkeys(names, fmt))
    return formats


def _capped_format(caps: dict[str, float], bits: int) -> TensorFormat:
    """The unsigned format whose largest value is the cap of the tensors, which `tensor_factors` has scaled so that there is one."""
    name, cap = next(iter(caps.items()))
    fmt = TensorFormat(bits, round(log2((2.0**bits - 1) / cap)), signed=False)
    wrong = [other for other, c in caps.items() if abs(fmt.qmax * fmt.scale / c - 1.0) > 1e-9]
    if wrong:
        raise InputError(
            f"layers {name} and {wrong[0]}: their upper limits {cap:g} and {caps[wrong[0]]:g} share one format of {bits} bits, whose largest value is "
            f"{fmt.qmax * fmt.scale:g}; only one limit can be exact"
        )
    return fmt


def _group_sign(graph: Graph, names: list[str], formats: dict[str, TensorFormat]) -> bool:
    """Whether the group's format is signed. Rectification is the format being unsigned, so rectified and other values cannot share one."""
    signs = {name: _is_signed(graph, name, formats) for name in names if isinstance(graph[name].op, Conv | Add)}
    signed = any(signs.values())
    lost = [name for name, op in ((n, graph[n].op) for n in signs) if isinstance(op, Conv | Add) and op.relu]
    if signed and lost:
        other = next(name for name, sign in signs.items() if sign)
        raise InputError(f"layers {lost[0]} and {other}: joined by a concat, but one is rectified and the other is not; the machine needs both or neither")
    return signed


def tensor_factors(graph: Graph, stats: dict[str, TensorStats], act_bits: int, *, only_caps: bool = False) -> dict[str, float]:
    """A factor in [1, 2) for every tensor, by node name, with which the best power-of-two format has the least error.

    Tensors that must keep their scale get 1, tied tensors the same; `rescale` turns the factors into weights. `only_caps`: 1 but where an upper limit asks for
    another.
    """
    groups, unscaled = tied_groups(graph), unscaled_groups(graph)
    factors = dict.fromkeys(groups.values(), 1.0)
    for group in sorted(factors.keys()):
        forced = cap_factor(graph, [n.name for n in graph.nodes if groups[n.name] == group], act_bits)
        if forced is not None:
            factors[group] = forced
        if forced is not None or group in unscaled or only_caps:
            continue
        read = [n.name for n in graph.nodes if groups[n.name] == group and _is_read(graph, n.name)]
        trials = [2.0 ** (i / FACTOR_STEPS) for i in range(FACTOR_STEPS)]

        def error(factor: float, names: list[str] = read) -> float:
            scaled = tuple(stats[name].scaled(factor) for name in names)
            fmt = best_format(scaled, act_bits, signed=any(s.low < 0.0 for s in scaled))
            return sum(squared_error(s, fmt) for s in scaled) / factor**2

        factors[group] = min(trials, key=error)
    return {name: factors[group] for name, group in groups.items()}


def best_format(stats: tuple[TensorStats, ...], bits: int, signed: bool, scales: int = CLIPPING_CANDIDATES) -> TensorFormat:
    """The format of least squared error of `scales` ones, from the finest scale that clips nothing to finer ones that clip more."""
    reach = max(max(s.high / (2.0 ** (bits - signed) - 1), -s.low / 2.0 ** (bits - 1) if signed else 0.0) for s in stats)
    if reach <= 0.0:
        return TensorFormat(bits, 0, signed)
    widest = max(-FRAC_LIMIT, min(FRAC_LIMIT, floor(-log2(reach))))
    candidates = [TensorFormat(bits, min(FRAC_LIMIT, widest + i), signed) for i in range(scales)]
    return min(candidates, key=lambda fmt: sum(squared_error(s, fmt) for s in stats))


def squared_error(stats: TensorStats, fmt: TensorFormat) -> float:
    """Weighted squared error of rounding and clamping the tensor: step^2 / 12 in range, x^2 below half a step, beyond a limit CLIP_WEIGHT (x - limit)^2.

    Rounding errors are as good as independent and average out in the next layer's sums; clipping errors all have one sign and meet the
    strong responses that decide the class, hence the weight.
    """
    x, step = stats.centers, fmt.scale
    clipped = np.clip(x, fmt.qmin * step, fmt.qmax * step)
    rounding = np.where(np.abs(x) < step / 2, x * x, step * step / 12)
    error = np.where(clipped == x, rounding, CLIP_WEIGHT * (x - clipped) ** 2)
    return float((error * stats.counts).sum())


def _is_signed(graph: Graph, name: str, formats: dict[str, TensorFormat]) -> bool:
    op = graph[name].op
    if isinstance(op, Conv):
        return not op.relu
    if isinstance(op, Add):
        return not op.relu and any(formats[i].signed for i in graph[name].inputs)
    return False


def _is_read(graph: Graph, name: str) -> bool:
    readers = graph.consumers(name)
    return name == graph.output or any(not isinstance(r.op, MaxPool | Concat) for r in readers)
