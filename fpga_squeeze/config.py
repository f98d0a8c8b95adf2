"""Export options as data: checked once, written to model/build.toml, read back with --config."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fpga_squeeze.errors import InputError
from fpga_squeeze.limits import INPUT_SIZES

WEIGHT_BITS = (2, 16)
ACT_BITS = (4, 16)
WEIGHTS = ("rom", "loaded", "auto")
WEIGHT_STORAGES = ("dense", "auto", "codebook", "sparse")
ONNX_DIALECTS = ("qdq", "qonnx")


@dataclass(frozen=True)
class ExportConfig:
    """What `export` can be told, apart from the model, the calibration images and the output folder.

    None means "as the architecture implies"; the export prints what was assumed. `budget` is a size such as "10MB" (10,000,000 bytes).
    `weight_budget`, a size too, lets the export choose every layer's width: `weight_bits` is then the widest, `layer_bits` are given (quantize/mixed.py).
    `target_fps`, `max_dsp`, `utilisation` and `weights` steer the folding search (hardware/search.py); `folding` is a folding.json that replaces it.
    `weight_storage`: how weight memories hold the weights, once the folds are known (hardware/weight_choice.py).
    `rtl_top_k` above 0 lets the RTL send the best classes only, as {class index, sum} beats. `onnx_dialect` "qonnx" adds the QONNX form.
    """

    arch: str = "auto"
    input_size: int | None = None
    ceil_mode: bool | None = None
    conv10_padding: int | None = None
    preprocess: str | None = None
    weight_bits: int = 8
    act_bits: int = 8
    layer_bits: tuple[tuple[str, int], ...] = ()
    weight_budget: str | None = None
    budget: str = "10MB"
    device: str | None = None
    target_fps: float | None = None
    clock_mhz: float = 200.0
    max_dsp: int | None = None
    utilisation: float = 0.85
    weights: str = "auto"
    weight_storage: str = "dense"
    folding: str | None = None
    golden_frames: int = 2
    top: str = "squeezenet"
    rtl_top_k: int = 0
    onnx_dialect: str = "qdq"

    def __post_init__(self) -> None:
        _in_range("--weight-bits", self.weight_bits, *WEIGHT_BITS)
        _in_range("--act-bits", self.act_bits, *ACT_BITS)
        for name, bits in self.layer_bits:
            _in_range(f"--layer-bits {name}", bits, *WEIGHT_BITS)
        if self.input_size is not None:
            _in_range("--input-size", self.input_size, *INPUT_SIZES)
        if self.conv10_padding is not None:
            _in_range("--conv10-padding", self.conv10_padding, 0, 8)
        _in_range("--golden-frames", self.golden_frames, 1, 1000)
        _in_range("--rtl-top-k", self.rtl_top_k, 0, 100)
        if self.target_fps is not None:
            _positive("--target-fps", self.target_fps, 1e6)
        if self.max_dsp is not None:
            _in_range("--max-dsp", self.max_dsp, 1, 1_000_000)
        _positive("--utilisation", self.utilisation, 1.0)
        if self.weights not in WEIGHTS:
            raise InputError(f"--weights: one of {', '.join(WEIGHTS)} was expected, got {self.weights!r}")
        if self.weight_storage not in WEIGHT_STORAGES:
            raise InputError(f"--weight-storage: one of {', '.join(WEIGHT_STORAGES)} was expected, got {self.weight_storage!r}")
        if self.onnx_dialect not in ONNX_DIALECTS:
            raise InputError(f"--onnx-dialect: one of {', '.join(ONNX_DIALECTS)} was expected, got {self.onnx_dialect!r}")
        _positive("--clock-mhz", self.clock_mhz, 2000.0)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", self.top):
            raise InputError(f"--top: a C and SystemVerilog identifier was expected, got {self.top!r}")

    def to_toml(self) -> str:
        """build.toml: every option that is set, in the order of the fields.

        >>> print(ExportConfig(layer_bits=(("conv1", 6),)).to_toml().splitlines()[-1])
        conv1 = 6
        """
        lines = ["# Options of this export; feed them back with --config build.toml."]
        for key, value in asdict(self).items():
            if value is None or key == "layer_bits":
                continue
            lines.append(f"{key} = {json.dumps(value)}")
        if self.layer_bits:
            lines += ["", "[layer_bits]"]
            lines += [f"{_toml_key(name)} = {bits}" for name, bits in self.layer_bits]
        return "\n".join(lines) + "\n"

    def updated(self, **changes: Any) -> ExportConfig:
        """A copy with every change that is not None applied; checked again."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


def load_config(path: Path) -> ExportConfig:
    """Read a build.toml. Relative `preprocess` and `folding` files are looked for beside it.

    Raises:
        InputError: unreadable, not TOML, an unknown key, or a value of the wrong type or range.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror}); a build.toml was expected") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: not valid TOML ({error})") from error
    known = {f.name: str(f.type) for f in fields(ExportConfig)}
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise InputError(f"--config {path}: unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
    values: dict[str, Any] = {key: _typed(path, key, known[key], value) for key, value in body.items()}
    for key in ("preprocess", "folding"):
        named = values.get(key)
        if isinstance(named, str) and named.endswith(".json"):
            values[key] = str(path.parent / named)
    return ExportConfig(**values)


def parse_layer_bits(items: list[str] | None) -> tuple[tuple[str, int], ...]:
    """["conv1=6", ...] -> (("conv1", 6), ...).

    >>> parse_layer_bits(["fire2.squeeze=4"])
    (('fire2.squeeze', 4),)
    """
    parsed: dict[str, int] = {}
    for item in items or []:
        name, separator, bits = item.partition("=")
        if not separator or not name or not bits.isdigit():
            raise InputError(f"--layer-bits {item!r}: NAME=BITS was expected, for instance fire2.squeeze=6")
        if name in parsed:
            raise InputError(f"--layer-bits {name}: given twice; give each layer once")
        parsed[name] = int(bits)
    return tuple(parsed.items())


def _typed(path: Path, key: str, annotation: str, value: object) -> object:
    if key == "layer_bits":
        if isinstance(value, dict) and all(type(v) is int for v in value.values()):
            return tuple(value.items())
    elif annotation.startswith("float") and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    elif type(value).__name__ == annotation.split(" ")[0]:
        return value
    raise InputError(f"--config {path}: {key} takes {annotation}, got {value!r}")


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _in_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{option}: {low} to {high} was expected, got {value}")


def _positive(option: str, value: float, high: float) -> None:
    if not 0 < value <= high:
        raise InputError(f"{option}: a number above 0 and up to {high:g} was expected, got {value:g}")
