"""Layer names to C++ and SystemVerilog identifiers, one to one."""

from __future__ import annotations

import re

from fpga_squeeze.errors import InputError

# fmt: off
_RESERVED = frozenset((
    "alignas", "alignof", "and", "asm", "auto", "bool", "break", "case", "catch", "char", "class", "const", "constexpr", "continue",
    "decltype", "default", "delete", "do", "double", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend",
    "goto", "if", "inline", "int", "long", "main", "module", "mutable", "namespace", "new", "not", "nullptr", "operator", "or", "private",
    "protected", "public", "register", "return", "short", "signed", "sizeof", "static", "std", "struct", "switch", "template", "this",
    "throw", "true", "try", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "while", "xor",
    "fsq", "hls", "always", "assign", "begin", "end", "endmodule", "initial", "input", "inout", "integer", "logic", "output", "parameter",
    "reg", "wire", "genvar", "generate", "function", "task", "bit", "byte", "packed", "property", "sequence",
))
# fmt: on


def identifier(name: str) -> str:
    """A C++ and SystemVerilog identifier for a layer name: other characters become underscores.

    >>> identifier("fire2.expand3x3"), identifier("3rd"), identifier("class")
    ('fire2_expand3x3', 'n_3rd', 'class_')
    """
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "n"
    if text[0].isdigit():
        text = f"n_{text}"
    return f"{text}_" if text in _RESERVED else text


class Namer:
    """Hands out identifiers and keeps them distinct.

    >>> namer = Namer()
    >>> namer.take("fire2.a"), namer.take("fire2_a")
    ('fire2_a', 'fire2_a_2')
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """The identifier of `name`, numbered when an earlier name already gave the same one."""
        base = identifier(name)
        text, number = base, 2
        while text in self._taken:
            text, number = f"{base}_{number}", number + 1
        self._taken.add(text)
        return text


def checked_identifier(name: str, what: str) -> str:
    """`name` when it is a usable identifier; raises InputError otherwise."""
    if identifier(name) != name:
        raise InputError(f"{what} {name!r} is no usable identifier: letters, digits and single underscores were expected; try {identifier(name)!r}")
    return name
