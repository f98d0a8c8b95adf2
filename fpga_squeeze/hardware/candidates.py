"""What each stage may become: folds, packing and storage that meet a number of cycles a frame, with what they cost on a device.

For a target of T cycles an engine with given p_ic, p_k and p_px needs p_oc = ceil(OC / floor(T / (pixel_groups * ic_folds * k_folds))): the fewest
multipliers of that shape that are fast enough. p_ic takes the divisors of IC (a padded input channel would waste line buffer and multipliers at
once), p_oc any number (ceil folding), p_k 1, K or K*K, p_px 1 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.hardware.cost import Resources, engine_resources, stage_resources
from fpga_squeeze.hardware.devices import LATTICE, Device
from fpga_squeeze.hardware.dsp_packing import pack_shift
from fpga_squeeze.hardware.plan import (
    ConcatStage,
    ConvStage,
    Engine,
    EngineFold,
    ExpandStage,
    GlobalSumStage,
    JoinStage,
    PoolStage,
    SideStage,
    Stage,
)
from fpga_squeeze.hardware.structure import loadable, stage_in_lanes, stage_out_lanes

STREAM_SHARE = 0.75
"""Share of the target that a stream without multipliers may take: lanes are cheap, and a stream with slack catches up after each burst or bubble."""

STREAM_FORMS = 3
"""How many numbers of lanes, from the narrowest that will do, are offered for such a stream."""

LUT_ROM_WORDS = 512
"""Deepest weight memory that is offered in LUTs: a LUT6 holds 64 words of a bit, so eight LUTs a bit."""

WEIGHTS = ("rom", "loaded", "auto")
"""rom: initial contents only. loaded: every engine over the load port. auto: loaded where the search puts weights into URAM."""


@dataclass(frozen=True)
class Space:
    """What the search may use. `device` None: no packing, storage left to the synthesizer, only multipliers count.

    `coded`: an engine with its weights stored in each way that is looked at, itself or not among them; None: as it is.
    `built` keeps what engines were found to take, by engine and fold: a bisection over cycles meets the same folds again and again.
    """

    device: Device | None = None
    p_px: tuple[int, ...] = (1,)
    weights: str = "rom"
    packing: bool = True
    coded: Callable[[Engine], tuple[Engine, ...]] | None = field(default=None, compare=False, repr=False)
    built: dict[tuple[str, EngineFold], list[tuple[Engine, Resources]]] = field(default_factory=dict, compare=False, repr=False)

    def engines(self, engine: Engine, fold: EngineFold) -> list[tuple[Engine, Resources]]:
        """`engine` with `fold` in every packing and storage, and what each takes."""
        key = (engine.node, fold)
        found = self.built.get(key)
        if found is None:
            found = self.built[key] = [(e, engine_resources(e, self.device)) for e in _variants(engine, fold, self)]
        return found


@dataclass(frozen=True)
class Choice:
    """One way to build a stage."""

    stage: Stage
    resources: Resources
    multipliers: int
    in_lanes: int
    out_lanes: int


@cache
def divisors(n: int) -> tuple[int, ...]:
    """Divisors of n, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def engine_folds(engine: Engine, target: int, p_px: Iterable[int], p_ic: int | None = None) -> Iterator[EngineFold]:
    """The smallest fold of every shape that needs at most `target` cycles a frame (`p_ic` fixed when given)."""
    channels, out_h, out_w = engine.out_shape
    in_pixels, pixels = engine.in_shape[1] * engine.in_shape[2], out_h * out_w
    inner = tuple(d for d in ((p_ic,) if p_ic else divisors(engine.in_shape[0])) if in_pixels * ceil(engine.in_shape[0] / d) <= target)
    taps = sorted({1, engine.kernel, engine.kernel**2})
    for px, i, k in product(p_px, inner, taps):
        per_fold = ceil(pixels / px) * ceil(engine.in_shape[0] / i) * ceil(engine.kernel**2 / k)
        if px > out_w or per_fold > target:
            continue
        # The results leave pixel by pixel, an output fold a beat.
        folds = min(target // per_fold, target // pixels, channels)
        if folds:
            yield EngineFold(ceil(channels / folds), i, k, px)


def least_multipliers(stage: Stage, target: int, p_px: tuple[int, ...], in_lanes: int | None) -> tuple[int, int] | None:
    """(multipliers, cycles) of the stage with the fewest multipliers at `target`, the fastest of equals; None when none is fast enough."""
    if isinstance(stage, ConvStage):
        found = [(f.multipliers, replace(stage, engine=replace(stage.engine, fold=f)).cycles) for f in engine_folds(stage.engine, target, p_px, in_lanes)]
        return min(found, default=None)
    if isinstance(stage, ExpandStage):
        lanes = concat_lanes(stage, target)
        if not lanes:
            return None
        sent = stage.expand3x3.out_shape[1] * stage.expand3x3.out_shape[2] * sum(e.out_shape[0] // lanes[0] for e in stage.engines)
        big = [(f, replace(stage.expand3x3, fold=f)) for f in engine_folds(stage.expand3x3, target, p_px, in_lanes)]
        best: tuple[int, int] | None = None
        for fold, e3 in sorted(big, key=lambda b: b[0].multipliers):
            if best is not None and fold.multipliers >= best[0]:
                break
            small = min((f.multipliers for f in engine_folds(stage.expand1x1, e3.cycles, (fold.p_px,)) if _divide(f.p_ic, fold.p_ic)), default=None)
            # The stage's own cycles: besides its engines' work, taking in the input and sending out the concatenated pixels.
            cycles = max(e3.cycles, e3.in_shape[1] * e3.in_shape[2] * e3.ic_folds, sent)
            if small is not None and (best is None or (fold.multipliers + small, cycles) < best):
                best = (fold.multipliers + small, cycles)
        return best
    forms = streamed(stage, target, in_lanes)
    sides = least_sides(stage, target) if isinstance(stage, JoinStage) else []
    if not forms or not all(sides):
        return None
    multipliers = sum(e.fold.multipliers for options in sides for e in options[0].engines)
    return multipliers, max(forms[0].cycles, *(min(s.cycles for s in options) for options in sides), 0)


def least_sides(stage: JoinStage, target: int) -> list[list[SideStage]]:
    """For each stage on the bypass its forms for `target` with the fewest multipliers; none where no fold is fast enough.

    One pixel at a time: a group would wait for pixels that the main branch does not need yet (hardware/bypass.py).
    """
    found: list[list[SideStage]] = []
    for i, own in enumerate(stage.side):
        if isinstance(own, PoolStage):
            found.append([s for s in streamed(own, target) if isinstance(s, PoolStage)])
            continue
        folds = _side_folds(stage, i, target)
        least = min((f.multipliers for f in folds), default=0)
        found.append([replace(own, engine=replace(own.engine, fold=f)) for f in folds if f.multipliers == least])
    return found


def choices(stage: Stage, target: int, space: Space, in_lanes: int | None = None) -> tuple[Choice, ...]:
    """Every way to build `stage` in at most `target` cycles a frame, dominated ones left out; `in_lanes` fixes the input lanes."""
    if isinstance(stage, ConvStage):
        found = _engine_choices(stage.engine, engine_folds(stage.engine, target, space.p_px, in_lanes), space)
        return tuple(_choice(replace(stage, engine=e), r) for e, r in found)
    if isinstance(stage, ExpandStage):
        return _expand_choices(stage, target, space, in_lanes)
    forms = streamed(stage, target, in_lanes)
    if isinstance(stage, JoinStage):
        sides = _side_choices(stage, target, space)
        joined = [replace(s, side=side) for s in forms if isinstance(s, JoinStage) for side in sides]
        return tuple(_choice(s, stage_resources(s, space.device)) for s in joined)
    return tuple(_choice(s, stage_resources(s, space.device)) for s in forms)


def _side_folds(stage: JoinStage, index: int, target: int) -> list[EngineFold]:
    """Folds of the convolution at `index` on the bypass. Behind a pool a 1x1 one, which holds two pixels and no rows, works in STREAM_SHARE of the target where
    it can: it stands while the pool takes rows, and must catch up."""
    own = stage.side[index]
    assert isinstance(own, ConvStage)
    hurried = own.engine.pixel_buffered and any(isinstance(s, PoolStage) for s in stage.side[:index])
    folds = list(engine_folds(own.engine, int(target * STREAM_SHARE), (1,))) if hurried else []
    return folds or list(engine_folds(own.engine, target, (1,)))


def _side_choices(stage: JoinStage, target: int, space: Space) -> list[tuple[SideStage, ...]]:
    """Forms of all that is on a bypass, dominated ones left out; one pixel at a time, as in `least_sides`."""
    found: list[tuple[tuple[SideStage, ...], Resources, int]] = [((), Resources(), 0)]
    for i, own in enumerate(stage.side):
        forms: list[tuple[SideStage, Resources, int]]
        if isinstance(own, PoolStage):
            forms = [(s, stage_resources(s, space.device), 0) for s in streamed(own, target) if isinstance(s, PoolStage)]
        else:
            built = _engine_choices(own.engine, _side_folds(stage, i, target), space)
            forms = [(replace(own, engine=e), r, e.fold.multipliers) for e, r in built]
        longer = [((*before, s), taken + r, many + m) for before, taken, many in found for s, r, m in forms]
        found = [longer[n] for n in _front([(r, m) for _, r, m in longer])] if len(stage.side) > 1 else longer
    return [side for side, _, _ in found]


Streamed = PoolStage | GlobalSumStage | JoinStage
"""Stages that have lanes of their own."""


def streamed(stage: Streamed, target: int, in_lanes: int | None = None) -> list[Streamed]:
    """The narrowest forms of a stage without multipliers that keep STREAM_SHARE of the target; the widest one where only that meets the target at all."""
    bare = replace(stage, side=()) if isinstance(stage, JoinStage) else stage  # what is on a bypass has folds of its own
    built = [replace(bare, lanes=n) for n in ((in_lanes,) if in_lanes else _lanes(stage))]
    return [s for s in built if s.cycles <= target * STREAM_SHARE][:STREAM_FORMS] or [s for s in built[-1:] if s.cycles <= target]


def _lanes(stage: Streamed) -> tuple[int, ...]:
    """Numbers of lanes that leave no lane empty, ascending: in a concat, in either operand or in the result."""
    if isinstance(stage, ConcatStage):
        return tuple(sorted({n for shape in (stage.in_shape, stage.side_shape, stage.out_shape) for n in divisors(shape[0])}))
    return divisors(stage.in_shape[0])


def concat_lanes(stage: ExpandStage, target: int) -> list[int]:
    """Output lanes of an expand stage, chosen likewise: divisors of both branches' channels."""
    channels = stage.expand1x1.out_shape[0] + stage.expand3x3.out_shape[0]
    pixels = stage.expand3x3.out_shape[1] * stage.expand3x3.out_shape[2]
    both = divisors(gcd(stage.expand1x1.out_shape[0], stage.expand3x3.out_shape[0]))
    fast = [n for n in both if pixels * (channels // n) <= target * STREAM_SHARE][:STREAM_FORMS]
    return fast or [n for n in both[-1:] if pixels * (channels // n) <= target]


def _choice(stage: Stage, resources: Resources) -> Choice:
    return Choice(stage, resources, sum(e.fold.multipliers for e in stage.engines), stage_in_lanes(stage), stage_out_lanes(stage))


def _divide(a: int, b: int) -> bool:
    return a % b == 0 or b % a == 0


def _variants(engine: Engine, fold: EngineFold, space: Space) -> Iterator[Engine]:
    """`engine` with `fold` in every packing and storage that `space` allows."""
    folded = replace(engine, fold=fold)
    for packed in _packed(folded, space):
        for storage in _storages(packed, space):
            chosen = replace(packed, weight_storage=storage)
            if space.weights == "loaded" or storage == "uram":
                yield loadable(chosen)
            else:
                yield from space.coded(chosen) if space.coded else (chosen,)


def _packed(engine: Engine, space: Space) -> Iterator[Engine]:
    yield engine
    if space.device is None or not space.packing:
        return
    fold = engine.fold
    # The form that leaves fewer multiplications alone; of equals the channels, whose activation is shared by all pairs anyway.
    halves = {"channels": fold.p_px * ceil(fold.p_oc / 2), "pixels": ceil(fold.p_px / 2) * fold.p_oc}
    for kind in sorted(halves, key=lambda k: (halves[k], k)):
        if (fold.p_oc if kind == "channels" else fold.p_px) < 2:
            continue
        overlap = space.device.family in LATTICE
        shift = pack_shift(engine.weight_bits, engine.in_fmt, space.device.multiplier_bits, kind, overlap)
        if shift:
            yield replace(engine, packing=kind, pack_shift=shift)
            return


def _storages(engine: Engine, space: Space) -> Iterator[str]:
    if space.device is None:
        yield "auto"
        return
    yield "bram"
    if engine.weight_depth <= LUT_ROM_WORDS:
        yield "lut"
    if space.device.uram and space.weights != "rom":
        yield "uram"


def _expand_choices(stage: ExpandStage, target: int, space: Space, in_lanes: int | None) -> tuple[Choice, ...]:
    lanes = concat_lanes(stage, target)
    found: list[Choice] = []
    for px in space.p_px:
        big = _engine_choices(stage.expand3x3, engine_folds(stage.expand3x3, target, (px,), in_lanes), space)
        small_at: dict[int, list[tuple[Engine, Resources]]] = {}
        for e3, r3 in big:
            if e3.cycles not in small_at:
                small_at[e3.cycles] = _engine_choices(stage.expand1x1, engine_folds(stage.expand1x1, e3.cycles, (px,)), space)
            for e1, r1 in small_at[e3.cycles]:
                if _divide(e1.fold.p_ic, e3.fold.p_ic):
                    found += [_choice(replace(stage, expand1x1=e1, expand3x3=e3, out_lanes=n), r1 + r3) for n in lanes[:1]]
    kept = _undominated(found)
    exact = []
    for c in kept:
        for n in lanes:
            built = replace(c.stage, out_lanes=n)  # type: ignore[arg-type]
            exact.append(_choice(built, stage_resources(built, space.device)))
    return tuple(exact)


def _engine_choices(engine: Engine, folds: Iterable[EngineFold], space: Space) -> list[tuple[Engine, Resources]]:
    built = [pair for f in folds for pair in space.engines(engine, f)]
    return [built[i] for i in _front([(r, e.fold.multipliers) for e, r in built])]


def _undominated(found: list[Choice]) -> tuple[Choice, ...]:
    return tuple(found[i] for i in _front([(c.resources, c.multipliers) for c in found]))


PRICES = 128
"""Random price vectors on which a choice must be the cheapest to be kept: the lower convex hull, near enough. A linear program needs no others."""


def _front(costs: list[tuple[Resources, int]]) -> list[int]:
    """Indices of costs that are cheapest under some prices, ascending; equal costs once."""
    if not costs:
        return []
    table = cost_table([c for c, _ in costs], [m for _, m in costs])
    prices = _prices(table.shape[1])
    value = table @ prices.T
    return sorted({int(i) for i in value.argmin(axis=0)})


def cost_table(resources: list[Resources], multipliers: list[int]) -> NDArray[np.float64]:
    """float64 (choices, 6): DSP, 18 Kb blocks, URAM, LUT, FF, multipliers."""
    return np.array([(r.dsp, r.bram18, r.uram, r.lut, r.ff, m) for r, m in zip(resources, multipliers, strict=True)], dtype=np.float64)


@cache
def _prices(columns: int) -> NDArray[np.float64]:
    """float64 (PRICES + columns, columns): prices in LUTs of a DSP, a block, a URAM, a LUT, a flip-flop, a multiplier; fixed seed, so the same every time."""
    rng = np.random.default_rng(0)
    usual = np.array([100.0, 150.0, 1500.0, 1.0, 0.5, 10.0])[:columns]
    spread = usual * np.exp(rng.normal(0.0, 2.0, size=(PRICES, columns)))
    single = np.diag(usual * 1e4) + usual * 0.01
    return np.vstack([usual, spread, single])
