"""OUT/board for boards with an AMD Zynq: Vivado scripts, PYNQ overlay folder and C++ host, as a map of file name -> content; nothing is written here."""

from __future__ import annotations

import io
import json

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.board_context import BoardDesign, PictureSize, board_design
from fpga_squeeze.emit.board_table import ZynqBoard
from fpga_squeeze.emit.load_image import load_image
from fpga_squeeze.emit.render import banner, render, static_file
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.emit.rtl_context import rtl_design
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph

_HOST_FILES = ("axi_dma.hpp", "accelerator.hpp", "linux_devices.hpp", "npy.hpp", "host.cpp")
_CELL = "# %%"


def emit_board(
    qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions, picture: PictureSize, images: NDArray[np.uint8], sums: NDArray[np.int64],
    default_board: ZynqBoard | None = None,
) -> dict[str, bytes]:  # fmt: skip
    """All files of OUT/board, by path relative to OUT: "board/vivado/...", "board/pynq/..." and "board/host/...".

    Args:
        options: as for emit_rtl, whose files these build on. `picture`: how a picture becomes the input.
        images: golden frames (N, C, H, W). `sums`: the simulator's class sums of them, (N, classes).
        default_board: what build.tcl takes when it is told no board.
    Raises:
        InputError: images or sums of another shape than the network's, or a plan that does not fit it.
    """
    design = board_design(rtl_design(qgraph, plan, options), plan, picture, default_board)
    if images.shape[1:] != qgraph.input.shape or sums.shape != (len(images), design.classes):
        raise InputError(f"golden images {images.shape} and sums {sums.shape} do not belong to this network; export again")
    files = {**_vivado(design), **_pynq(design, images, sums), **_host(design)}
    if design.load_bytes:
        files["board/pynq/weights.bin"] = load_image(qgraph, plan)
    return dict(sorted(files.items()))


def _vivado(design: BoardDesign) -> dict[str, bytes]:
    rows = {
        "build.tcl": ("build.tcl", "Bitstream for a Zynq board."),
        "package_ip.tcl": ("package_ip.tcl", "IP core of the machine."),
        "boards.tcl": ("boards.tcl", "Table of boards."),
        f"{design.top}_axis.v": ("axis.v", "Adapter between an AXI DMA and the machine."),
    }
    return {
        f"board/vivado/{name}": render(f"board_amd/vivado/{template}.jinja", banner=banner(design.digest, what), d=design).encode()
        for name, (template, what) in rows.items()
    }


def _pynq(design: BoardDesign, images: NDArray[np.uint8], sums: NDArray[np.int64]) -> dict[str, bytes]:
    text = render("board_amd/pynq/notebook.py.jinja", d=design, top=min(3, design.top_k or design.classes))
    return {
        "board/pynq/driver.py": static_file("board_amd/pynq/driver.py"),
        "board/pynq/machine.json": (json.dumps(machine(design), indent=1) + "\n").encode(),
        f"board/pynq/{design.top}.ipynb": notebook(text),
        "board/pynq/README.md": render("board_amd/pynq/README.md.jinja", d=design).encode(),
        "board/pynq/golden_images.npy": _npy(images.transpose(0, 2, 3, 1)),
        "board/pynq/golden_sums.npy": _npy(sums.astype(np.int64)),
    }


def _host(design: BoardDesign) -> dict[str, bytes]:
    files = {f"board/host/{name}": static_file(f"board_amd/host/{name}") for name in _HOST_FILES}
    what = banner(design.digest, "The machine as the host sees it.")
    files["board/host/machine.hpp"] = render("board_amd/host/machine.hpp.jinja", banner=what, d=design).encode()
    files["board/host/Makefile"] = render("board_amd/host/Makefile.jinja", banner=banner(design.digest, "C++ host."), d=design).encode()
    return files


def machine(design: BoardDesign) -> dict[str, object]:
    """machine.json: what driver.py must know. Sizes in bytes, the clock in MHz."""
    return {
        "top": design.top, "channels": design.channels, "height": design.height, "width": design.width, "resize": design.picture.resize,
        "pixel_bytes": design.pixel_bytes, "frame_bytes": design.frame_bytes, "classes": design.classes, "top_k": design.top_k,
        "out_beats": design.out_beats, "out_bytes": design.out_bytes, "sum_bytes": design.sum_bytes, "index_bytes": design.index_bytes,
        "answer_bytes": design.answer_bytes, "load_bytes": design.load_bytes, "max_batch": design.max_batch, "max_transfer": design.max_transfer,
        "clock_mhz": design.clock_mhz, "interval_cycles": design.interval_cycles, "predicted_fps": design.fps,
    }  # fmt: skip


def notebook(text: str) -> bytes:
    """A notebook (nbformat 4.5) of a script whose cells begin with `# %%` or `# %% markdown`; no outputs, no times, the same bytes every time."""
    cells: list[dict[str, object]] = []
    for number, part in enumerate(text.split(_CELL)[1:]):
        head, _, body = part.partition("\n")
        source = body.strip("\n").splitlines(keepends=True)
        cell: dict[str, object] = {"cell_type": "markdown" if head.strip() == "markdown" else "code", "id": f"cell-{number}", "metadata": {}, "source": source}
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    body_json = {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(body_json, indent=1) + "\n").encode()


def _npy(values: NDArray[np.generic]) -> bytes:
    """A .npy file: no dates in it, so the same values give the same bytes."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values), allow_pickle=False)
    return stream.getvalue()
