"""`fpga-squeeze pareto`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pareto(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Trained network, as for `fpga-squeeze export`.")],
    calibration: Annotated[str, typer.Option(metavar="DIR", help="Folder of images to choose number formats on, or `random` by name.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to write.")] = Path("pareto"),
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled images, as for `evaluate`, to measure on. [default: the loss is estimated without labels]")
    ] = None,
    sizes: Annotated[str | None, typer.Option(metavar="SIZE,...", help="Weight budgets, such as 780kB,620kB. [default: 3 to 8 bits a weight]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Other options of the export, as a build.toml.")] = None,
    preprocess: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="torchvision, caffe, none, or a JSON file.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Part or board that must hold it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a non-empty folder that is no earlier result.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")] = False,
) -> None:
    """Size against accuracy: MODEL at several weight budgets, with a table, a chart and the options that export each point.

    Example: fpga-squeeze pareto squeezenet1_1.pt --calibration images/ --images labelled/ -o pareto
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.config import ExportConfig, load_config
    from fpga_squeeze.pareto import pareto as run

    options = (load_config(config) if config else ExportConfig()).updated(preprocess=preprocess, device=device)
    wanted = tuple(s.strip() for s in sizes.split(",")) if sizes else ()
    with terminal.progress_bars() as progress:
        result = run(model, calibration, options, out, wanted, images, force, progress)
    if json_output:
        terminal.print_json(result.to_json())
        return
    console = terminal.console()
    rows = []
    for p in result.points:
        lost = f"{p.lost:.2f}" if p.measured is None else f"{p.lost:.1f} ±{p.measured.margin:.1f}"
        agreement = p.drop.agreement if p.drop is not None else p.measured.agreement if p.measured is not None else 0.0
        rows.append((p.name, f"{p.stored_bytes:,}", f"{p.bram18:,}", f"{p.widths.average_bits:.2f}", f"{agreement:.1f}", lost))
    title = "Weight budgets" if images else "Weight budgets; what is lost is estimated from the calibration images"
    console.print(terminal.table(title, ("budget", "stored bytes", "18 Kb blocks", "bits a weight", "agreement %", "top-1 lost"), rows, right=(1, 2, 3, 4, 5)))
    for name, reason in result.refused:
        terminal.warn(f"{name}: {reason}")
    console.print(f"Chart: {out / 'pareto.svg'}. A point as a machine: fpga-squeeze export {model} --calibration {calibration} --config {out}/points/NAME.toml")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(pareto)
