"""Every Tcl script of an export, run by a real tclsh against stand-ins of Vivado's and Vitis HLS's commands (tests/vivado), and broken scripts that must fail.

The stand-ins know the ports, interfaces and properties of the IP cores by their product guides; nothing is synthesised, and no Vivado was at hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fpga_squeeze.emit.board_table import load_zynq_boards, read_zynq_boards
from fpga_squeeze.emit.render import static_file
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.folding import plan_machine
from tests.board_amd_case import Case, emitted
from tests.test_loader_network import CLOCK, FPS, lively_tiny, loaded

STANDINS = Path(__file__).parent / "vivado"
BOARDS = [board.name for board in load_zynq_boards()]
PARTS = " ".join([*(board.part for board in load_zynq_boards()), "xczu3eg-sbva484-1-e"])
BOARD_FILES = "tul.com.tw:pynq-z2:part0:1.0 xilinx.com:zcu102:part0:3.3 xilinx.com:zcu102:part0:3.4 xilinx.com:zcu104:part0:1.1 xilinx.com:kv260_som:part0:1.4"


@dataclass(frozen=True)
class Ran:
    """Exit code, both outputs, and the commands that the script gave, a line each."""

    code: int
    text: str
    commands: tuple[str, ...]


def tcl(script: Path, *arguments: str, standin: str = "standin.tcl", board_files: str = BOARD_FILES, slack: str = "0.123") -> Ran:
    """Run a script on the stand-ins; skips where no tclsh is."""
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed: apt-get install tcl")
    record = script.parent / "record.txt"
    env = {**os.environ, "FSQ_PARTS": PARTS, "FSQ_BOARD_PARTS": board_files, "FSQ_WNS": slack, "FSQ_RECORD": str(record)}
    done = subprocess.run(
        ["tclsh", STANDINS / standin, script, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False, cwd=script.parent
    )
    commands = tuple(record.read_text().splitlines()) if record.exists() else ()
    return Ran(done.returncode, done.stdout + done.stderr, commands)


def passes(script: Path, *arguments: str, **options: str) -> Ran:
    """The script must run to its end."""
    ran = tcl(script, *arguments, **options)
    assert ran.code == 0 and "STANDIN ok" in ran.text, ran.text
    return ran


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A machine with a load port, one with its weights in files, one that sends its best three classes in beats of 64 bits."""
    folder, qgraph = tmp_path_factory.mktemp("vivado"), lively_tiny(3)
    rom = plan_machine(qgraph, CLOCK, FPS)
    return {
        "loaded": emitted(folder / "loaded", qgraph, loaded(qgraph)),
        "rom": emitted(folder / "rom", qgraph, rom),
        "best": emitted(folder / "best", qgraph, rom, RtlOptions(top="net", top_k=3)),
    }


@pytest.fixture
def work(machines: dict[str, Case], tmp_path: Path) -> Path:
    """A copy of the machine with a load port, to break."""
    shutil.copytree(machines["loaded"].out, tmp_path / "out", ignore=shutil.ignore_patterns("build", "*.bit", "*.hwh"))
    return tmp_path / "out"


# ---------------------------------------------------------------- scripts as they are written


@pytest.mark.parametrize("name", ["loaded", "rom", "best"])
@pytest.mark.parametrize("board", BOARDS)
def test_a_bitstream_for_every_board(machines: dict[str, Case], name: str, board: str) -> None:
    case = machines[name]
    ran = passes(case.out / "board/vivado/build.tcl", board)
    text = "\n".join(ran.commands)
    for suffix in ("bit", "hwh"):
        assert (case.out / f"board/pynq/{case.top}_{board}.{suffix}").is_file()
    assert (case.out / f"board/vivado/build/{board}/{case.top}_{board}.xsa").is_file()
    part = next(b.part for b in load_zynq_boards() if b.name == board)
    assert f"create_project {case.top}_{board} {part}" in text
    assert ("set_property /ps CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ 200" if board == "pynq-z2" else "PL0_REF_CTRL__FREQMHZ 200") in text
    assert "set_property /dma CONFIG.c_m_axis_mm2s_tdata_width 32" in text
    assert f"set_property /dma CONFIG.c_m_axi_s2mm_data_width {64 if name == 'best' else 32}" in text
    assert f"set_property /dma CONFIG.c_addr_width {32 if board == 'pynq-z2' else 40}" in text
    assert ("/load_dma" in text) == (name == "loaded") and ("_weights.hex" in text) == (name != "loaded")
    assert (f"set_property /machine CONFIG.WEIGHTS {(case.out / 'rtl/weights').resolve()}/" in text) == (name != "loaded")
    assert "validate_bd_design" in text and "launch_runs impl_1" in text and "set_msg_config {Synth 8-4445} ERROR" in text
    if board == "zcu102":
        assert "set_property project board_part xilinx.com:zcu102:part0:3.4" in text, "the newest board files were expected"


def test_addresses_are_the_ones_that_the_host_has(machines: dict[str, Case]) -> None:
    """build.tcl assigns what machine.hpp tells the C++ host."""
    case = machines["loaded"]
    header = (case.out / "board/host/machine.hpp").read_text()
    for board in BOARDS:
        ran = passes(case.out / "board/vivado/build.tcl", board, "stop=design")
        assigned = dict(re.findall(r"assign_bd_address /(\w+)/\S+ (0x\w+)", "\n".join(ran.commands)))
        row = re.search(rf'{{"{board}", (0x\w+), (0x\w+), (0x\w+)}}', header)
        assert row is not None and row.groups() == (assigned["dma"], assigned["control"], assigned["load_dma"])
        assert "launch_runs impl_1" not in ran.commands


def test_options_of_the_build(work: Path) -> None:
    script = work / "board/vivado/build.tcl"
    ran = passes(script, "zcu104", "clock_mhz=150", "jobs=2")
    assert any("PL0_REF_CTRL__FREQMHZ 150" in c for c in ran.commands)
    assert "which board?" in tcl(script).text
    refused = tcl(script, "zcu999")
    assert refused.code == 1 and "argument zcu999: a board (kv260, pynq-z2, zcu102, zcu104)" in refused.text
    missing = tcl(script, "pynq-z2", board_files="xilinx.com:zcu104:part0:1.1")
    assert missing.code == 1 and "no board files match tul.com.tw:pynq-z2:part0:*: install them" in missing.text
    for board in BOARDS:
        bare = passes(script, board, "preset=0", board_files="")
        assert not [c for c in bare.commands if "board_part" in c]


def test_a_missed_clock_gives_no_overlay(work: Path) -> None:
    late = tcl(work / "board/vivado/build.tcl", "zcu104", slack="-0.25")
    assert late.code == 1 and "the clock of 200 MHz is missed by 0.25 ns" in late.text
    assert not list((work / "board/pynq").glob("*.bit"))
    kept = passes(work / "board/vivado/build.tcl", "zcu104", "timing=warn", slack="-0.25")
    assert "WARNING" in kept.text and (work / "board/pynq/squeezenet_zcu104.bit").is_file()


def test_weights_in_ultraram_need_a_board_that_has_it(tmp_path: Path) -> None:
    qgraph = lively_tiny(3)
    plan = loaded(qgraph)
    first = plan.stages[0]
    stage = replace(first, engine=replace(first.engine, weight_storage="uram"))  # type: ignore[union-attr,type-var,call-arg]
    case = emitted(tmp_path, qgraph, replace(plan, stages=(stage, *plan.stages[1:])))
    for board in load_zynq_boards():
        ran = tcl(case.out / "board/vivado/build.tcl", board.name, "stop=design")
        assert (ran.code == 0) == board.has_uram, ran.text
        assert board.has_uram or "has no UltraRAM" in ran.text


def test_the_other_scripts_of_an_export(machines: dict[str, Case]) -> None:
    for case in machines.values():
        ran = passes(case.out / "rtl/build_vivado.tcl", "part=xczu3eg-sbva484-1-e", "synth=1", "period_ns=4")
        assert f"synth_design {case.top} out_of_context" in ran.commands and "create_clock 4" in ran.commands
        # The packaged core names its memory files by their whole path.
        assert (f"set_property parameter:WEIGHTS value {(case.out / 'rtl/weights').resolve()}/" in "\n".join(ran.commands)) == (case is not machines["loaded"])
        assert ran.commands[-1].startswith(f"ipx::save_core {case.top} ")
        passes(case.out / "board/vivado/package_ip.tcl", "part=xczu3eg-sbva484-1-e", f"ip={case.out / 'own ip'}")
    assert "part=NAME or ip=FOLDER was expected" in tcl(machines["rom"].out / "board/vivado/package_ip.tcl", "clock=3").text


def test_vitis_hls_scripts(digits_out: Path, tmp_path: Path) -> None:
    steps = ("csim=1", "csynth=1", "cosim=1", "export=1", "part=xczu7ev-ffvc1156-2-e")
    ran = passes(digits_out / "hls/build_prj.tcl", *steps, standin="standin_hls.tcl")
    assert all(f"{{{step}}}" in ran.text or f" {step}" in ran.text for step in ("csim_design", "csynth_design", "cosim_design", "export_design"))
    for line in (digits_out / "hls/hls_config.cfg").read_text().splitlines():
        key, _, value = line.partition("=")
        if key.endswith(".file"):
            assert (digits_out / "hls" / value).exists(), line
    shutil.copytree(digits_out, tmp_path / "out")
    script = tmp_path / "out/hls/build_prj.tcl"
    whole = script.read_text()
    for old, new, message in (
        ("fire2.cpp", "fire22.cpp", "fire22.cpp does not exist"), ("set_top squeezenet", "set_top squeezenets", "no source has the top function"),
        ("set_part $part", "", "no part before"), ("tb_data]", "tb_dat]", "names no folder"), ("csynth_design", "csynth_desing", "invalid command name"),
    ):  # fmt: skip
        assert old in whole
        script.write_text(whole.replace(old, new))
        broken = tcl(script, *steps, standin="standin_hls.tcl")
        assert broken.code == 1 and message in broken.text, (old, broken.text)


# ---------------------------------------------------------------- broken scripts must fail

BROKEN = [
    ("connect_bd_net [pin $reset] [pin resets/ext_reset_in]", "connect_bd_net [pin $reset] [pin resets/ext_reset]", "a pin resets/ext_reset was expected"),
    ("stream dma/M_AXIS_MM2S machine/s_axis", "stream dma/M_AXIS_MM2S machine/s_axi", "an interface machine/s_axi was expected"),
    ("stream machine/m_axis dma/S_AXIS_S2MM", "stream machine/m_axis dma/M_AXIS_MM2S", "is connected already"),
    ("stream memory/M00_AXI ps/$b(memory_port)", "", "interface .*S_AXI_HP0_FPD is not connected"),
    ("stream dma/M_AXI_S2MM memory/S01_AXI", "", "interface /dma/M_AXI_S2MM is not connected"),
    ("dma/m_axi_s2mm_aclk\n", "\n", "clk pin /dma/m_axi_s2mm_aclk is not connected"),
    ("machine/ap_rst_n control", "control", "rstn pin /machine/ap_rst_n is not connected"),
    ("[pin resets/peripheral_aresetn]", "[pin resets/peripheral_reset]", r"/resets/peripheral_reset \(rst\) drives /machine/ap_rst_n \(rstn\)"),
    ("[pin resets/peripheral_aresetn] [pin $name]", "[pin $clock] [pin $name]", r"\(clk\) drives /machine/ap_rst_n \(rstn\)"),
    ("[concat $clocked $ps_clocks]", "$clocked", "clk pin /ps/(maxihpm0|saxihp0)_fpd_aclk is not connected"),
    ("CONFIG.PSU__USE__M_AXI_GP1 0", "CONFIG.PSU__USE__M_AXI_GP1 1", "clk pin /ps/maxihpm1_fpd_aclk is not connected"),
    ("CONFIG.PSU__USE__S_AXI_GP2 1", "CONFIG.PSU__USE__S_AXI_GP2 0", "an interface ps/S_AXI_HP0_FPD was expected"),
    ("CONFIG.c_include_sg 0", "CONFIG.c_include_sg 1", "clk pin /dma/m_axi_sg_aclk is not connected"),
    ("CONFIG.c_sg_length_width 26", "CONFIG.c_sg_length_width 27", "takes 8 .. 26, got 27"),
    ("CONFIG.c_include_s2mm 1", "CONFIG.c_include_s2m 1", "has no property CONFIG.c_include_s2m"),
    ("CONFIG.c_m_axis_mm2s_tdata_width 32", "CONFIG.c_m_axis_mm2s_tdata_width 24", "got 24"),
    ("CONFIG.c_m_axis_mm2s_tdata_width 32", "CONFIG.c_m_axis_mm2s_tdata_width 16", "of 16 bits and /machine/s_axis of 32 bits are joined"),
    ("CONFIG.c_m_axis_mm2s_tdata_width 32", "CONFIG.c_m_axis_mm2s_tdata_width 64", "reads memory in narrower words"),
    ("CONFIG.C_GPIO2_WIDTH 32", "CONFIG.C_GPIO2_WIDTH 16", "/machine/status of 32 bits drives /control/gpio2_io_i of 16 bits"),
    ("CONFIG.NUM_SI 3", "CONFIG.NUM_SI 2", "an interface memory/S02_AXI was expected"),
    ("CONFIG.NUM_SI 3", "CONFIG.NUM_SI 4", "interface /memory/S03_AXI is not connected"),
    ("-range 64K", "-range 48K", "operand|expected integer|aligned"),
    ("foreach block $blocks address $b(addresses) {", "foreach block $blocks address {0xB0000000 0xA0010000 0xA0020000} {", "outside M_AXI_HPM0_FPD"),
    ("foreach block $blocks address $b(addresses) {", "foreach block $blocks address {0xA0000000 0xA0000000 0xA0020000} {", "two segments at 0xA0000000"),
    ("foreach block $blocks address $b(addresses) {", "foreach block [lrange $blocks 0 1] address [lrange $b(addresses) 0 1] {",
     "/load_dma/S_AXI_LITE/Reg has no address"),
    ("\nassign_bd_address\n", "\n", "the memory has no address"),
    ("xilinx.com:ip:smartconnect:*", "xilinx.com:ip:smart_connect:*", "0 cores are called"),
    ("fpga-squeeze:user:squeezenet_axis:1.0", "fpga-squeeze:user:squeezenet_axi:1.0", "0 cores are called"),
    ("validate_bd_design\n", "", "the design was not validated|no file matches"),
    ("set_property top system_wrapper", "set_property top system", "no file has the top module system"),
    ("launch_runs impl_1", "launch_run impl_1", 'invalid command name "launch_run"'),
    ("hw_handoff system.hwh", "hw_handof system.hwh", "no system.hwh below"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BROKEN)
def test_a_broken_build_script_fails(work: Path, old: str, new: str, message: str) -> None:
    script = work / "board/vivado/build.tcl"
    whole = script.read_text()
    assert old in whole
    script.write_text(whole.replace(old, new))
    ran = tcl(script, "zcu104")
    assert ran.code == 1 and re.search(message, ran.text), ran.text


def test_missing_files_and_ports_fail(machines: dict[str, Case], tmp_path: Path) -> None:
    shutil.copytree(machines["rom"].out, tmp_path / "out")
    out, script = tmp_path / "out", tmp_path / "out/board/vivado/build.tcl"

    def broken(path: str, old: str, new: str, message: str) -> None:
        whole = (out / path).read_text()
        assert old in whole
        (out / path).write_text(whole.replace(old, new))
        ran = tcl(script, "zcu104", "stop=design")
        assert ran.code == 1 and message in ran.text, ran.text
        (out / path).write_text(whole)

    broken("rtl/files.f", "lib/fsq_fifo.sv\n", "", "module fsq_fifo is instantiated, no file has it")
    broken("rtl/files.f", "conv1.sv\n", "conv11.sv\n", "conv11.sv does not exist")
    broken("board/vivado/squeezenet_axis.v", "m_axis_tlast,", "m_axis_last,", "no port m_axis_tlast")
    broken("board/vivado/squeezenet_axis.v", "output wire [31:0] status", "output wire [30:0] status", "/machine/status of 31 bits")
    broken("board/vivado/package_ip.tcl", "{Memory Initialization Files}", "Verilog", "is no memory initialization file")
    broken("board/vivado/package_ip.tcl", "-busif $stream -clock ap_clk", "-busif $stream -clock clk", "no clock clk")
    memory = next((out / "rtl/weights").glob("conv1_weights.hex"))
    memory.rename(memory.with_suffix(".old"))
    ran = tcl(script, "zcu104", "stop=design")
    assert ran.code == 1 and "memory file conv1_weights.hex is read, it is not among the files" in ran.text


# ---------------------------------------------------------------- the table of boards


def test_a_damaged_table_of_boards_is_refused() -> None:
    text = static_file("board_amd/boards.toml").decode()
    for old, new, message in (
        ('part = "xc7z020clg400-1"', 'part = "xc7z020clg484-1"', "board pynq-z2: ps 'zynq7' and part xc7z020clg484-1 do not belong"),
        ('ps = "zynq7"', 'ps = "zynqmp"', "do not belong to device xc7z020"),
        ("memory_bits = 64\n", "", "board pynq-z2: memory_bits is missing"),
        ("memory_bits = 64", 'memory_bits = "64"', "memory_bits is '64', a int was expected"),
        ("[[board]]", "[[bord]]", "entries were expected"),
    ):
        assert old in text
        with pytest.raises(InputError, match=re.escape(message)):
            read_zynq_boards(text.replace(old, new))
