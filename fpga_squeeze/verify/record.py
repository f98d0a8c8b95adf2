"""verification.json: what verify has shown of one export so far. Runs of different implementations add up; another export starts anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fpga_squeeze.verify.checks import REFERENCE_FRAMES


def merged(
    old: Mapping[str, Any] | None, new: Mapping[str, Any], ran: Iterable[str], manifest: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record after a run.

    The shape of one run (`Verification.to_json`) with every implementation's latest checks, and beside it "manifest_sha256" and
    "implementations": {name: {"frames", "faults", "rtl", "options"}}. "ok" speaks for all of them.

    Args:
        old: the record so far; ignored when it is of another export. `new`: the run as JSON.
        ran: implementations that the run started, also those that gave no row: their earlier results are stale.
        manifest: digest of the export's manifest.json.
        options: what the run was told, such as a stall profile.
    """
    same = old is not None and old.get("manifest_sha256") == manifest and isinstance(old.get("implementations"), dict)
    before: Mapping[str, Any] = old if same and old is not None else {"checks": [], "implementations": {}, "rtl": None}
    names = list(dict.fromkeys((*ran, *(c["implementation"] for c in new["checks"]))))
    rtl, simulator = new.get("rtl"), (new.get("rtl") or {}).get("simulator")
    rtl_faults = [f for f in new["faults"] if f.startswith("run ")] if simulator else []
    others = [f for f in new["faults"] if f not in rtl_faults]
    known = {name: entry for name, entry in before["implementations"].items() if name not in names}
    for name in names:
        is_rtl = name == simulator
        faults = rtl_faults if is_rtl else [] if name == "fast" else others
        frames = min(new["frames"], REFERENCE_FRAMES) if name == "fast" else new["frames"]
        known[name] = {"frames": frames, "faults": faults, "rtl": rtl if is_rtl else None, "options": dict(options or {}) if is_rtl else {}}
    checks = [c for c in before["checks"] if c["implementation"] not in names] + list(new["checks"])
    faults = list(dict.fromkeys(f for entry in known.values() for f in entry["faults"]))
    ok = bool(checks) and not faults and all(c["compared"] and not c["mismatches"] for c in checks)
    complete = {c["implementation"] for c in checks} >= set(known)
    return {
        "ok": ok and complete, "frames": max(entry["frames"] for entry in known.values()), "checks": sorted(checks, key=lambda c: _order(c["implementation"])),
        "faults": faults, "rtl": rtl if rtl is not None else before["rtl"], "manifest_sha256": manifest, "implementations": dict(sorted(known.items())),
    }  # fmt: skip


def _order(implementation: str) -> tuple[int, str]:
    """The simulator first, then HLS, RTL, the rest."""
    usual = ("fast", "hls", "verilator", "icarus")
    return (usual.index(implementation), "") if implementation in usual else (len(usual), implementation)
