"""`fpga-squeeze synth`: real yosys on small stages, the cache, falsified estimates, the vendors' reports in their documented formats."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fpga_squeeze import jobs, pipeline
from fpga_squeeze.config import load_config
from fpga_squeeze.emit.rtl_context import rtl_design
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.packing import LUT_RULE
from fpga_squeeze.synth import run, vitis, vivado, yosys
from fpga_squeeze.synth.cells import count_cells
from fpga_squeeze.synth.result import SynthResult, SynthRow
from fpga_squeeze.synth.run import run_units, synth_export
from fpga_squeeze.synth.units import Unit, units_of
from fpga_squeeze.synth.yosys import find_yosys, read_stat
from sim.elaborate import require_yosys
from tests.conftest import RunCli

LIB = Path(__file__).resolve().parent.parent / "templates/rtl/lib"


@pytest.fixture
def export(digits_out: Path, tmp_path: Path) -> Path:
    """A copy of the digits export that a test may write into."""
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    return out


def digits_units(out: Path, device_name: str = "k26", stages: tuple[str, ...] | None = None) -> tuple[Unit, ...]:
    """Units of an export for a device."""
    opened = pipeline.open_export(out)
    plan = pipeline.open_plan(opened)
    device = find_device(device_name)
    config = load_config(out / "model/build.toml")
    return units_of(out / "rtl", plan, rtl_design(opened.qgraph, plan, pipeline.rtl_options(config, device)), device, stages)


# ---------------------------------------------------------------- yosys


@pytest.mark.parametrize(("device", "stages"), [("k26", ("fire2.squeeze", "pool2")), ("pynq-z2", ("fire2.squeeze",))])
def test_small_stages_are_within_the_bars(export: Path, device: str, stages: tuple[str, ...]) -> None:
    require_yosys()
    result = synth_export(export, "yosys", find_device(device), stages)
    assert [row.name for row in result.rows] == list(stages)
    assert result.ok, result.first_failure
    assert all(row.result.lut > 30 and row.result.ff > 30 and not row.cached for row in result.rows)


def test_blocks_are_equal_on_ecp5(export: Path) -> None:
    """Multipliers, block memories and flip-flops; LUTs of an ECP5 are an estimate (docs/resources.md)."""
    require_yosys()
    row = synth_export(export, "yosys", find_device("ulx3s"), ("fire2.squeeze",)).rows[0]
    assert row.result.dsp == row.estimate.dsp == 1
    assert row.result.bram18 == row.estimate.bram18
    assert row.within("ff") and 0.5 < (row.ratio("lut") or 0) < 2


def test_the_command_prints_fails_and_is_reported(export: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    require_yosys()
    good = run_cli("synth", export, "--stages", "pool2", "--json")
    assert good.code == 0, good.err
    body = json.loads(good.out)
    assert body["rows"][0]["ok"] and body["tool"] == "yosys" and body["target"] == "xcup"
    assert json.loads((export / "report/synthesis.json").read_text()) == body
    again = json.loads(run_cli("synth", export, "--stages", "pool2", "--json").out)
    assert again["rows"][0]["cached"] and again["rows"][0]["result"] == body["rows"][0]["result"]
    assert "1 of 1 modules within the bars" in run_cli("report", export).out

    honest = run.units_of

    def falsified(*arguments: object) -> tuple[Unit, ...]:
        return tuple(replace(u, estimate=replace(u.estimate, lut=2 * u.estimate.lut, bram18=7)) for u in honest(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(run, "units_of", falsified)
    bad = run_cli("synth", export, "--stages", "pool2")
    assert bad.code == 1
    assert "off" in bad.out and "pool2: bram18 7 estimated" in bad.err


def test_cache_goes_by_content(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def stand_in(unit: Unit, *_: object) -> tuple[Resources, float]:
        calls.append(unit.name)
        return Resources(lut=len(calls)), 1.5

    monkeypatch.setattr(run, "run_unit", stand_in)
    tool = yosys.Yosys("yosys", "0.70", ("false",))
    units = digits_units(export, stages=("pool2", "fire2.squeeze"))
    cache = tmp_path / "cache"

    def rows(version: str = "0.70") -> tuple[SynthRow, ...]:
        return run_units(units, export / "rtl", "xcup", replace(tool, version=version), cache, 1)

    first = rows()
    assert sorted(calls) == ["fire2.squeeze", "pool2"] and not any(r.cached for r in first)
    assert [r.result for r in rows()] == [r.result for r in first] and len(calls) == 2
    # The same module under another name, with other comments: not run again.
    renamed = replace(units[1], top="other", name="other", source=re.sub(rf"\b{units[1].top}\b", "other", units[1].source) + "// new")
    assert run_units((renamed,), export / "rtl", "xcup", tool, cache, 1)[0].cached and len(calls) == 2
    # Weights, library, version: run again.
    memory = next(name for u in units for name in u.memories if "weights" in name)
    path = export / "rtl/weights" / memory
    path.write_text(path.read_text().replace("0", "1", 1))
    rows()
    assert len(calls) == 3
    (export / "rtl/lib/fsq_skid.sv").write_text((export / "rtl/lib/fsq_skid.sv").read_text() + "\n")
    rows()
    assert len(calls) == 5
    rows("0.71")
    assert len(calls) == 7
    for damage in ("", "{", '{"resources": {"lut": 1, "odd": 2}}', '{"resources": {"lut": "x"}}', "[]"):
        for file in cache.glob("*.json"):
            file.write_text(damage)
        before = len(calls)
        assert not any(r.cached for r in rows("0.71")) and len(calls) == before + 2


def test_unknown_names_are_refused(export: Path, run_cli: RunCli) -> None:
    assert run_cli("synth", export, "--stages", "fire99").code == 2
    with pytest.raises(InputError, match="--stages fire99: no such stage; known: conv1, fire2"):
        digits_units(export, stages=("fire99",))
    with pytest.raises(InputError, match="--tool quartus"):
        synth_export(export, "quartus")
    with pytest.raises(InputError, match="no flow"):
        yosys.yosys_family(replace(find_device("ulx3s"), family="nexus"))


def test_a_tool_that_fails_says_why(export: Path, tmp_path: Path) -> None:
    require_yosys()
    broken = "module fsq_broken (input wire clk); fsq_nothing x (.clk(clk)); endmodule"
    unit = replace(digits_units(export, stages=("pool2",))[0], source=broken, top="fsq_broken")
    with pytest.raises(CheckFailedError, match=r"pool2: .*fsq_nothing"):
        run_units((unit,), export / "rtl", "xcup", find_yosys(), tmp_path / "cache", 1)


def test_cells_that_nobody_knows_are_not_dropped() -> None:
    assert count_cells({"LUT6": 2, "RAM32M": 1, "DSP48E1": 1, "RAMB36E1": 1, "RAMB18E1": 1, "CARRY4": 9}) == Resources(1, 3, 0, 6, 0)
    with pytest.raises(CheckFailedError, match=r"\$mul"):
        count_cells({"LUT6": 2, "$mul": 1})
    with pytest.raises(CheckFailedError, match="statistics"):
        read_stat("{}")
    assert read_stat('{"modules": {"\\\\top": {}}, "design": {"num_cells_by_type": {"FDRE": 3, "top": 1}}}') == Resources(ff=3)


def test_bars_of_a_row() -> None:
    row = SynthRow("s", "stage", Resources(1, 2, 0, 125, 75), Resources(1, 2, 0, 100, 100), 0, False)
    assert row.ok and row.ratio("lut") == 1.25 and row.ratio("uram") is None
    for wrong in ({"dsp": 2}, {"bram18": 1}, {"uram": 1}, {"lut": 126}, {"lut": 74}, {"ff": 74}):
        assert replace(row, estimate=replace(row.estimate, **wrong)).failed == tuple(wrong)
    tiny = SynthRow("l", "link", Resources(lut=20), Resources(lut=5), 0, False)
    assert tiny.ok and not replace(tiny, kind="stage").ok
    assert not SynthResult("yosys", "0.70", "xcup", ()).ok


def test_the_library_has_one_memory_rule() -> None:
    """fsq_memory, fsq_fifo and fsq_parameter_memory hold the numbers of hardware/packing.py."""
    for name in ("memory", "fifo", "parameter_memory"):
        text = (LIB / f"fsq_{name}.sv").read_text()
        four, six = text.split("`ifdef FSQ_LUT4")[1].split("`endif")[0].split("`else")
        for part, inputs in ((four, 4), (six, 6)):
            found = tuple(int(n) for n in re.findall(r"localparam LUT_(?:WORDS|BITS) = (\d+);", part))
            assert found == LUT_RULE[inputs], (name, inputs)


# ---------------------------------------------------------------- Vivado

HIERARCHY = """\
Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2023 Advanced Micro Devices, Inc. All Rights Reserved.
------------------------------------------------------------------------------------------------------------------------------
| Tool Version : Vivado v.2023.2 (lin64) Build 4029153 Fri Oct 13 20:13:54 MDT 2023
| Command      : report_utilization -hierarchical -file hierarchy.rpt
| Design       : squeezenet
| Device       : xck26-sfvc784-2LV-c
------------------------------------------------------------------------------------------------------------------------------

Utilization Design Information

1. Utilization by Hierarchy
---------------------------

+----------------------+-----------------+------------+------------+---------+------+------+--------+--------+------+------------+
|       Instance       |      Module     | Total LUTs | Logic LUTs | LUTRAMs | SRLs |  FFs | RAMB36 | RAMB18 | URAM | DSP Blocks |
+----------------------+-----------------+------------+------------+---------+------+------+--------+--------+------+------------+
| squeezenet           |           (top) |       1500 |       1400 |      60 |   40 | 1800 |      2 |      3 |    0 |         12 |
|   (squeezenet)       |           (top) |          0 |          0 |       0 |    0 |    0 |      0 |      0 |    0 |          0 |
|   pool2_stage        |           pool2 |        150 |        150 |       0 |    0 |  160 |      0 |      0 |    0 |          0 |
|   fire2_squeeze_stage|   fire2_squeeze |        310 |        270 |      40 |    0 |  420 |      1 |      1 |    0 |          3 |
|     engine           | fsq_conv_engine |        300 |        260 |      40 |    0 |  410 |      1 |      1 |    0 |          3 |
+----------------------+-----------------+------------+------------+---------+------+------+--------+--------+------+------------+
* Note: The sum of lower-level cells may be larger than their parent cells total, due to cross-hierarchy LUT combining
"""

TOTALS = """\
| Tool Version : Vivado v.2019.1 (lin64) Build 2552052
+-------------------------+-------+-------+-----------+-------+
|        Site Type        |  Used | Fixed | Available | Util% |
+-------------------------+-------+-------+-----------+-------+
| CLB LUTs*               | 1,500 |     0 |    117120 |  1.28 |
| CLB Registers           |  1800 |     0 |    234240 |  0.77 |
| Block RAM Tile          |   3.5 |     0 |       144 |  2.43 |
|   RAMB36/FIFO*          |     2 |     0 |       144 |  1.39 |
|   RAMB18                |     3 |     0 |       288 |  1.04 |
| URAM                    |     1 |     0 |        64 |  1.56 |
| DSPs                    |    12 |     0 |      1248 |  0.96 |
+-------------------------+-------+-------+-----------+-------+
"""


def test_vivado_hierarchy_is_read(export: Path) -> None:
    instances = vivado.read_hierarchy(HIERARCHY)
    assert [i.path for i in instances] == ["", "pool2_stage", "fire2_squeeze_stage", "fire2_squeeze_stage/engine"]
    assert instances[2].resources == Resources(3, 3, 0, 310, 420) and instances[3].module == "fsq_conv_engine"
    assert vivado.tool_version(HIERARCHY) == "Vivado v.2023.2"
    units = digits_units(export, stages=("pool2", "fire2.squeeze"))
    rows = vivado.rows_of(units, instances, 9.0)
    assert {r.name: r.result.lut for r in rows} == {"fire2.squeeze": 310, "pool2": 150} and rows[0].seconds == 9.0
    with pytest.raises(CheckFailedError, match="conv1_stage is not in the utilization report"):
        vivado.rows_of(digits_units(export, stages=("conv1",)), instances, 0.0)
    # Without URAM on the part, and with the name of older versions.
    old = re.sub(r"\| +(?:URAM|0) (?=\| +(?:DSP Blocks|\d+) \|$)", "", HIERARCHY, flags=re.M).replace("DSP Blocks", "DSP48 Blocks")
    assert vivado.read_hierarchy(old)[2].resources == Resources(3, 3, 0, 310, 420)


def test_vivado_totals_are_read() -> None:
    assert vivado.read_totals(TOTALS) == Resources(12, 7, 1, 1500, 1800)
    assert vivado.read_totals(TOTALS.replace("CLB LUTs*", "Slice LUTs").replace("CLB Registers", "Slice Registers")).lut == 1500
    with pytest.raises(CheckFailedError, match="no row DSPs"):
        vivado.read_totals(TOTALS.replace("DSPs", "Else"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("|       Instance       |", "| Cell |", "no table"), ("DSP Blocks", "Multipliers", "no column for dsp"),
        ("|  420 |", "| many |", "a number was expected"),
        ("|        270 |", "", "columns were expected"),
    ],
)  # fmt: skip
def test_malformed_vivado_reports_are_refused(old: str, new: str, message: str) -> None:
    assert old in HIERARCHY
    with pytest.raises(CheckFailedError, match=message):
        vivado.read_hierarchy(HIERARCHY.replace(old, new))


def test_vivado_table_without_rows_is_refused() -> None:
    head = HIERARCHY[: HIERARCHY.index("| squeezenet  ")]
    with pytest.raises(CheckFailedError, match="no rows"):
        vivado.read_hierarchy(head)


def test_vivado_is_run_when_installed(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program named vivado that checks what it is given and writes the report."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "sample.rpt").write_text(HIERARCHY)
    program = tools / "vivado"
    program.write_text(f'#!/bin/sh\ngrep -q "synth_design -top squeezenet -part xck26" synth.tcl || exit 3\ncp "{tmp_path}/sample.rpt" hierarchy.rpt\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    result = synth_export(export, "vivado", find_device("k26"), ("pool2", "fire2.squeeze"))
    assert result.version == "Vivado v.2023.2" and result.compared and {r.result.ff for r in result.rows} == {160, 420}
    program.write_text("#!/bin/sh\necho 'ERROR: [Synth 8-439] module missing'\nexit 1\n")
    with pytest.raises(CheckFailedError, match=r"Synth 8-439"):
        synth_export(export, "vivado", find_device("k26"))
    with pytest.raises(InputError, match="no AMD part"):
        synth_export(export, "vivado", find_device("ulx3s"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for tool in ("vivado", "vitis"):
        with pytest.raises(ToolMissingError, match=f"--tool {tool}"):
            synth_export(export, tool, find_device("k26"))


# ---------------------------------------------------------------- Vitis HLS

CSYNTH = """\
<profile>
<ReportVersion><Version>2023.2</Version></ReportVersion>
<UserAssignments><unit>ns</unit><ProductFamily>zynquplus</ProductFamily><Part>xck26-sfvc784-2LV-c</Part></UserAssignments>
<AreaEstimates>
<Resources><BRAM_18K>21</BRAM_18K><DSP>106</DSP><FF>9000</FF><LUT>8000</LUT><URAM>2</URAM></Resources>
<AvailableResources><BRAM_18K>288</BRAM_18K><DSP>1248</DSP><FF>234240</FF><LUT>117120</LUT><URAM>64</URAM></AvailableResources>
</AreaEstimates>
</profile>
"""


def test_vitis_reports_are_read(export: Path, tmp_path: Path) -> None:
    assert vitis.read_csynth(CSYNTH) == Resources(106, 21, 2, 8000, 9000)
    assert vitis.read_csynth(CSYNTH.replace("DSP>", "DSP48E>").replace("<URAM>2</URAM>", "")) == Resources(106, 21, 0, 8000, 9000)
    (tmp_path / "csynth.xml").write_text(CSYNTH)
    (tmp_path / "fire2_csynth.xml").write_text(CSYNTH.replace("8000", "4000"))
    plan = pipeline.open_plan(pipeline.open_export(export))
    result = vitis.read_reports(tmp_path, "squeezenet", plan, find_device("k26"))
    assert [r.name for r in result.rows] == ["fire2", "squeezenet"] and not result.compared and result.ok
    assert result.rows[0].result.lut == 4000 and result.version == "Vitis HLS 2023.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no xml", "not XML"), ("<profile/>", "AreaEstimates"), (CSYNTH.replace("<FF>9000</FF>", ""), "FF"), (CSYNTH.replace("9000", "many"), "FF"),
    ],
)  # fmt: skip
def test_malformed_vitis_reports_are_refused(text: str, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        vitis.read_csynth(text)


def test_a_missing_yosys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    with pytest.raises(ToolMissingError, match="pip install"):
        find_yosys()


def test_reports_know_synthesis() -> None:
    assert "synthesis" in jobs.REPORTS
