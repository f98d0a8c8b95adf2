"""Folding: how many multipliers each engine gets, and how many lanes each stream.

Rule. Every fold divides its dimension (p_oc | OC, p_ic | IC, p_k in {1, K, K*K}), so no multiplier ever idles on padding. Each stage gets the
fewest multipliers with which its cycles meet target_cycles = floor(clock / target_fps). Where even the fullest fold misses, the fastest is taken
and the plan's interval says so; only the image itself, one pixel a beat, is a hard limit: CheckFailedError names the highest rate it allows.
Streams without multipliers (pools, sums, a Fire's output) get lanes for STREAM_SHARE of the target, so that they are never the bottleneck.
Among folds of equal multipliers the whole chain is chosen at once (dynamic programming over the stages) by logic cost: memory blocks (wide,
shallow weight rows waste them), accumulators and requantizers (p_oc of them), and the width converter between stages, where lanes that are
multiples of each other are far cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, gcd, inf

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.fifo import internal_fifos
from fpga_squeeze.hardware.folding_file import folding_from_json, folding_to_json
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.packing import pack
from fpga_squeeze.hardware.plan import ConvStage, Engine, EngineFold, ExpandStage, FoldPlan, GlobalSumStage, PoolStage, Stage
from fpga_squeeze.hardware.structure import build_skeleton, stage_in_lanes, stage_out_lanes
from fpga_squeeze.quantize.qgraph import QuantGraph

__all__ = ["divisors", "engine_cost", "engine_folds", "folding_from_json", "folding_to_json", "line_buffer_banks", "plan_machine", "verify_plan"]

BRAM18_COST = 150
"""LUTs an 18 Kb block is worth when folds of equal multipliers are compared: the ratio of the two on mid-size parts (XCZU9EG 274,080 LUTs to 1,824 blocks)."""

STREAM_SHARE = 0.75
"""Share of the target that a stream without multipliers may take: lanes are cheap, and a stream with slack catches up after each burst or bubble."""

AWKWARD_COST = 100_000
"""Cost of a width converter between lanes neither of which divides the other: a barrel shifter, taken only where nothing else exists."""


@dataclass(frozen=True)
class _Choice:
    """One way to fold a stage. `cost` in LUT equivalents."""

    stage: Stage
    in_lanes: int
    out_lanes: int
    cost: int


def plan_machine(qgraph: QuantGraph, clock_mhz: float = 200.0, target_fps: float = 500.0) -> FoldPlan:
    """Fold the machine for `target_fps` at `clock_mhz`; the plan has passed `verify_plan`.

    Raises:
        InputError: a clock or target that is not positive, or a graph that no stage covers (names the layer).
        CheckFailedError: the image stream itself, H * W beats, takes longer than the target allows.
    """
    if not 0 < clock_mhz < inf or not 0 < target_fps < inf:
        raise InputError(f"clock and target must be positive numbers, got {clock_mhz} MHz and {target_fps} frames/s")
    skeleton = build_skeleton(qgraph)
    target_cycles = int(clock_mhz * 1e6 / target_fps)
    channels, height, width = qgraph.input.shape
    if height * width > target_cycles:
        raise CheckFailedError(
            f"target of {target_fps:g} frames/s at {clock_mhz:g} MHz leaves {target_cycles} cycles a frame, but the {height}x{width} image alone "
            f"takes {height * width}, one pixel a cycle; "
            f"ask for at most {int(clock_mhz * 1e6 / (height * width))} frames/s or raise the clock"
        )
    options = [_choices(s, target_cycles, channels if i == 0 else None) for i, s in enumerate(skeleton.stages)]
    stages = tuple(c.stage for c in _cheapest_chain(options, channels))
    return assemble(qgraph, skeleton, stages, clock_mhz, target_cycles)


def divisors(n: int) -> tuple[int, ...]:
    """Divisors of n, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def engine_folds(engine: Engine, p_ic: int | None = None) -> tuple[Engine, ...]:
    """`engine` in every divisor fold (p_ic fixed when given)."""
    taps = sorted({1, engine.kernel, engine.kernel**2})
    inner = (p_ic,) if p_ic else divisors(engine.in_shape[0])
    return tuple(replace(engine, fold=EngineFold(o, i, k)) for o in divisors(engine.out_shape[0]) for i in inner for k in taps)


def engine_cost(engine: Engine) -> int:
    """LUT equivalents of an engine beside its multipliers: weight ROM, line buffer banks; an accumulator and a rounding shifter (3 x acc_bits) a p_oc lane."""
    f = engine.fold
    cost = _memory_cost(engine.weight_word_bits, engine.weight_depth, rom=True) + 3 * f.p_oc * engine.acc_bits
    word_bits = f.p_ic * engine.in_fmt.bits
    if engine.pixel_buffered:
        return cost + _memory_cost(word_bits, 2 * engine.ic_folds, rom=False)
    banks, depth = line_buffer_banks(engine)
    return cost + banks * _memory_cost(word_bits, depth, rom=False) + (banks > 1) * f.p_k * word_bits


def line_buffer_banks(engine: Engine) -> tuple[int, int]:
    """(banks, words a bank) of the circular line buffer: p_k = 1 reads one word a cycle from one bank; p_k = K reads K rows at once, a bank a row;
    p_k = K*K also K neighbouring columns, so column x of a row sits in bank x mod K. A pixel-buffered engine has none: (0, 0)."""
    rows, width = engine.buffer_rows, engine.in_shape[2]
    if engine.pixel_buffered:
        return 0, 0
    if engine.fold.p_k == 1:
        return 1, rows * width * engine.ic_folds
    if engine.fold.p_k == engine.kernel:
        return rows, width * engine.ic_folds
    return rows * engine.kernel, ceil(width / engine.kernel) * engine.ic_folds


def _memory_cost(width_bits: int, depth: int, *, rom: bool) -> int:
    p = pack(width_bits, depth, rom=rom)
    return p.bram18 * BRAM18_COST + p.lutram_luts


def _choices(stage: Stage, target: int, in_lanes: int | None) -> tuple[_Choice, ...]:
    """Folds of `stage` with the fewest multipliers that meet the target; the fastest ones when none does. `in_lanes` fixes the input lanes."""
    if isinstance(stage, ConvStage):
        found: list[Stage] = [replace(stage, engine=e) for e in engine_folds(stage.engine, in_lanes)]
    elif isinstance(stage, ExpandStage):
        found = _expand_folds(stage, target, in_lanes)
    else:
        found = [replace(stage, lanes=n) for n in ((in_lanes,) if in_lanes else divisors(stage.in_shape[0]))]
        target = int(target * STREAM_SHARE)
    best = min(_rank(s, target) for s in found)
    kept = [s for s in found if _rank(s, target) == best]
    return tuple(_Choice(s, stage_in_lanes(s), stage_out_lanes(s), _stage_cost(s)) for s in kept)


def _rank(stage: Stage, target: int) -> tuple[int, int]:
    """Smaller is better: cycles beyond the target first, then multipliers."""
    return max(0, stage.cycles - target), sum(e.fold.multipliers for e in stage.engines)


def _expand_folds(stage: ExpandStage, target: int, in_lanes: int | None) -> list[Stage]:
    """Pairs of folds: the 1x1 engine never slower than the KxK one, word widths that divide each other, output lanes that divide both branches."""
    big = [e for e in engine_folds(stage.expand3x3, in_lanes) if max(e.cycles, e.in_shape[1] * e.in_shape[2] * e.ic_folds) <= target]
    if big:
        least = min(e.fold.multipliers for e in big)
        # A bigger KxK fold can never save more than the 1x1 engine costs: 1/K^2 of it, or less; twice the least is a safe bound.
        big = [e for e in big if e.fold.multipliers <= 2 * least]
    else:
        big = [e for e in engine_folds(stage.expand3x3, in_lanes) if e.cycles == e.out_shape[1] * e.out_shape[2]]
    channels = stage.expand1x1.out_shape[0] + stage.expand3x3.out_shape[0]
    pixels = stage.expand3x3.out_shape[1] * stage.expand3x3.out_shape[2]
    lanes = divisors(gcd(stage.expand1x1.out_shape[0], stage.expand3x3.out_shape[0]))
    lanes = tuple(n for n in lanes if pixels * (channels // n) <= target * STREAM_SHARE) or lanes[-1:]
    small = engine_folds(stage.expand1x1)
    found: list[Stage] = []
    for e3 in big:
        fits = [e for e in small if e.cycles <= e3.cycles and (e.fold.p_ic % e3.fold.p_ic == 0 or e3.fold.p_ic % e.fold.p_ic == 0)]
        least = min(e.fold.multipliers for e in fits)
        pairs = [replace(stage, expand1x1=e1, expand3x3=e3) for e1 in fits if e1.fold.multipliers == least]
        found += [replace(pair, out_lanes=n) for pair in pairs for n in lanes]
    return found


def _stage_cost(stage: Stage) -> int:
    cost = sum(engine_cost(e) for e in stage.engines)
    if isinstance(stage, ExpandStage):
        # The 1x1 engine's own pixel buffer is counted by engine_cost; what joins the two is counted here.
        e1, e3 = stage.expand1x1, stage.expand3x3
        cost += sum(_memory_cost(f.lanes * f.bits, f.depth, rom=False) for f in internal_fifos(stage))
        cost += _converter_cost(e3.fold.p_ic, e1.fold.p_ic, e1.in_fmt.bits)
        cost += _converter_cost(e1.fold.p_oc, stage.out_lanes, e1.out_fmt.bits) + _converter_cost(e3.fold.p_oc, stage.out_lanes, e3.out_fmt.bits)
    elif isinstance(stage, PoolStage):
        cost += 4 * stage.lanes * stage.fmt.bits
    elif isinstance(stage, GlobalSumStage):
        cost += 2 * stage.lanes * stage.out_fmt.bits
    return cost


def _converter_cost(a: int, b: int, bits: int) -> int:
    """A register of the wider side and its multiplexer; nothing when equal."""
    if a == b:
        return 0
    return 2 * max(a, b) * bits + (AWKWARD_COST if a % b and b % a else 0)


def _cheapest_chain(options: list[tuple[_Choice, ...]], image_lanes: int) -> list[_Choice]:
    """One choice a stage with the least total cost of stages, converters and link registers; ties go to the first, so the result is deterministic."""
    total: list[list[tuple[int, int]]] = []
    for i, choices in enumerate(options):
        row = []
        for c in choices:
            bits = _in_bits(c.stage)
            own = c.cost + 2 * c.in_lanes * bits
            if i == 0:
                row.append((own + _converter_cost(image_lanes, c.in_lanes, bits), 0))
                continue
            best = min((total[i - 1][j][0] + _converter_cost(p.out_lanes, c.in_lanes, bits), j) for j, p in enumerate(options[i - 1]))
            row.append((best[0] + own, best[1]))
        total.append(row)
    at = min(range(len(options[-1])), key=lambda j: total[-1][j][0])
    chain = []
    for i in reversed(range(len(options))):
        chain.append(options[i][at])
        at = total[i][at][1]
    return chain[::-1]


def _in_bits(stage: Stage) -> int:
    if isinstance(stage, PoolStage):
        return stage.fmt.bits
    return stage.in_fmt.bits if isinstance(stage, GlobalSumStage) else stage.engines[-1].in_fmt.bits
