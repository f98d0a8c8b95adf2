"""performance.json: figures follow from the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machines import squeezenet, tiny

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.cost import engine_dsp, plan_dsp
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.report.performance import performance


def test_report_of_squeezenet() -> None:
    qgraph = squeezenet("1.1", 224)
    plan = plan_machine(qgraph)
    report = performance(plan, qgraph).to_json()
    assert report["macs"] == 349_151_936 == sum(s["macs"] for s in report["stages"])
    assert report["multipliers"] == report["dsp"] == sum(s["multipliers"] for s in report["stages"])
    assert report["interval_cycles"] == max(s["cycles"] for s in report["stages"])
    assert report["mac_efficiency"] == pytest.approx(report["macs"] / report["multipliers"] / report["interval_cycles"], abs=1e-6)
    assert report["fps"] == pytest.approx(200e6 / report["interval_cycles"], abs=1e-3) and report["fps"] >= 500
    assert report["bottleneck"] in {s["stage"] for s in report["stages"]} and report["meets_target"] is True
    assert [s["name"] for s in report["stages"]][:5] == ["conv1", "pool1", "fire2.squeeze", "fire2.expand1x1", "fire2.expand3x3"]
    keys = ["macs", "multipliers", "dsp", "interval_cycles", "clock_mhz", "fps", "mac_efficiency", "bottleneck", "stages"]
    assert set(keys) <= set(report) and {"name", "macs", "multipliers", "cycles", "p_oc", "p_ic", "p_k"} <= set(report["stages"][0])


def test_a_missed_target_is_said() -> None:
    qgraph = tiny()
    plan = plan_machine(qgraph, 200.0, 781_250)
    report = performance(plan, qgraph)
    assert report.meets_target is (plan.interval_cycles <= 256)
    assert not performance(replace(plan, target_cycles=plan.interval_cycles - 1), qgraph).meets_target


def test_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="multiply-accumulates"):
        performance(plan_machine(tiny()), squeezenet("1.1", 64))


def test_dsp_of_an_engine() -> None:
    engine = plan_machine(tiny()).stages[0].engines[0]
    n = engine.fold.multipliers
    assert engine_dsp(engine) == n
    wide = replace(engine, weight_bits=16, in_fmt=TensorFormat(16, 0, signed=False))
    assert engine_dsp(wide) == n and engine_dsp(wide, find_device("ulx3s")) == n
    # Two operands beyond 18 bits need two blocks: the model does not claim what does not fit.
    assert engine_dsp(replace(wide, weight_bits=20, in_fmt=TensorFormat(20, 0, signed=False))) == 2 * n
    assert plan_dsp(plan_machine(tiny())) == plan_machine(tiny()).multipliers
