"""The command line. Exit codes: 0 done; 1 a check failed; 2 bad input or options. Errors are one line on stderr."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fpga_squeeze import __version__, commands
from fpga_squeeze.errors import FpgaSqueezeError

# Typer carries its own copy of click in newer versions: the base of its usage errors is found from the one it exports.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="fpga-squeeze",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Deploy a trained SqueezeNet to an FPGA with every weight and buffer on chip: .pt in, fixed point, Vitis HLS C++ out, proven bit by bit."
    "\n\nExample: fpga-squeeze export squeezenet1_1.pt --calibration images/ -o out",
)

STOPPED = 130
"""Exit code after Ctrl-C, as a shell has it."""

OutFolder = Annotated[Path, typer.Argument(metavar="OUT", help="Folder written by `fpga-squeeze export`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
LabelsFile = Annotated[Path | None, typer.Option("--labels", help="Text file with one class name a line, in class order.")]


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="SqueezeNet state dict (.pt, .pth), or a CNN as ONNX, torch.export (.pt2) or TorchScript (docs/formats.md).")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Output folder; an earlier export there is replaced.")] = Path("hls_out/squeezenet"),
    calibration: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of images to choose number formats on, or `random` by name.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Options from a build.toml; options on the command line win.")] = None,
    arch: Annotated[str | None, typer.Option(
        help="auto, squeezenet1_0, squeezenet1_1, either with _bypass or _complex_bypass, squeezenet_digits, custom:base_e=64,..., or graph: the file's own."
    )] = None,
    input_size: Annotated[int | None, typer.Option(metavar="N", help="Height and width of the image the network takes.")] = None,
    ceil_mode: Annotated[bool | None, typer.Option("--ceil-mode/--floor-mode", help="Rounding of the pooling output size (torchvision: ceil).")] = None,
    conv10_padding: Annotated[int | None, typer.Option(metavar="N", help="Padding of the classifier convolution (torchvision: 0, Caffe original: 1).")] = None,
    preprocess: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="torchvision, caffe, none, or a JSON file.")] = None,
    weight_bits: Annotated[int | None, typer.Option(metavar="N", help="Weight bits, 2 to 16. [default: 8]")] = None,
    act_bits: Annotated[int | None, typer.Option(metavar="N", help="Activation bits, 4 to 16. [default: 8]")] = None,
    layer_act_bits: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="Activation bits of one layer's result, and of all that share its format; may be repeated.")
    ] = None,
    layer_bits: Annotated[list[str] | None, typer.Option(metavar="NAME=N", help="Weight bits of one layer; may be repeated.")] = None,
    weight_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Bytes that all weights may take, such as 620kB: each layer's width, 2 bits to --weight-bits, is chosen by "
                     "measurement; --layer-bits fixes layers. auto: what --budget leaves, activation bits chosen too, or what --device holds."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Instead of --weight-budget: the smallest weights that are expected to lose no more points of top-1; with "
                     "--device widened into memory that would lie idle."),
    ] = None,
    quantizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="fast; best: also fits weights to the errors before them and improves rounding, at several times the time; plain: "
                     "rounding alone, to compare with. [default: best for weights below 8 bits, codebooks, --weight-budget and --max-drop, else fast]"),
    ] = None,
    codebook_bits: Annotated[
        int | None, typer.Option(metavar="N", help="Weights of a layer are at most 2^N integers, 1 to 6, and stored as indices. [default: 0, any integers]")
    ] = None,
    layer_codebook: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="Index bits of one layer's codebook, 0 for none; may be repeated.")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="SIZE", help="On-chip memory for everything, such as 10MB or 620kB. [default: 10MB]")] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Part or board that must hold it (`fpga-squeeze devices` lists them), or smallest: that with the least memory."),
    ] = None,
    target_fps: Annotated[
        float | None, typer.Option(metavar="F", help="Frames a second to fold for. [default: as fast as the device or --max-dsp allows, else 500]")
    ] = None,
    clock_mhz: Annotated[float | None, typer.Option(metavar="F", help="Clock. [default: 200]")] = None,
    max_dsp: Annotated[int | None, typer.Option(metavar="N", help="Use at most N DSP blocks.")] = None,
    utilisation: Annotated[float | None, typer.Option(metavar="SHARE", help="Share of each of the device's resources to use. [default: 0.85]")] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="rom: in the bitstream; loaded: over an AXI4-Stream port; auto: loaded where URAM holds them. [default: auto]"),
    ] = None,
    weight_storage: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="How weights in the bitstream are stored, without loss. dense: as they are; codebook: indices of few distinct "
                     "values; sparse: a bitmap and what is not zero; smallest: whichever takes least; auto: the smallest that is worth its decoder. "
                     "[default: dense; with codebooks, --weight-budget or --max-drop smallest, on a device without a size auto]"),
    ] = None,
    folding: Annotated[Path | None, typer.Option(metavar="FILE", help="Use this folding.json (edit an export's) instead of the search.")] = None,
    golden_frames: Annotated[int | None, typer.Option(metavar="N", help="Calibration images kept as golden test frames. [default: 2]")] = None,
    top: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the top function. [default: squeezenet]")] = None,
    rtl_top_k: Annotated[int | None, typer.Option(metavar="K", help="RTL output: the K best classes instead of every sum. [default: 0, every sum]")] = None,
    onnx_dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="qdq: model/quantized.onnx; qonnx: Quant nodes in model/quantized_qonnx.onnx as well. [default: qdq]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a non-empty folder that is no earlier export.")] = False,
    json_output: Json = False,
) -> None:
    """Quantize MODEL, fit it on chip and write the accelerator.

    Example: fpga-squeeze export squeezenet1_1.pt --calibration images/ -o out
    """
    from fpga_squeeze import pipeline, show, terminal
    from fpga_squeeze.config import ExportConfig, load_config, parse_layer_bits

    base = load_config(config) if config else ExportConfig()
    options = base.updated(
        arch=arch, input_size=input_size, ceil_mode=ceil_mode, conv10_padding=conv10_padding, preprocess=preprocess,
        weight_bits=weight_bits, act_bits=act_bits, layer_act_bits=parse_layer_bits(layer_act_bits, "--layer-act-bits") or None,
        layer_bits=parse_layer_bits(layer_bits) or None, max_drop=max_drop, quantizer=quantizer,
        codebook_bits=codebook_bits, layer_codebooks=parse_layer_bits(layer_codebook, "--layer-codebook") or None, weight_budget=weight_budget, budget=budget,
        device=device, target_fps=target_fps, clock_mhz=clock_mhz, golden_frames=golden_frames, top=top, rtl_top_k=rtl_top_k,
        max_dsp=max_dsp, utilisation=utilisation, weights=weights, weight_storage=weight_storage, folding=str(folding) if folding else None,
        onnx_dialect=onnx_dialect,
    )  # fmt: skip
    with terminal.progress_bars() as progress:
        result = pipeline.export(model, out, calibration, options, force, progress)
    if json_output:
        terminal.print_json(show.export_json(result))
    else:
        show.export_text(result)


@app.command()
def simulate(
    out: OutFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to classify.")],
    top_k: Annotated[int, typer.Option(metavar="K", help="Classes to print for each image.")] = 5,
    labels: LabelsFile = None,
    json_output: Json = False,
) -> None:
    """Classify images with the bit-accurate simulator: the very integers the hardware gives.

    Example: fpga-squeeze simulate out photo.jpg --labels labels.txt
    """
    from fpga_squeeze import jobs, show, terminal

    with terminal.progress_bars() as progress:
        result = jobs.simulate(out, images, top_k, labels, progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        show.simulate_text(result)


@app.command()
def verify(
    out: OutFolder,
    hls: Annotated[bool, typer.Option("--hls", help="C simulation of the generated HLS C++.")] = False,
    rtl: Annotated[bool, typer.Option("--rtl", help="Simulation of the generated RTL, the whole network.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX Runtime on model/quantized.onnx (and qonnx on the other dialect, if exported).")] = False,
    sim: Annotated[str, typer.Option("--sim", metavar="NAME", help="RTL simulator: verilator or icarus.")] = "verilator",
    frames: Annotated[int | None, typer.Option(metavar="N", help="Golden frames to use. [default: all in tb_data]")] = None,
    stalls: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="random:SEED, random:A-B, input, output, adversarial, reset, tlast; several with commas.")
    ] = None,
    waves: Annotated[bool, typer.Option("--waves", help="Write waveforms into OUT/build.")] = False,
    rtl_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Simulate the Verilog in DIR instead, such as Vitis HLS made from OUT/hls; same ports.")
    ] = None,
    hls_include: Annotated[Path | None, typer.Option(metavar="DIR", help="Headers of a real Vitis HLS installation instead of the open ones.")] = None,
    cxx: Annotated[str | None, typer.Option(metavar="PROGRAM", help="C++ compiler. [default: $CXX or g++]")] = None,
    json_output: Json = False,
) -> None:
    """Hold every implementation against the golden simulator, stage by stage, bit by bit. Without a choice, HLS, RTL and ONNX.

    Example: fpga-squeeze verify out --rtl --sim verilator
    """
    from fpga_squeeze import jobs, show, terminal
    from fpga_squeeze.verify.checks import VerifyOptions

    options = VerifyOptions(hls, rtl, frames, hls_include, cxx, sim, stalls, waves, rtl_dir, onnx)
    with terminal.progress_bars() as progress:
        result = jobs.verify(out, options, progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        show.verify_text(result)
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def evaluate(
    out: OutFolder,
    images: Annotated[Path, typer.Argument(metavar="DIR", help="Labelled images: class sub-folders, names that begin with the class index, or --labels.")],
    labels: Annotated[Path | None, typer.Option("--labels", help="CSV with rows file,class-index; or .txt with a class name a line, for the report.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use the first N images only.")] = None,
    json_output: Json = False,
) -> None:
    """Accuracy of the float model and of the fixed-point machine, side by side; torchrun shares the images out among processes.

    Example: fpga-squeeze evaluate out images/
    """
    from fpga_squeeze import jobs, parallel, show, terminal

    writer = parallel.environment().is_writer
    with terminal.progress_bars(writer) as progress:
        result = jobs.evaluate(out, images, labels, limit, progress)
    if not writer:
        return
    if json_output:
        terminal.print_json(result.to_json())
    else:
        show.evaluate_text(result)


@app.command()
def report(out: OutFolder, json_output: Json = False) -> None:
    """Print what is known of an export: memory budget, performance, accuracy, verification, synthesis.

    Example: fpga-squeeze report out
    """
    from fpga_squeeze import jobs, show, terminal

    body = jobs.report(out)
    if json_output:
        terminal.print_json(body)
    else:
        show.report_text(out, body)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="OUT1", help="Folder written by `fpga-squeeze export`.")],
    second: Annotated[Path, typer.Argument(metavar="OUT2", help="Another one.")],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write the comparison as a page of its own.")] = None,
    json_output: Json = False,
) -> None:
    """Two exports side by side: bits, size, speed, accuracy, resources, what was verified.

    Example: fpga-squeeze compare out8 out6 --html compare.html
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.compare_text import compare_text
    from fpga_squeeze.report import compare as job
    from fpga_squeeze.report.html_compare import write_page

    result = job.compare(first, second)
    if html is not None:
        write_page(html, result)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        compare_text(result)


@app.command()
def devices(
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="An export: what its network would reach on every device.")] = None,
    fps: Annotated[list[float] | None, typer.Option(metavar="F", min=0.001, help="Frame rate of the table; may be repeated. [default: 30 ... 3000]")] = None,
    clock_mhz: Annotated[float | None, typer.Option(metavar="F", help="Clock, at most each device's own. [default: the export's]")] = None,
    utilisation: Annotated[float, typer.Option(metavar="SHARE", min=0.01, max=1.0, help="Share of each resource to use.")] = 0.85,
    json_output: Json = False,
) -> None:
    """List the parts and boards that --device knows; with OUT, the fastest machine of its network on each of them.

    Example: fpga-squeeze devices out --clock-mhz 300
    """
    from fpga_squeeze import jobs, show, terminal

    if out is None:
        show.devices_text(json_output)
        return
    with terminal.progress_bars() as progress:
        result = jobs.what_if(out, tuple(fps) if fps else None, clock_mhz, utilisation, progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        show.what_if_text(result)


@app.command()
def build(
    out: OutFolder,
    board: Annotated[str, typer.Option("--board", metavar="NAME", help="Board to build for: ulx3s, colorlight-i5.")],
    clock_mhz: Annotated[float | None, typer.Option(metavar="F", min=1.0, help="Clock of the machine. [default: the board's]")] = None,
    baud: Annotated[int | None, typer.Option(metavar="N", help="Rate of the serial line. [default: the board's]")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of place and route; the same seed gives the same bitstream.")] = 1,
    attempts: Annotated[int, typer.Option(metavar="N", min=1, max=20, help="Seeds to try, one after the other, while the clock is missed.")] = 3,
    json_output: Json = False,
) -> None:
    """Make a bitstream with open tools (yosys, nextpnr, ecppack): images in and classes out over the board's serial line. Takes minutes.

    Example: fpga-squeeze build out --board ulx3s
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.board import build as job
    from fpga_squeeze.board.show import build_text

    with terminal.progress_bars() as progress:
        result = job.build_board(out, job.BoardOptions(board, clock_mhz, baud, seed, attempts), progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        build_text(result)


@app.command()
def weights(
    out: OutFolder,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Trained weights of the architecture that OUT was exported from.")],
    target: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write the image for the load port.")],
    calibration: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of images to choose number formats on, or `random` by name.")] = None,
    json_output: Json = False,
) -> None:
    """Turn another model of the same architecture into an image for the load port of the machine in OUT (exported with --weights loaded).

    Example: fpga-squeeze weights out retrained.pt --calibration images/ -o retrained.bin
    """
    from fpga_squeeze import new_weights, terminal

    with terminal.progress_bars() as progress:
        result = new_weights.make_weights(out, model, calibration, target, progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        terminal.console().print(result.text(), markup=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Output folder.")] = Path("hls_out/demo"),
    json_output: Json = False,
) -> None:
    """Export the embedded digit network, run its C simulation on real digits and say what was proven.

    Example: fpga-squeeze demo
    """
    from fpga_squeeze import show

    if not show.demo(out, json_output):
        raise typer.Exit(1)


commands.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fpga-squeeze {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Errors only, and with --json the object. May also stand behind the command.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Every step with its seconds, on stderr. May also stand behind the command.")] = False,
) -> None:
    del version
    if not (quiet or verbose):
        return
    if quiet and verbose:
        raise typer.BadParameter("--quiet or --verbose was expected, not both")
    from fpga_squeeze.terminal import VERBOSITY, Verbosity

    VERBOSITY.set(Verbosity.QUIET if quiet else Verbosity.VERBOSE)


def _global_options_first(arguments: list[str]) -> list[str]:
    """--quiet and --verbose moved to the front, where click looks for them; what stands behind `--` is left alone.

    >>> _global_options_first(["report", "out", "--quiet", "--", "--verbose"])
    ['--quiet', 'report', 'out', '--', '--verbose']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    moved = [a for a in arguments[:end] if a in ("--quiet", "--verbose")]
    return [*moved, *(a for a in arguments[:end] if a not in moved), *arguments[end:]]


def main() -> None:
    """Entry point: runs the command and turns every expected failure into one line and an exit code."""
    # Read when torch is loaded: its threads wait for each other asleep, not spinning, which on a machine that is busy otherwise takes half the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        code = app(_global_options_first(sys.argv[1:]), standalone_mode=False)
    except FpgaSqueezeError as error:
        sys.exit(_fail(str(error), error.exit_code))
    except typer.Abort:
        sys.exit(_fail("stopped", STOPPED))
    except _UsageError as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        sys.exit(_fail(f"{' '.join(message.split())} (see fpga-squeeze --help)", 2))
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): not an error of ours, and Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(_fail("stopped", STOPPED))
    if code == STOPPED:
        # Typer's newer versions make this exit code of a KeyboardInterrupt.
        _fail("stopped", STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"fpga-squeeze: error: {message}\n")
    return code
