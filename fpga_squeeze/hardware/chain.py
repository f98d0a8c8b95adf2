"""Without a device: of all folds with the fewest multipliers, the chain that costs the least logic, converters between stages included.

Dynamic programming over the stages: memory blocks (wide, shallow weight rows waste them), accumulators, requantizers and buffers of a stage, and the
width converter to the next one, where lanes that are multiples of each other are far cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from fpga_squeeze.hardware.candidates import concat_lanes, engine_folds, least_multipliers, least_sides, streamed
from fpga_squeeze.hardware.cost import Resources, converter_resources, stage_resources
from fpga_squeeze.hardware.plan import ConvStage, ExpandStage, JoinStage, PoolStage, SideStage, Stage
from fpga_squeeze.hardware.structure import Skeleton, stage_in_lanes, stage_out_lanes

BRAM18_COST = 150
"""LUTs an 18 Kb block is worth: the ratio of the two on mid-size parts (XCZU9EG: 274,080 LUTs to 1,824 blocks)."""

SIDE_FORMS = 3
"""Forms of each stage that are tried where several are on one bypass: their numbers multiply."""


@dataclass(frozen=True)
class _Link:
    """One way to fold a stage. `cost` in LUT equivalents."""

    stage: Stage
    in_lanes: int
    out_lanes: int
    cost: float


def cheapest_chain(skeleton: Skeleton, target: int, image_lanes: int, p_px: tuple[int, ...] = (1,)) -> tuple[Stage, ...]:
    """The stages folded for at most `target` cycles a frame, `p_px` pixels at a time; every stage must have a fold that meets it. Converters count between
    stages that follow each other."""
    options = [_folds(s, target, image_lanes if i == 0 else None, p_px) for i, s in enumerate(skeleton.stages)]
    total: list[list[tuple[float, int]]] = []
    for i, links in enumerate(options):
        row = []
        for c in links:
            before = options[i - 1] if i else []
            met = skeleton.adjacent(i)
            joined = [(total[i - 1][j][0] + (_converter(c.stage, p.out_lanes, c.in_lanes) if met else 0.0), j) for j, p in enumerate(before)]
            best = min(joined) if joined else (_converter(c.stage, image_lanes, c.in_lanes), 0)
            row.append((best[0] + c.cost, best[1]))
        total.append(row)
    at = min(range(len(options[-1])), key=lambda j: total[-1][j][0])
    chain = []
    for i in reversed(range(len(options))):
        chain.append(options[i][at].stage)
        at = total[i][at][1]
    return tuple(chain[::-1])


def scalar(resources: Resources) -> float:
    """LUT equivalents: a LUT, two flip-flops, BRAM18_COST of a block (a URAM is as many blocks as it holds bits)."""
    return resources.lut + 0.5 * resources.ff + BRAM18_COST * (resources.bram18 + 16 * resources.uram)


def _converter(stage: Stage, out_lanes: int, in_lanes: int) -> float:
    if isinstance(stage, JoinStage):
        return scalar(converter_resources(stage.in_shape[0], stage.in_fmt.bits, out_lanes, in_lanes, None))
    fmt = stage.fmt if isinstance(stage, PoolStage) else stage.engines[-1].in_fmt if stage.engines else stage.in_fmt  # type: ignore[union-attr]
    channels = stage.engines[0].in_shape[0] if stage.engines else stage.in_shape[0]  # type: ignore[union-attr]
    return scalar(converter_resources(channels, fmt.bits, out_lanes, in_lanes, None))


def _folds(stage: Stage, target: int, in_lanes: int | None, p_px: tuple[int, ...]) -> list[_Link]:
    least = least_multipliers(stage, target, p_px, in_lanes)
    assert least is not None
    found: list[Stage] = []
    if isinstance(stage, ConvStage):
        folds = [f for f in engine_folds(stage.engine, target, p_px, in_lanes) if f.multipliers == least[0]]
        found = [replace(stage, engine=replace(stage.engine, fold=f)) for f in folds]
    elif isinstance(stage, ExpandStage):
        found = _expand(stage, target, in_lanes, least[0], p_px)
    elif isinstance(stage, JoinStage):
        sides = least_sides(stage, target)
        combined = list(product(*(sides if len(sides) == 1 else (_cheapest(options) for options in sides))))
        found = [replace(s, side=side) for s in streamed(stage, target, in_lanes) if isinstance(s, JoinStage) for side in combined]
    else:
        found = list(streamed(stage, target, in_lanes))
    return [_Link(s, stage_in_lanes(s), stage_out_lanes(s), scalar(stage_resources(s, None))) for s in found]


def _cheapest(options: list[SideStage]) -> list[SideStage]:
    """The SIDE_FORMS cheapest forms of one of several stages on a bypass."""
    return sorted(options, key=lambda s: scalar(stage_resources(s, None)))[:SIDE_FORMS]


def _expand(stage: ExpandStage, target: int, in_lanes: int | None, least: int, p_px: tuple[int, ...]) -> list[Stage]:
    lanes = concat_lanes(stage, target)
    found: list[Stage] = []
    for big in engine_folds(stage.expand3x3, target, p_px, in_lanes):
        if big.multipliers >= least:
            continue
        e3 = replace(stage.expand3x3, fold=big)
        for small in engine_folds(stage.expand1x1, e3.cycles, (big.p_px,)):
            divides = small.p_ic % big.p_ic == 0 or big.p_ic % small.p_ic == 0
            if divides and small.multipliers + big.multipliers == least:
                found += [replace(stage, expand1x1=replace(stage.expand1x1, fold=small), expand3x3=e3, out_lanes=n) for n in lanes]
    return found
