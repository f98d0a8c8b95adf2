"""fpga-squeeze: a trained SqueezeNet becomes a fixed-point accelerator that lives wholly on an FPGA.

    import fpga_squeeze as fs

    design = fs.export("squeezenet1_1.pt", "out", calibration="images/", device="zcu104")
    print(design.simulate("photo.jpg").top)
    assert design.verify(hls=True).ok

Everything is loaded when it is first used, so that the import itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fpga_squeeze.api import Design, export, open
    from fpga_squeeze.config import ExportConfig
    from fpga_squeeze.errors import CheckFailedError, FpgaSqueezeError, InputError, ToolMissingError

_WHERE = {
    "Design": "api",
    "export": "api",
    "open": "api",
    "ExportConfig": "config",
    "CheckFailedError": "errors",
    "FpgaSqueezeError": "errors",
    "InputError": "errors",
    "ToolMissingError": "errors",
}

__all__ = ["CheckFailedError", "Design", "ExportConfig", "FpgaSqueezeError", "InputError", "ToolMissingError", "export", "open"]


def __getattr__(name: str) -> object:
    """The public names, imported on first use."""
    if name not in _WHERE:
        raise AttributeError(f"module 'fpga_squeeze' has no attribute {name!r}")
    value: object = getattr(import_module(f"fpga_squeeze.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
