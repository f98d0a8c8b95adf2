"""What `fpga-squeeze synth` returns: the model's estimate beside the tool's result, a row a stage and a row a link."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpga_squeeze.hardware.cost import Resources

EXACT = ("dsp", "bram18", "uram")
"""Counted in blocks: estimate and result must be equal."""

CLOSE = ("lut", "ff")
"""Estimate and result may differ by TOLERANCE of the result."""

TOLERANCE = 0.25
LINK_TOLERANCE = 0.4
"""Of a link: equal converters between lanes of which neither divides the other come out of yosys up to 1.7 times as large as one another."""
LINK_SLACK = 16
"""LUTs and flip-flops that a link's estimate may be off in any case: a link is a FIFO of a few dozen of them."""


@dataclass(frozen=True)
class SynthRow:
    """One module. `kind`: "stage" or "link" (width converter and FIFO). `seconds` of the tool's run, 0 for a result from the cache."""

    name: str
    kind: str
    estimate: Resources
    result: Resources
    seconds: float
    cached: bool

    def ratio(self, resource: str) -> float | None:
        """Estimate / result; None where the result is 0."""
        result = getattr(self.result, resource)
        return float(getattr(self.estimate, resource) / result) if result else None

    def within(self, resource: str) -> bool:
        """Blocks are equal; LUTs and flip-flops within TOLERANCE of the result (a link: LINK_TOLERANCE, or LINK_SLACK)."""
        estimate, result = getattr(self.estimate, resource), getattr(self.result, resource)
        if resource in EXACT:
            return bool(estimate == result)
        tolerance, slack = (LINK_TOLERANCE, LINK_SLACK) if self.kind == "link" else (TOLERANCE, 0)
        return bool(abs(estimate - result) <= max(tolerance * result, slack))

    @property
    def failed(self) -> tuple[str, ...]:
        """Resources whose estimate is off."""
        return tuple(r for r in (*EXACT, *CLOSE) if not self.within(r))

    @property
    def ok(self) -> bool:
        """Every resource is within its bar."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """The row of resources' "synthesis" object."""
        ratios = {r: None if self.ratio(r) is None else round(self.ratio(r) or 0.0, 4) for r in CLOSE}
        return {
            "name": self.name, "kind": self.kind, "estimate": asdict(self.estimate), "result": asdict(self.result), "ratio": ratios,
            "ok": self.ok, "failed": list(self.failed), "seconds": round(self.seconds, 1), "cached": self.cached,
        }  # fmt: skip


@dataclass(frozen=True)
class SynthResult:
    """All rows of one run. `version` of the tool, `target`: the family (yosys) or the part (Vivado, Vitis).

    `compared`: False where the tool builds another machine than the RTL that the model describes (Vitis HLS), so that rows are no test of the model.
    """

    tool: str
    version: str
    target: str
    rows: tuple[SynthRow, ...]
    compared: bool = True

    @property
    def ok(self) -> bool:
        """Rows there are, and every one is within the bars."""
        return bool(self.rows) and (not self.compared or all(row.ok for row in self.rows))

    @property
    def estimate(self) -> Resources:
        """Sum of the estimates."""
        return _sum(row.estimate for row in self.rows)

    @property
    def result(self) -> Resources:
        """Sum of the results."""
        return _sum(row.result for row in self.rows)

    @property
    def first_failure(self) -> str | None:
        """One line on the first row that is off, None when all are within the bars."""
        if not self.rows:
            return f"{self.tool}: nothing was synthesised"
        bad = next((row for row in self.rows if not row.ok), None)
        if bad is None or not self.compared:
            return None
        said = ", ".join(f"{r} {getattr(bad.estimate, r)} estimated, {getattr(bad.result, r)} synthesised" for r in bad.failed)
        return f"{bad.name}: {said}"

    def to_json(self) -> dict[str, Any]:
        """The content of report/synthesis.json."""
        return {
            "tool": self.tool, "version": self.version, "target": self.target, "compared": self.compared, "ok": self.ok,
            "tolerance": TOLERANCE, "estimate": asdict(self.estimate), "result": asdict(self.result), "rows": [row.to_json() for row in self.rows],
        }  # fmt: skip


def _sum(values: Any) -> Resources:
    total = Resources()
    for value in values:
        total = total + value
    return total
