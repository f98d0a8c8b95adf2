"""`fpga-squeeze pack`, `unpack` and `diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fpga_squeeze.package.tasks import Packed, Unpacked

Target = Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="File to write.")]
Sign = Annotated[Path | None, typer.Option("--sign", metavar="PEM", help="Sign with this Ed25519 private key (pip install 'fpga-squeeze[sign]').")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]


def pack(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder written by `fpga-squeeze export`.")],
    target: Target,
    model: Annotated[Path | None, typer.Option(metavar="MODEL", help="Pack these trained weights for the machine in OUT instead of its own.")] = None,
    calibration: Annotated[str | None, typer.Option(metavar="DIR", help="With --model: images to choose number formats on, or `random` by name.")] = None,
    sign: Sign = None,
    with_decoder: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write the C decoder for the device's CPU into DIR.")] = None,
    json_output: Json = False,
) -> None:
    """Pack all weights of OUT, entropy-coded, into one file to send to devices in the field; `unpack` or the C decoder makes the load image of it.

    Example: fpga-squeeze pack out -o model.fsq --with-decoder device/
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.package import tasks

    with terminal.progress_bars() as progress:
        result = tasks.pack(out, target, model, calibration, sign, with_decoder, progress)
    _show_packed(result, json_output)


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Package that the devices have.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Package of the same machine that they are to get.")],
    target: Target,
    sign: Sign = None,
    json_output: Json = False,
) -> None:
    """Make a delta package: what changes from OLD to NEW. Layers that are equal take no byte; of each other one, its change or all of it.

    Example: fpga-squeeze diff model.fsq retrained.fsq -o update.fsq
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.package import tasks

    with terminal.progress_bars() as progress:
        result = tasks.diff(old, new, target, sign, progress)
    _show_packed(result, json_output)


def unpack(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Package or delta package.")],
    target: Target,
    base: Annotated[Path | None, typer.Option(metavar="PACKAGE", help="Of a delta: the package it was made against.")] = None,
    machine: Annotated[Path | None, typer.Option(metavar="OUT", help="Refuse a package that is not for the machine of this export.")] = None,
    public_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Refuse a package that this Ed25519 key's owner did not sign.")] = None,
    integers: Annotated[bool, typer.Option("--integers", help="Write all weights, biases and shifts as .npz arrays instead of the load image.")] = False,
    json_output: Json = False,
) -> None:
    """Restore the image for the load port from a package: byte for byte the load.bin of the export that was packed.

    Example: fpga-squeeze unpack update.fsq --base model.fsq -o load.bin
    """
    from fpga_squeeze import terminal
    from fpga_squeeze.package import tasks

    result = tasks.unpack(package, target, tasks.UnpackOptions(base, machine, public_key, integers))
    if json_output:
        terminal.print_json(result.to_json())
    else:
        _show_unpacked(result)


def _show_packed(result: Packed, json_output: bool) -> None:
    from fpga_squeeze.terminal import console, print_json, table

    if json_output:
        print_json(result.to_json())
        return
    out = console()
    rows = []
    for row in result.layers:
        rows.append((row.name, row.coding, f"{row.weights:,}", f"{row.raw_bytes:,}", f"{row.coded_bytes:,}", f"{8 * row.coded_bytes / row.weights:.2f}"))
    if rows:
        heads = ("layer", "coding", "weights", "bytes at fixed width", "bytes coded", "bits a weight")
        out.print(table("Layers in the package", heads, rows, right=range(2, 6)))
    else:
        out.print("No layer differs.")
    share = 100 * result.bytes / result.raw_bytes
    signed = ", signed" if result.signed else ""
    out.print(f"Wrote {result.bytes:,} bytes to {result.file}{signed}: {share:.1f}% of the {result.raw_bytes:,} bytes at fixed width.", markup=False)
    if not result.image_bytes:
        out.print("The machine has no load port: the package restores integers (unpack --integers), no load image.")
    for path in result.decoder:
        out.print(f"Wrote {path}", markup=False)


def _show_unpacked(result: Unpacked) -> None:
    from fpga_squeeze.terminal import console

    note = {"good": " The signature is good.", "none": "", "not checked": " Its signature was not checked (--public-key)."}[result.signature]
    use = "; send them to s_load_axis, between any two frames" if result.what == "image" else ""
    console().print(f"Wrote {result.bytes:,} bytes to {result.file}{use}. SHA-256 {result.sha256}.{note}", markup=False)


def register(app: typer.Typer) -> None:
    """Add `pack`, `unpack` and `diff`."""
    app.command()(pack)
    app.command()(unpack)
    app.command()(diff)
