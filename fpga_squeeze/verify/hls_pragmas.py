"""The pragmas of Vitis HLS 2022.2 to 2025.x that the lint knows, with their options; from AMD's user guide UG1399."""

from __future__ import annotations

import re
from dataclasses import dataclass

ANY = frozenset[str]()
"""Marks an option that takes any value."""

_PARTITION = frozenset({"cyclic", "block", "complete"})
_STORAGE_TYPES = frozenset({"fifo", "ram_1p", "ram_1wnr", "ram_2p", "ram_s2p", "ram_t2p", "rom_1p", "rom_2p", "rom_np"})
_STORAGE_IMPL = frozenset({"bram", "bram_ecc", "lutram", "uram", "uram_ecc", "srl", "memory", "auto"})
_INTEGER_OPS = frozenset({"mul", "add", "sub"})
_MODES = frozenset({"axis", "m_axi", "s_axilite", "ap_none", "ap_vld", "ap_ack", "ap_hs", "ap_fifo", "ap_memory", "bram", "ap_ctrl_none",
                    "ap_ctrl_hs", "ap_ctrl_chain"})  # fmt: skip


@dataclass(frozen=True)
class PragmaRule:
    """Options with the values they may take (ANY: every value), flags without a value, and the options that must be there."""

    options: dict[str, frozenset[str]]
    flags: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


_VARIABLE = frozenset({"variable"})

KNOWN: dict[str, PragmaRule] = {
    "aggregate": PragmaRule({"variable": ANY, "compact": frozenset({"bit", "byte", "none", "auto"})}, required=_VARIABLE),
    "array_partition": PragmaRule({"variable": ANY, "type": _PARTITION, "factor": ANY, "dim": ANY}, frozenset({"off"}), frozenset({"variable", "type"})),
    "array_reshape": PragmaRule({"variable": ANY, "type": _PARTITION, "factor": ANY, "dim": ANY}, frozenset({"object"}), frozenset({"variable", "type"})),
    "bind_op": PragmaRule({"variable": ANY, "op": _INTEGER_OPS, "impl": frozenset({"dsp", "fabric"}), "latency": ANY}, required=_VARIABLE | {"op"}),
    "bind_storage": PragmaRule(
        {"variable": ANY, "type": _STORAGE_TYPES, "impl": _STORAGE_IMPL, "latency": ANY}, required=frozenset({"variable", "type"})
    ),
    "dataflow": PragmaRule({}, frozenset({"disable_start_propagation"})),
    "dependence": PragmaRule(
        {
            "variable": ANY, "class": frozenset({"array", "pointer"}), "type": frozenset({"inter", "intra"}),
            "direction": frozenset({"RAW", "WAR", "WAW"}), "distance": ANY, "dependent": frozenset({"true", "false"}),
        },
        required=frozenset({"variable", "type", "dependent"}),
    ),
    "disaggregate": PragmaRule({"variable": ANY}, required=_VARIABLE),
    "inline": PragmaRule({}, frozenset({"off", "recursive"})),
    "interface": PragmaRule(
        {"mode": _MODES, "port": ANY, "depth": ANY, "register_mode": frozenset({"both", "forward", "reverse", "off"}), "bundle": ANY},
        frozenset({"register"}),
        frozenset({"mode", "port"}),
    ),
    "latency": PragmaRule({"min": ANY, "max": ANY}),
    "loop_flatten": PragmaRule({}, frozenset({"off"})),
    "loop_merge": PragmaRule({}, frozenset({"force"})),
    "loop_tripcount": PragmaRule({"min": ANY, "max": ANY, "avg": ANY}),
    "pipeline": PragmaRule({"ii": ANY, "style": frozenset({"stp", "frp", "flp"})}, frozenset({"off", "rewind"})),
    "reset": PragmaRule({"variable": ANY}, frozenset({"off"}), _VARIABLE),
    "stable": PragmaRule({"variable": ANY}, required=_VARIABLE),
    "stream": PragmaRule({"variable": ANY, "type": frozenset({"fifo", "pipo", "shared", "unsync"}), "depth": ANY}, frozenset({"off"}), _VARIABLE),
    "unroll": PragmaRule({"factor": ANY}, frozenset({"skip_exit_check", "off"})),
}


@dataclass(frozen=True)
class Pragma:
    """One `#pragma HLS` line: its lower-case name, options (lower-case keys) and flags."""

    line: int
    name: str
    options: dict[str, str]
    flags: tuple[str, ...]

    def get(self, option: str) -> str | None:
        """Value of an option, None when it is absent."""
        return self.options.get(option)


def parse_pragmas(text: str) -> tuple[Pragma, ...]:
    """Every `#pragma HLS` of a source text, in order.

    >>> parse_pragmas("#pragma HLS STREAM variable=x depth=2")
    (Pragma(line=1, name='stream', options={'variable': 'x', 'depth': '2'}, flags=()),)
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*#\s*pragma\s+HLS\s+(\w+)\s*(.*)$", line, re.IGNORECASE)
        if not match:
            continue
        rest = re.sub(r"\s*=\s*", "=", match[2].split("//")[0]).split()
        options = {key.lower(): value for key, _, value in (word.partition("=") for word in rest if "=" in word)}
        found.append(Pragma(number, match[1].lower(), options, tuple(word.lower() for word in rest if "=" not in word)))
    return tuple(found)


def check_words(pragma: Pragma) -> tuple[str, ...]:
    """What is wrong with a pragma's own words: an unknown name, option or value, or a required option that is missing."""
    rule = KNOWN.get(pragma.name)
    if rule is None:
        return (f"unknown pragma HLS {pragma.name}",)
    wrong = [f"{pragma.name}: unknown option {option}" for option in pragma.options if option not in rule.options]
    wrong += [f"{pragma.name}: unknown option {flag}" for flag in pragma.flags if flag not in rule.flags]
    wrong += [
        f"{pragma.name}: {option}={value} is none of {', '.join(sorted(rule.options[option]))}"
        for option, value in pragma.options.items()
        if rule.options.get(option) and value not in rule.options[option]
    ]
    wrong += [f"{pragma.name}: option {option} is missing" for option in sorted(rule.required) if option not in pragma.options]
    return tuple(wrong)
