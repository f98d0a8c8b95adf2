"""Where the ap_int headers of a C simulation come from: a Vitis installation, or the Apache-2.0 ones inside the hls4ml wheel."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fpga_squeeze.errors import InputError, ToolMissingError


@dataclass(frozen=True)
class HlsHeaders:
    """An include folder and whether it is a whole Vitis installation's (then the stand-ins for hls_stream and ap_axiu are left out)."""

    folder: Path
    complete: bool


def find_headers(hls_include: Path | None = None) -> HlsHeaders:
    """The headers to use: `hls_include` when given, otherwise the hls4ml wheel's, which is looked up and never imported.

    Raises InputError when `hls_include` lacks a header, ToolMissingError when there is none at all.
    """
    if hls_include is not None:
        for name in ("ap_int.h", "hls_stream.h", "ap_axi_sdata.h"):
            if not (hls_include / name).is_file():
                raise InputError(f"--hls-include {hls_include}: no {name} there; the include folder of a Vitis HLS installation was expected")
        return HlsHeaders(hls_include.resolve(), complete=True)
    spec = find_spec("hls4ml")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    for root in roots:
        folder = Path(root) / "templates" / "vivado" / "ap_types"
        if (folder / "ap_int.h").is_file():
            return HlsHeaders(folder, complete=False)
    raise ToolMissingError(
        'C simulation needs the ap_int headers: pip install "fpga-squeeze[csim]", or name a Vitis HLS include folder with --hls-include DIR'
    )
