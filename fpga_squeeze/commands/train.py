"""`fpga-squeeze train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="PATH", help="With --data a folder [default: training], else a file [default: squeezenet_digits.pt].")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Training images in class sub-folders. Without it: the embedded digit network.")] = None,
    arch: Annotated[str | None, typer.Option(help="Network to train. [default: as --init, else squeezenet1_1]")] = None,
    init: Annotated[Path | None, typer.Option(metavar="MODEL", help="Weights to begin with; another number of classes gets a new conv10.")] = None,
    val: Annotated[
        str | None, typer.Option(metavar="DIR|split", help="Validation images, or `split` (a fifth of each class is held out), or `split:SHARE`.")
    ] = None,
    qat: Annotated[
        bool, typer.Option("--qat", help="Quantization-aware: train the fixed-point machine itself; `export` then takes its formats as they are.")
    ] = False,
    weight_bits: Annotated[int | None, typer.Option(metavar="N", help="Weight bits of --qat, 2 to 16. [default: 8]")] = None,
    act_bits: Annotated[int | None, typer.Option(metavar="N", help="Activation bits of --qat, 4 to 16. [default: 8]")] = None,
    format_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Choose formats at the start of the first N epochs, then freeze. [default: 1; half where conv10 is new]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Passes over the images. [default: 10; digits: as the embedded model]")] = None,
    lr: Annotated[float | None, typer.Option(metavar="F", help="Peak of the cosine learning rate. [default: 0.001]")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images a step, over all processes. [default: 64]")] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="NAME", help="adamw or sgd (momentum 0.9). [default: adamw]")] = None,
    weight_decay: Annotated[float | None, typer.Option(metavar="F", help="[default: 0.0001]")] = None,
    augment: Annotated[str | None, typer.Option(metavar="LIST", help="none, crop, flip or crop,flip. [default: crop,flip]")] = None,
    input_size: Annotated[int | None, typer.Option(metavar="N", help="Height and width of the image. [default: as --init or the arch]")] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="torchvision, caffe, none, or a JSON file. [default: as --init or the arch]")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed; the same seed gives the same weights.")] = 0,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes that read images. [default: 0, the training process]")] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(metavar="N", help="Save a checkpoint every N steps too. [default: every epoch]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in the output folder, if there is one.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")] = False,
) -> None:
    """Train or fine-tune on a folder of images, in floating point or quantization-aware; data-parallel under torchrun.

    Example: fpga-squeeze train --data images/ --init squeezenet1_1.pt --qat --weight-bits 4 --val split -o tuned

    Without --data: train the embedded digit network on 5,000 real handwritten digits and measure its held-out accuracy.
    """
    from fpga_squeeze import jobs, parallel, show, terminal

    given = {
        "arch": arch, "init": init, "val": val, "qat": qat or None, "weight_bits": weight_bits, "act_bits": act_bits, "format_epochs": format_epochs,
        "lr": lr, "batch_size": batch_size, "optimizer": optimizer, "weight_decay": weight_decay, "augment": augment, "input_size": input_size,
        "preprocess": preprocess, "workers": workers, "checkpoint_steps": checkpoint_steps, "resume": resume or None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    writer = parallel.environment().is_writer
    with terminal.progress_bars(writer) as progress:
        if data is None:
            digits = jobs.train(out or Path("squeezenet_digits.pt"), epochs, seed, given, progress)
        else:
            folder = jobs.train_folder({"data": data, "out": out or Path("training"), "epochs": epochs or 10, "seed": seed, **given}, progress)
    if not writer:
        return
    if json_output:
        terminal.print_json(digits if data is None else folder.to_json())
    elif data is None:
        show.train_text(digits)
    else:
        show.train_folder_text(folder)


def register(app: typer.Typer) -> None:
    """Add `train`."""
    app.command()(train)
