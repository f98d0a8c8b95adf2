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
WEIGHT_STORAGES = ("dense", "auto", "smallest", "codebook", "sparse")
QUANTIZERS = ("fast", "best", "plain")
COARSE_BITS = 8
"""Weights of fewer bits are quantized by `best` where no quantizer is named."""
CODEBOOK_BITS = 6
ONNX_DIALECTS = ("qdq", "qonnx")


@dataclass(frozen=True)
class ExportConfig:
    """What `export` can be told, apart from the model, the calibration images and the output folder.

    None means "as the architecture implies"; the export prints what was assumed. `budget` is a size such as "10MB" (10,000,000 bytes).
    `weight_budget`, a size too, lets the export choose every layer's width: `weight_bits` is then the widest, `layer_bits` are given (quantize/mixed.py).
    `max_drop`, in points of top-1, chooses the widths too: the smallest weights of which no more is expected to be lost. `quantizer`: fast, best or plain
    (quantize/methods.py). `codebook_bits` above 0: a layer's weights are at most 2**codebook_bits integers; `layer_codebooks` are given (0: none).
    `layer_act_bits`: activation bits of single layers' results. A `weight_budget` of "auto" is what `budget` or the device leaves; within a budget activation
    bits are chosen too.
    `target_fps`, `max_dsp`, `utilisation` and `weights` steer the folding search (hardware/search.py); `folding` is a folding.json that replaces it.
    `weight_storage`: how weight memories hold the weights, once the folds are known (hardware/weight_choice.py). What is None of `quantizer` and
    `weight_storage` follows from the rest (`resolved`).
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
    max_drop: float | None = None
    quantizer: str | None = None
    codebook_bits: int | None = None
    layer_codebooks: tuple[tuple[str, int], ...] = ()
    layer_act_bits: tuple[tuple[str, int], ...] = ()
    budget: str = "10MB"
    device: str | None = None
    target_fps: float | None = None
    clock_mhz: float = 200.0
    max_dsp: int | None = None
    utilisation: float = 0.85
    weights: str = "auto"
    weight_storage: str | None = None
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
        for name, bits in self.layer_act_bits:
            _in_range(f"--layer-act-bits {name}", bits, *ACT_BITS)
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
        for name, bits in (("--codebook-bits", self.codebook_bits or 0), *((f"--layer-codebook {name}", bits) for name, bits in self.layer_codebooks)):
            _in_range(name, bits, 0, CODEBOOK_BITS)
        if self.quantizer is not None and self.quantizer not in QUANTIZERS:
            raise InputError(f"--quantizer: one of {', '.join(QUANTIZERS)} was expected, got {self.quantizer!r}")
        if self.max_drop is not None:
            _positive("--max-drop", self.max_drop, 100.0)
            if self.weight_budget is not None:
                raise InputError("--max-drop and --weight-budget: either chooses the widths; give one")
        if self.weight_storage is not None and self.weight_storage not in WEIGHT_STORAGES:
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
            if value is None or key in _TABLES:
                continue
            lines.append(f"{key} = {json.dumps(value)}")
        for key in _TABLES:
            if getattr(self, key):
                lines += ["", f"[{key}]"]
                lines += [f"{_toml_key(name)} = {bits}" for name, bits in getattr(self, key)]
        return "\n".join(lines) + "\n"

    @property
    def chooses_widths(self) -> bool:
        """The export measures the layers and chooses their widths."""
        return self.weight_budget is not None or self.max_drop is not None

    @property
    def shares_weights(self) -> bool:
        """Some layer's weights are a codebook's, or may become so. Loaded weights are stored as they are, so then widths are chosen without codebooks."""
        if self.chooses_widths:
            return self.weights != "loaded" and self.weight_storage in (None, "auto", "smallest", "codebook")
        return any(bits for bits in (self.codebook_bits or 0, *(b for _, b in self.layer_codebooks)))

    def resolved(self) -> ExportConfig:
        """Quantizer and weight storage named. Where widths are chosen, codebooks are asked for or weights are coarse the best quantizer is worth its time, and
        codebooks are worth a storage that makes use of them."""
        coarse = min((self.weight_bits, *(bits for _, bits in self.layer_bits))) < COARSE_BITS
        quantizer = self.quantizer or ("best" if coarse or self.shares_weights or self.chooses_widths else "fast")
        # A byte budget counts what is stored; on a device the search weighs blocks against the decoders' logic.
        shared = "auto" if self.device is not None and self.weight_budget in (None, "auto") else "smallest"
        storage = self.weight_storage or (shared if self.shares_weights else "dense")
        # Loaded weights are stored as they are, which a budget would have to pay.
        weights = "rom" if self.chooses_widths and self.shares_weights else self.weights
        return replace(self, quantizer=quantizer, weight_storage=storage, weights=weights)

    def updated(self, **changes: Any) -> ExportConfig:
        """A copy with every change that is not None applied; checked again."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


_TABLES = ("layer_bits", "layer_codebooks", "layer_act_bits")


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


def parse_layer_bits(items: list[str] | None, option: str = "--layer-bits") -> tuple[tuple[str, int], ...]:
    """["conv1=6", ...] -> (("conv1", 6), ...). `option` is named in an InputError.

    >>> parse_layer_bits(["fire2.squeeze=4"])
    (('fire2.squeeze', 4),)
    """
    parsed: dict[str, int] = {}
    for item in items or []:
        name, separator, bits = item.partition("=")
        if not separator or not name or not bits.isdigit():
            raise InputError(f"{option} {item!r}: NAME=BITS was expected, for instance fire2.squeeze=6")
        if name in parsed:
            raise InputError(f"{option} {name}: given twice; give each layer once")
        parsed[name] = int(bits)
    return tuple(parsed.items())


def _typed(path: Path, key: str, annotation: str, value: object) -> object:
    if key in _TABLES:
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
