"""verification.json adds up over runs, keeps nothing of another export, and never hides a failure."""

from __future__ import annotations

from typing import Any

from fpga_squeeze.verify.record import merged

STAGES = ("conv1", "pool1")


def run(*names: str, wrong: int = 0, faults: tuple[str, ...] = (), frames: int = 2, simulator: str | None = None) -> dict[str, Any]:
    checks = [
        {"stage": s, "implementation": n, "compared": 100 * frames, "mismatches": wrong if n != "fast" else 0, "first_difference": None}
        for n in ("fast", *names)
        for s in STAGES
    ]
    rtl = {"simulator": simulator, "fps": 1.0} if simulator else None
    return {"ok": not wrong and not faults, "frames": frames, "checks": checks, "faults": list(faults), "rtl": rtl}


def implementations(record: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(c["implementation"] for c in record["checks"]))


def test_runs_of_different_implementations_add_up() -> None:
    first = merged(None, run("hls"), ("fast", "hls"), "m1")
    both = merged(first, run("icarus", frames=1, simulator="icarus"), ("fast", "icarus"), "m1", {"stalls": "random:3"})
    assert implementations(both) == ["fast", "hls", "icarus"]
    assert both["ok"] and both["rtl"]["simulator"] == "icarus" and both["frames"] == 2
    assert both["implementations"]["icarus"]["options"] == {"stalls": "random:3"} and both["implementations"]["hls"]["frames"] == 2
    assert both["implementations"]["fast"]["frames"] == 1, "the slow reference is run on the first frame only"
    again = merged(both, run("verilator", simulator="verilator"), ("fast", "verilator"), "m1")
    assert implementations(again) == ["fast", "hls", "verilator", "icarus"]


def test_another_export_or_an_unknown_record_starts_anew() -> None:
    first = merged(None, run("hls"), ("fast", "hls"), "m1")
    assert implementations(merged(first, run("icarus", simulator="icarus"), ("fast", "icarus"), "m2")) == ["fast", "icarus"]
    old_shape = run("hls")
    assert implementations(merged(old_shape, run("icarus", simulator="icarus"), ("fast", "icarus"), "m1")) == ["fast", "icarus"]


def test_a_failure_replaces_an_earlier_success_and_is_cured_only_by_its_own_kind() -> None:
    good = merged(None, run("hls"), ("fast", "hls"), "m")
    bad = merged(good, run("hls", wrong=3), ("fast", "hls"), "m")
    assert not bad["ok"] and len(bad["checks"]) == 4
    other = merged(bad, run("icarus", simulator="icarus"), ("fast", "icarus"), "m")
    assert not other["ok"], "an RTL run must not cure an HLS failure"
    assert merged(other, run("hls"), ("fast", "hls"), "m")["ok"]


def test_faults_stay_with_the_implementation_that_had_them() -> None:
    both = run("hls", "icarus", simulator="icarus", faults=("beats left in a stream", "run none: tlast missing"))
    record = merged(None, both, ("fast", "hls", "icarus"), "m")
    assert record["implementations"]["hls"]["faults"] == ["beats left in a stream"]
    assert record["implementations"]["icarus"]["faults"] == ["run none: tlast missing"]
    record = merged(record, run("icarus", simulator="icarus"), ("fast", "icarus"), "m")
    assert record["faults"] == ["beats left in a stream"] and not record["ok"]
    assert merged(record, run("hls"), ("fast", "hls"), "m")["ok"]


def test_an_implementation_that_gave_nothing_does_not_keep_its_old_rows() -> None:
    good = merged(None, run("hls"), ("fast", "hls"), "m")
    nothing = merged(good, run(), ("fast", "hls"), "m")
    assert implementations(nothing) == ["fast"] and not nothing["ok"]
