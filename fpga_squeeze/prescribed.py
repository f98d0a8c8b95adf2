"""Number formats that a model brings along: from quantization-aware training, or from a file that was quantized elsewhere.

Part of the vocabulary that every stage shares, as `fixed_point` and `ir` are; `quantize.prescribed` turns it into a QuantGraph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat

_VERSION = 1
_FORMAT_FIELDS = {"bits": int, "frac": int, "signed": bool}
_NUMBER_LIMIT = 1000


@dataclass(frozen=True)
class Prescribed:
    """Formats to be taken as they are.

    `activations`: node of the lowered graph -> its output format; pools and concats may be left out, they pass their inputs' format on.
    `weights`: convolution -> (weight bits, frac of every output channel).
    """

    activations: Mapping[str, TensorFormat]
    weights: Mapping[str, tuple[int, tuple[int, ...]]]

    def to_json(self) -> str:
        """JSON text as `from_json` reads it; equal formats give equal bytes.

        >>> p = Prescribed({"conv1": TensorFormat(8, 3, False)}, {"conv1": (4, (5, 6))})
        >>> Prescribed.from_json(p.to_json()) == p
        True
        """
        body = {
            "version": _VERSION,
            "activations": {name: {"bits": f.bits, "frac": f.frac, "signed": f.signed} for name, f in self.activations.items()},
            "weights": {name: {"bits": bits, "frac": list(fracs)} for name, (bits, fracs) in self.weights.items()},
        }
        return json.dumps(body, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str = "prescribed formats") -> Prescribed:
        """Parse `to_json`'s text. Raises InputError that begins with `where` for anything else."""
        try:
            body = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error})") from error
        if not isinstance(body, dict) or body.get("version") != _VERSION:
            raise InputError(f"{where}: a JSON object of version {_VERSION} was expected")
        if set(body) != {"version", "activations", "weights"} or not all(isinstance(body[k], dict) for k in ("activations", "weights")):
            raise InputError(f"{where}: exactly the objects activations and weights were expected, got {', '.join(sorted(map(str, body)))[:200]}")
        activations = {name: _format(f"{where}: layer {name}", row) for name, row in body["activations"].items()}
        return Prescribed(activations, {name: _weights(f"{where}: layer {name}", row) for name, row in body["weights"].items()})


def _format(where: str, row: object) -> TensorFormat:
    if not isinstance(row, dict) or set(row) != set(_FORMAT_FIELDS):
        raise InputError(f"{where}: a format of bits, frac and signed was expected, got {json.dumps(row)[:80]}")
    for key, kind in _FORMAT_FIELDS.items():
        if type(row[key]) is not kind:
            raise InputError(f"{where}: {key} must be {'true or false' if kind is bool else 'a whole number'}, got {json.dumps(row[key])[:40]}")
    return TensorFormat(_small(where, row["bits"]), _small(where, row["frac"]), row["signed"])


def _weights(where: str, row: object) -> tuple[int, tuple[int, ...]]:
    if not isinstance(row, dict) or set(row) != {"bits", "frac"} or not isinstance(row["frac"], list):
        raise InputError(f"{where}: weights of bits and a list frac were expected, got {json.dumps(row)[:80]}")
    return _small(where, row["bits"]), tuple(_small(where, f) for f in row["frac"])


def _small(where: str, value: Any) -> int:
    if type(value) is not int or abs(value) > _NUMBER_LIMIT:
        raise InputError(f"{where}: whole numbers were expected, got {json.dumps(value)[:40]}")
    return value
