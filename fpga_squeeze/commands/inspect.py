"""`fpga-squeeze inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fpga_squeeze.inspect_stage import StageView
    from fpga_squeeze.simulate.layer_trace import LayerError

THRESHOLD_DB = 30.0
_FOLDS = {"p_oc": "P_oc", "p_ic": "P_ic", "p_k": "P_k", "p_px": "P_px", "shift": "shift, smallest and largest"}


def inspect(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder written by `fpga-squeeze export`.")],
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="A stage, such as fire2.expand; without one, a table of all.")] = None,
    layer_trace: Annotated[
        list[Path] | None, typer.Option("--layer-trace", metavar="IMAGE", help="Print per layer where float and fixed part on IMAGE; may be repeated.")
    ] = None,
    threshold: Annotated[float, typer.Option(metavar="DB", help="Layers whose SQNR is below this are marked in --layer-trace.")] = THRESHOLD_DB,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")] = False,
) -> None:
    """Take a machine apart: one stage's folding, memories and numbers and the HLS and RTL generated for it; or where float and fixed part, layer by layer.

    Example: fpga-squeeze inspect out fire2.expand
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.errors import InputError
    from fpga_squeeze.inspect_stage import view_stage, view_stages

    if layer_trace:
        if stage is not None:
            raise InputError("inspect: a STAGE or --layer-trace was expected, not both")
        _layer_trace(out, layer_trace, threshold, json_output)
        return
    views = (view_stage(out, stage),) if stage is not None else view_stages(out)
    if json_output:
        terminal.print_json(views[0].to_json() if stage is not None else {"stages": [view.to_json() for view in views]})
    elif stage is None:
        _show_stages(out, views)
    else:
        _show_stage(views[0])


def _layer_trace(out: Path, images: list[Path], threshold: float, json_output: bool) -> None:
    from fpga_squeeze import api, terminal
    from fpga_squeeze.simulate.layer_trace import first_below

    with terminal.progress_bars() as progress:
        progress("trace", 0, 0)
        rows = api.open(out).layer_trace([*images])
    first = first_below(rows, threshold)
    if json_output:
        body = {"images": [str(p) for p in images], "threshold_db": threshold, "first_below": first.name if first else None}
        terminal.print_json({**body, "layers": [row.to_json() for row in rows]})
        return
    _show_trace(rows, threshold, first)


def _show_trace(rows: tuple[LayerError, ...], threshold: float, first: LayerError | None) -> None:
    from fpga_squeeze.terminal import console, table

    out = console()
    cells = []
    for row in rows:
        n, c, y, x = row.where
        mark = " <" if row.sqnr_db < threshold else ""
        cells.append((
            row.name, row.kind, f"{row.sqnr_db:.1f}{mark}", f"{row.max_abs_error:.4g}", f"{row.max_error_steps:.1f}", f"{row.float_value:.4g}",
            f"{row.fixed_value:.4g}", f"{n}, {c}, {y}, {x}", f"{100 * row.clipped:.3f}%",
        ))  # fmt: skip
    heads = ("layer", "kind", "SQNR dB", "largest error", "in steps", "float there", "fixed there", "image, channel, y, x", "clipped")
    out.print(table(f"Float against fixed (< below {threshold:g} dB)", heads, cells, right=(2, 3, 4, 5, 6, 8)))
    verdict = f"The first layer below {threshold:g} dB is {first.name}." if first else f"No layer is below {threshold:g} dB."
    out.print(verdict)


def _show_stages(out_dir: Path, views: tuple[StageView, ...]) -> None:
    from fpga_squeeze.terminal import bytes_text, console, table

    out = console()
    rows = []
    for view in views:
        folds = "; ".join(f"{e['p_oc']}x{e['p_ic']}x{e['p_k']}x{e['p_px']}" for e in view.engines)
        memory = sum(row["bits"] for row in view.memories) / 8
        sqnr = min((row["sqnr_db"] for row in view.layers), default=None)
        cells = (view.name, view.what, folds, view.numbers["multipliers"] or "", f"{view.numbers['cycles']:,}", f"{100 * view.numbers['busy']:.0f}%")
        rows.append((*cells, bytes_text(memory), "" if sqnr is None else f"{sqnr:.1f}"))
    heads = ("stage", "what", "P_oc x P_ic x P_k x P_px", "multipliers", "cycles", "busy", "memory", "SQNR dB")
    out.print(table("Stages, in stream order", heads, rows, right=range(3, 8)))
    out.print(f"One of them: fpga-squeeze inspect {out_dir} {views[0].name}")


def _show_stage(view: StageView) -> None:
    from fpga_squeeze.terminal import console, table

    out = console()
    out.print(f"{view.name}: {view.what}\n")
    numbers = [(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else value) for key, value in view.numbers.items() if value is not None]
    out.print(table("Numbers", ("", "value"), numbers, right=(1,)))
    out.print()
    if view.engines:
        names = [e["layer"] for e in view.engines]
        rows = [(_FOLDS.get(key, key.replace("_", " ")), *(_text(e[key]) for e in view.engines)) for key in view.engines[0] if key != "layer"]
        out.print(table("Folding and formats", ("", *names), rows, right=range(1, len(names) + 1)))
        out.print()
    memories = [
        (m["name"], m["kind"].replace("_", " "), f"{m['bits']:,}", f"{m['depth']} x {m['width_bits']} x {m['banks']}", m["bram18"], m["uram"], m["lutram_luts"])
        for m in view.memories
    ]
    heads = ("memory", "kind", "bits", "rows x bits x banks", "18 Kb blocks", "URAM", "LUTs")
    out.print(table("Memories", heads, memories, right=range(2, 7)))
    out.print()
    streams = [(s["from"], s["to"], _text(s["shape"]), s["format"], f"{s['in_lanes']} -> {s['out_lanes']}", s["depth"]) for s in view.streams]
    out.print(table("Streams", ("from", "to", "C, H, W", "format", "lanes", "FIFO depth, HLS"), streams, right=(5,)))
    if view.layers:
        out.print()
        rows = [(r["name"], f"{r['sqnr_db']:.1f}", f"{100 * r['clipped']:.3f}%") for r in view.layers]
        out.print(table("Signal to quantization noise, at export", ("layer", "SQNR dB", "clipped"), rows, right=(1, 2)))
    for source in view.sources:
        _show_source(source.path, source.language, source.text)


def _show_source(path: str, language: str, text: str) -> None:
    """Highlighted on a terminal, the bare text in a pipe."""
    from rich.syntax import Syntax

    from fpga_squeeze.terminal import console

    out = console()
    out.print(f"\n--- {path}", markup=False)
    if out.is_terminal:
        out.print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=False))
    else:
        out.print(text, markup=False, highlight=False)


def _text(value: Any) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else f"{value:,}" if type(value) is int else str(value)


def register(app: typer.Typer) -> None:
    """Add `inspect`."""
    app.command()(inspect)
