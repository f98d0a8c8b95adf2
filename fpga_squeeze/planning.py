"""From a quantized network to its machine: the plan of the search or of --folding, within a weight budget, for a device or for the smallest that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware import devices, folding
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.goal import Found, Goal
from fpga_squeeze.hardware.search import check_plan, search
from fpga_squeeze.hardware.weight_choice import with_storage
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.images import ImageSet
from fpga_squeeze.load.model import LoadedModel
from fpga_squeeze.quantize.mixed import Widths, WidthSearch
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.quantize.stats import TensorStats
from fpga_squeeze.report import budget as budget_report

WIDTH_ROUNDS = 6
"""How often widths are chosen again because the weights, as they lie in the memories of the folded machine, take more than --weight-budget."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """A trained model in fixed point: `graph` is the float network it stands for, `images` what it was calibrated on.

    `stats`: of the float tensors over those images by node name; empty where the formats were not chosen by calibration.
    `search` and `widths`: with a weight budget, what was measured and what was chosen.
    """

    loaded: LoadedModel
    graph: Graph
    qgraph: QuantGraph
    images: ImageSet
    stats: dict[str, TensorStats] = field(default_factory=dict)
    search: WidthSearch | None = None
    widths: Widths | None = None


AUTO = "auto"
"""A --weight-budget that is what --budget or the device leaves."""
IDLE_SHARE = 2.0
"""Idle blocks, so many times, are what weights are widened by at most: the blocks in use are not full either."""
FINE = 1.04
"""Ratio of two sizes that no search between them is worth."""


def weight_budget_bytes(config: ExportConfig) -> int:
    """--weight-budget in bytes; "auto": --budget."""
    assert config.weight_budget is not None
    size, option = (config.budget, "--budget") if config.weight_budget == AUTO else (config.weight_budget, "--weight-budget")
    return budget_report.parse_size(size, option)


def fold_model(quantized: Quantized, config: ExportConfig, device: Device | None) -> tuple[Quantized, Found]:
    """The plan of `choose_plan`. With a weight budget, widths are chosen again until the weights keep it as they lie in the machine's memories, the
    padding of its folds and tables included. With --max-drop and a device, weights are widened into what memory is left.

    Raises:
        InputError, CheckFailedError: as `choose_plan`. CheckFailedError: no widths were found that keep the budget on a machine.
    """
    config = config.resolved()
    if quantized.search is not None and config.max_drop is not None and device is not None:
        return _widened(quantized, quantized.search, config, config.max_drop, device)
    if quantized.search is None or config.weight_budget is None:
        return quantized, choose_plan(quantized.qgraph, config, device)
    if config.weight_budget == AUTO and device is not None:
        return _fill_device(quantized, quantized.search, config, device)
    return _keep_budget(quantized, quantized.search, config, device)


def _keep_budget(quantized: Quantized, search: WidthSearch, config: ExportConfig, device: Device | None) -> tuple[Quantized, Found]:
    """Widths whose weights keep --weight-budget, or with "auto" whose machine keeps --budget."""
    limit, whole = weight_budget_bytes(config), config.weight_budget == AUTO
    overhead: dict[str, float] = {}
    beside = 0
    for _ in range(WIDTH_ROUNDS):
        found = choose_plan(quantized.qgraph, config, device)
        widths = quantized.widths
        assert widths is not None
        taken = {e.node: e.stored_weight_bits for stage in found.plan.stages for e in stage.engines}
        kinds = budget_report.memory_budget(found.plan, quantized.qgraph, limit, device).by_kind
        held = sum(kinds.values()) if whole else -(-sum(taken.values()) // 8)
        if held <= limit:
            return quantized, found
        # Never less than seen before: widths and folds cannot chase each other in circles.
        expected = {row.name: search.layer_bits(row.name, row.bits) for row in widths.layers}
        overhead |= {name: max(overhead.get(name, 1.0), taken[name] / expected[name]) for name in expected}
        if whole:
            # FIFOs, biases, and buffers of tensors whose bits are not chosen.
            free = sum(row.values * row.bits for row in widths.activations) // 8
            beside = max(beside, held - kinds["weights"] - min(free, kinds["line_buffers"]))
            if beside >= limit:
                break
        chosen = search.choose(limit - beside, overhead)
        quantized = replace(quantized, qgraph=search.quantize(chosen), widths=replace(chosen, limit_bytes=limit))
    what = f"--budget: this machine takes {held:,} bytes" if whole else f"--weight-budget: the memories of this machine hold {held:,} bytes of weights"
    raise CheckFailedError(f"{what}, {limit:,} are allowed; give a lower --target-fps, whose folds pad less")


def _at_size(quantized: Quantized, search: WidthSearch, config: ExportConfig, device: Device, size: float) -> tuple[Quantized, Found]:
    """The best widths of at most `size` bytes, folded within the device's blocks and logic and --budget. Raises CheckFailedError where that cannot be."""
    widths = search.choose(int(size))
    widths = replace(widths, limit_bytes=-(-widths.weight_bits // 8))
    other = replace(quantized, qgraph=search.quantize(widths), widths=widths)
    return other, _within(other, config, device)


def _within(quantized: Quantized, config: ExportConfig, device: Device) -> Found:
    """The plan of `choose_plan`, held to --budget and to the device's memory too."""
    found = choose_plan(quantized.qgraph, config, device)
    budget = budget_report.memory_budget(found.plan, quantized.qgraph, budget_report.parse_size(config.budget), device)
    budget_report.check_budget(budget, found.plan, quantized.qgraph)
    return found


def _fill_device(quantized: Quantized, search: WidthSearch, config: ExportConfig, device: Device) -> tuple[Quantized, Found]:
    """The widest weights with which the machine fits the device's blocks and logic, and --budget: a search for folds and storage at each size tried."""
    narrowest, widest = search.sizes
    low, high = narrowest / 8 + 1, min(widest / 8 + 1, float(weight_budget_bytes(config)))

    def fits(size: float) -> tuple[Quantized, Found] | None:
        try:
            return _at_size(quantized, search, config, device, size)
        except CheckFailedError:
            return None

    # The narrowest last: where even they do not fit, what they lack is the message.
    return _widest(fits, low, high) or _at_size(quantized, search, config, device, low)


def _widened(quantized: Quantized, search: WidthSearch, config: ExportConfig, max_drop: float, device: Device) -> tuple[Quantized, Found]:
    """The weights that --max-drop chose, widened into the blocks that their machine leaves idle, as far as that costs no frames: without --target-fps the
    wider machine is as fast as theirs, with it fast enough. Those bits are free, and the expected drop is an estimate on few images."""
    assert quantized.widths is not None
    first = _within(quantized, config, device)

    def is_free(size: float) -> tuple[Quantized, Found] | None:
        try:
            wider = _at_size(quantized, search, config, device, size)
        except CheckFailedError:
            return None
        slower = config.target_fps is None and wider[1].plan.interval_cycles > first.plan.interval_cycles
        return None if slower else wider

    low = quantized.widths.weight_bits / 8
    best = _widest(is_free, low, min(search.sizes[1] / 8 + 1, low + IDLE_SHARE * _idle_bytes(first)))
    if best is None or best[0].widths is None:
        return quantized, first
    drop = search.expected_drop(best[0].widths)
    # The estimate of another size may say more by chance; the promise is held to the one that is built.
    if drop.top1 + drop.error > max_drop:
        return quantized, first
    return replace(best[0], widths=replace(best[0].widths, drop=drop)), best[1]


def _widest(built: Callable[[float], tuple[Quantized, Found] | None], low: float, high: float) -> tuple[Quantized, Found] | None:
    """What `built` makes of the largest size above `low` and up to `high` bytes of which it makes anything, by bisection; None where there is none, or where
    the two are as good as equal."""
    if high <= FINE * low:
        return None
    best = built(high)
    if best is not None:
        return best
    while high > FINE * low:
        middle = (low * high) ** 0.5
        found = built(middle)
        if found is None:
            high = middle
        else:
            best, low = found, middle
    return best


def _idle_bytes(found: Found) -> float:
    """What the blocks hold that the limits allow and the machine does not use."""
    limits = found.limits
    assert limits is not None
    return ((limits.bram18 - found.resources.bram18) * devices.BRAM18_BITS + (limits.uram - found.resources.uram) * devices.URAM_BITS) / 8


SMALLEST = "smallest"
"""What --device may be called besides a device."""


def smallest_device(quantized: Quantized, config: ExportConfig, progress: Callable[[str, int, int], None]) -> tuple[Quantized, Found, Device, ExportConfig]:
    """The device with the least on-chip memory that holds the network at all goals of `config`, as `fold_model` for it; `config` with its name and with a
    clock that it closes at.

    Raises CheckFailedError when none does: with what the largest one lacks.
    """
    known = sorted(devices.load_devices(), key=lambda d: (d.memory_bits, d.lut, d.name))
    refused: CheckFailedError | None = None
    for done, device in enumerate(known):
        progress("try devices", done, len(known))
        own = replace(config, device=device.name, clock_mhz=min(config.clock_mhz, float(device.max_clock_mhz)))
        try:
            return *fold_model(quantized, own, device), device, own
        except CheckFailedError as error:
            refused = error
    assert refused is not None
    raise refused


def choose_plan(qgraph: QuantGraph, config: ExportConfig, device: Device | None) -> Found:
    """The plan of --folding, held to the same limits as a searched one, or the search's.

    Raises:
        InputError: a folding.json that cannot be read or is not legal. CheckFailedError: the goal cannot be met, or the given plan breaks a limit.
    """
    config = config.resolved()
    assert config.weight_storage is not None
    goal = Goal(config.clock_mhz, config.target_fps, config.max_dsp, config.utilisation, config.weights, config.weight_storage)
    if config.folding is None:
        return _stored(search(qgraph, goal, device), qgraph, config, goal, device)
    try:
        text = Path(config.folding).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--folding {config.folding}: cannot be read ({error}); the folding.json of an export was expected") from error
    return _stored(check_plan(folding.folding_from_json(text, qgraph), goal, device), qgraph, config, goal, device)


def _stored(found: Found, qgraph: QuantGraph, config: ExportConfig, goal: Goal, device: Device | None) -> Found:
    """`found` with its weights stored as --weight-storage says, within the device's limits."""
    assert config.weight_storage is not None
    plan = with_storage(found.plan, qgraph, config.weight_storage, device, found.limits)
    if plan is found.plan:
        return found
    return replace(check_plan(plan, goal, device), bound_cycles=found.bound_cycles)
