"""Lint of the generated HLS C++ with libclang: what an HLS compiler would refuse, or accept and build badly, found without one.

Sources are parsed against declarations of ap_int, hls::stream and ap_axiu that stand below, so that a file takes milliseconds and no installation is
needed; whether it compiles is the C simulation's business. Templates are linted where they are written, before any instantiation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_squeeze.errors import InputError, ToolMissingError
from fpga_squeeze.verify.hls_pragmas import Pragma, check_words, parse_pragmas

_TYPES = """#pragma once
template <int W, bool S> struct ap_any {
    static constexpr int width = W;
    constexpr ap_any() : value(0) {}
    template <typename T> constexpr ap_any(T v) : value(static_cast<long long>(v)) {}
    constexpr operator long long() const { return value; }
    constexpr int to_int() const { return static_cast<int>(value); }
    constexpr long long to_int64() const { return value; }
    constexpr ap_any range(int, int) const { return *this; }
    long long value;
};
template <int W> using ap_int = ap_any<W, true>;
template <int W> using ap_uint = ap_any<W, false>;
"""
_STREAM = """#pragma once
namespace hls { template <typename T> class stream { public: stream(); explicit stream(const char*); T read(); void read(T&); bool read_nb(T&);
void write(const T&); bool empty() const; bool full() const; }; }
"""
_AXIS = """#pragma once
#include <ap_int.h>
template <int D, int U, int I, int T> struct ap_axiu { ap_uint<D> data; ap_uint<(D + 7) / 8> keep; ap_uint<(D + 7) / 8> strb; ap_uint<1> last; };
"""
_TRAITS = """#pragma once
namespace std { template <bool C, class A, class B> struct conditional { using type = A; };
template <class A, class B> struct conditional<false, A, B> { using type = B; }; }
"""
_STAND_INS = {"ap_int.h": _TYPES, "hls_stream.h": _STREAM, "ap_axi_sdata.h": _AXIS, "type_traits": _TRAITS}

_FORBIDDEN = {
    **dict.fromkeys(("new", "delete", "malloc", "calloc", "realloc", "free", "vector", "deque", "string", "unique_ptr", "shared_ptr"), "dynamic memory"),
    **dict.fromkeys(("throw", "try", "catch"), "exceptions"),
    **dict.fromkeys(("virtual", "dynamic_cast", "typeid"), "run-time types"),
    "goto": "goto",
}
_FIRST_IN_BODY = frozenset({"pipeline", "unroll", "dataflow", "inline", "interface", "loop_flatten", "loop_merge", "loop_tripcount", "latency"})


@dataclass(frozen=True, order=True)
class LintFinding:
    """One finding: `file` relative to the HLS folder, the line, the rule's short name, and a sentence."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


def lint(hls_dir: Path) -> tuple[LintFinding, ...]:
    """Lint every kernel source of `hls_dir` (*.cpp, *.h, lib/*.h, weights/*.h; the testbench and the stand-ins in csim/ are not synthesized).

    Raises ToolMissingError without libclang, InputError when there is nothing to lint.
    """
    try:
        from clang import cindex
    except ImportError as error:
        raise ToolMissingError("the lint needs libclang: pip install libclang") from error
    files = sorted(p for pattern in ("*.cpp", "*.h", "lib/*.h", "weights/*.h") for p in hls_dir.glob(pattern))
    if not files:
        raise InputError(f"{hls_dir}: no HLS sources; the hls folder of an export was expected")
    # Only the sizes of weight arrays matter; without their million numbers a file parses in milliseconds.
    texts = {p: p.read_text() for p in files}
    shown = {p: re.sub(r"= \{\n.*?\n\};", "= {};", t, flags=re.DOTALL) if p.parent.name == "weights" else t for p, t in texts.items()}
    index = cindex.Index.create()
    stand_ins = [(str(hls_dir / "stand_ins" / name), text) for name, text in _STAND_INS.items()]
    findings: set[LintFinding] = set()
    for path in files:
        unsaved = stand_ins + [(str(p), t) for p, t in shown.items()]
        unit = index.parse(str(path), ["-x", "c++", "-std=c++14", "-nostdinc", "-I", str(hls_dir / "stand_ins")], unsaved)
        findings.update(_Source(cindex, unit, path, path.relative_to(hls_dir).as_posix(), shown[path]).findings())
    return tuple(sorted(findings))


@dataclass(frozen=True)
class _Body:
    """A function or loop: the lines of its braces, the cursor, and the loop's or function's name for messages."""

    first: int
    last: int
    cursor: Any
    label: str


class _Source:
    """One file's syntax tree and text, and the rules on them."""

    def __init__(self, cindex: Any, unit: Any, path: Path, name: str, text: str) -> None:
        self._kinds = cindex.CursorKind
        self._unit = unit
        self._path = str(path)
        self._name = name
        self._text = text
        self._lines = text.splitlines()
        self._pragmas = parse_pragmas(text)
        self._functions: list[_Body] = []
        self._loops: list[_Body] = []
        self._collect(unit.cursor, None)

    def findings(self) -> Iterator[LintFinding]:
        """Every finding in this file."""
        for diagnostic in self._unit.diagnostics:
            if diagnostic.severity >= 3 and diagnostic.location.file and diagnostic.location.file.name == self._path:
                yield self._finding(diagnostic.location.line, "syntax", diagnostic.spelling)
        yield from self._preprocessor()
        yield from self._tokens()
        yield from self._recursion()
        for loop in self._loops:
            yield from self._loop(loop)
        for pragma in self._pragmas:
            yield from self._pragma(pragma)

    def _finding(self, line: int, rule: str, message: str) -> LintFinding:
        return LintFinding(self._name, line, rule, message)

    def _collect(self, cursor: Any, label: Any) -> None:
        k = self._kinds
        for child in cursor.get_children():
            if cursor.kind == k.TRANSLATION_UNIT and (child.location.file is None or child.location.file.name != self._path):
                continue
            if child.kind in (k.FUNCTION_DECL, k.FUNCTION_TEMPLATE, k.CXX_METHOD, k.CONSTRUCTOR):
                if any(c.kind == k.COMPOUND_STMT for c in child.get_children()):
                    self._functions.append(_Body(child.extent.start.line, child.extent.end.line, child, child.spelling))
            elif child.kind in (k.FOR_STMT, k.WHILE_STMT, k.DO_STMT, k.CXX_FOR_RANGE_STMT):
                name = cursor.spelling if cursor.kind == k.LABEL_STMT else ""
                self._loops.append(_Body(child.extent.start.line, child.extent.end.line, child, name))
            self._collect(child, cursor)

    def _preprocessor(self) -> Iterator[LintFinding]:
        for number, line in enumerate(self._lines, 1):
            directive = re.match(r"\s*#\s*(\w+)\s*(\w*)", line)
            if not directive or directive[1] == "include":
                continue
            if directive[1] != "pragma":
                yield self._finding(number, "macro", f"#{directive[1]}: kernels use constexpr and using, no macros")
            elif directive[2] not in ("once", "HLS"):
                yield self._finding(number, "pragma", f"unknown pragma {directive[2]}")

    def _tokens(self) -> Iterator[LintFinding]:
        k = self._kinds
        for token in self._unit.get_tokens(extent=self._unit.cursor.extent):
            line, word = token.location.line, token.spelling
            directive = self._lines[line - 1].lstrip().startswith("#")
            if word in _FORBIDDEN and token.kind.name in ("KEYWORD", "IDENTIFIER") and not directive:
                yield self._finding(line, "forbidden", f"{word}: no {_FORBIDDEN[word]} in hardware")
        for cursor in self._walk(self._unit.cursor):
            if cursor.kind in (k.VAR_DECL, k.PARM_DECL, k.FIELD_DECL) and cursor.type.kind.name == "POINTER":
                yield self._finding(cursor.location.line, "forbidden", f"{cursor.spelling}: kernels pass arrays and streams by reference, no pointers")

    def _walk(self, cursor: Any) -> Iterator[Any]:
        for child in cursor.get_children():
            if cursor.kind == self._kinds.TRANSLATION_UNIT and (child.location.file is None or child.location.file.name != self._path):
                continue
            yield child
            yield from self._walk(child)

    def _recursion(self) -> Iterator[LintFinding]:
        """Cycles among the functions of this file, by name: overloads count as one."""
        names = {f.label for f in self._functions}
        calls: dict[str, set[str]] = {name: set() for name in names}
        for f in self._functions:
            body = next(c for c in f.cursor.get_children() if c.kind == self._kinds.COMPOUND_STMT)
            words = [t.spelling for t in body.get_tokens()]
            qualified = {w for before, w in zip(["", *words], words, strict=False) if w in names and before != "."}
            calls[f.label] |= qualified
        for f in self._functions:
            reached, frontier = set[str](), calls[f.label]
            while frontier - reached:
                reached |= frontier
                frontier = {c for name in frontier for c in calls[name]}
            if f.label in reached:
                yield self._finding(f.first, "recursion", f"{f.label} can call itself; hardware has no stack")

    def _enclosing(self, bodies: list[_Body], line: int) -> list[_Body]:
        """Bodies that contain `line`, outermost first."""
        return sorted((b for b in bodies if b.first <= line <= b.last), key=lambda b: (b.first, -b.last))

    def _is_constexpr(self, function: _Body) -> bool:
        return any(t.spelling == "constexpr" for t in self._head(function.cursor))

    def _head(self, cursor: Any) -> Iterator[Any]:
        """Tokens of a declaration before its body."""
        for token in cursor.get_tokens():
            if token.spelling == "{":
                return
            yield token

    def _loop(self, loop: _Body) -> Iterator[LintFinding]:
        functions = self._enclosing(self._functions, loop.first)
        if functions and self._is_constexpr(functions[-1]):
            return
        label = loop.label or "a loop"
        if not loop.label:
            yield self._finding(loop.first, "label", "every loop carries a label, for the reports of synthesis")
        if loop.cursor.kind != self._kinds.FOR_STMT:
            yield self._finding(loop.first, "bounds", f"{label}: only for loops have a bound that synthesis can see")
            return
        header = self._for_header(loop.cursor)
        if header is None:
            yield self._finding(loop.first, "bounds", f"{label}: a condition against a constant was expected")
            return
        start, condition = header
        variable = start[-2] if len(start) > 1 else ""
        for i, word in enumerate(condition):
            before, after = condition[i - 1] if i else "", condition[i + 1] if i + 1 < len(condition) else ""
            if not re.match(r"[A-Za-z_]\w*$", word) or word == variable or before in ("::", ".") or after == "::":
                continue
            if after in ("(", "<") and self._constexpr_function(word):
                continue
            if not self._is_constant(word, loop.first):
                yield self._finding(loop.first, "bounds", f"{label}: the bound reads {word}, which is no compile-time constant")

    def _for_header(self, cursor: Any) -> tuple[list[str], list[str]] | None:
        """Words of a for loop's start up to its first value, and of its condition."""
        words: list[str] = []
        depth = 0
        for token in cursor.get_tokens():
            words.append(token.spelling)
            depth += (token.spelling == "(") - (token.spelling == ")")
            if depth == 0 and token.spelling == ")":
                break
        inside = words[2:-1]
        if inside.count(";") != 2:
            return None
        first = inside.index(";")
        second = inside.index(";", first + 1)
        start = inside[:first]
        condition = inside[first + 1 : second]
        equal = start.index("=") + 1 if "=" in start else len(start)
        return (start[:equal], condition) if condition else None

    def _constexpr_function(self, name: str) -> bool:
        k = self._kinds
        return any(
            c.spelling == name and any(t.spelling == "constexpr" for t in self._head(c))
            for c in _declarations(self._unit.cursor, (k.FUNCTION_DECL, k.FUNCTION_TEMPLATE))
        )

    def _is_constant(self, name: str, line: int) -> bool:
        k = self._kinds
        for cursor in self._visible(line):
            if cursor.spelling == name:
                if cursor.kind == k.TEMPLATE_NON_TYPE_PARAMETER:
                    return True
                return any(t.spelling == "constexpr" for t in cursor.get_tokens())
        return False

    def _visible(self, line: int) -> Iterator[Any]:
        """Declarations that a name on `line` can mean, innermost first: locals declared above in an enclosing block, parameters, members of the function's
        class, then file scope."""
        k = self._kinds
        wanted = (k.VAR_DECL, k.PARM_DECL, k.TEMPLATE_NON_TYPE_PARAMETER)
        for function in reversed(self._enclosing(self._functions, line)):
            local = [c for c in self._walk_in_scope(function.cursor, line) if c.kind in wanted]
            yield from sorted(local, key=lambda c: -c.location.offset)
            if function.cursor.semantic_parent is not None:
                yield from (c for c in function.cursor.semantic_parent.get_children() if c.kind in (k.FIELD_DECL, k.VAR_DECL))
        yield from _declarations(self._unit.cursor, (k.VAR_DECL,))

    def _walk_in_scope(self, cursor: Any, line: int) -> Iterator[Any]:
        """Cursors above `line` whose enclosing blocks and loops also enclose `line`."""
        k = self._kinds
        for child in cursor.get_children():
            closed = child.kind in (k.COMPOUND_STMT, k.FOR_STMT, k.WHILE_STMT, k.LABEL_STMT, k.IF_STMT) and not (
                child.extent.start.line <= line <= child.extent.end.line
            )
            if child.location.line > line or closed:
                continue
            yield child
            yield from self._walk_in_scope(child, line)

    def _pragma(self, pragma: Pragma) -> Iterator[LintFinding]:
        for wrong in check_words(pragma):
            yield self._finding(pragma.line, "pragma", wrong)
        functions = self._enclosing(self._functions, pragma.line)
        if not functions:
            yield self._finding(pragma.line, "pragma", f"{pragma.name} stands outside every function")
            return
        loops = self._enclosing(self._loops, pragma.line)
        if pragma.name in ("unroll", "loop_flatten", "loop_tripcount") and not loops:
            yield self._finding(pragma.line, "pragma", f"{pragma.name} stands outside every loop")
        if pragma.name in _FIRST_IN_BODY and not self._first_in_body(pragma.line):
            yield self._finding(pragma.line, "pragma", f"{pragma.name} must come first in its body")
        name = pragma.get("variable") or (pragma.get("port") if pragma.get("port") != "return" else None)
        if name is not None:
            yield from self._variable(pragma, name.split(".")[0])
        depth = pragma.get("depth")
        if depth is not None and not re.fullmatch(r"[1-9]\d*", depth):
            yield self._finding(pragma.line, "factor", f"{pragma.name}: depth={depth} is no positive number")

    def _first_in_body(self, line: int) -> bool:
        """Nothing but comments and pragmas between the opening brace and `line`."""
        for number in range(line - 1, 0, -1):
            text = self._lines[number - 1].split("//")[0].strip()
            if text and not text.startswith("#"):
                return text.endswith("{")
        return False

    def _variable(self, pragma: Pragma, name: str) -> Iterator[LintFinding]:
        declared = next((c for c in self._visible(pragma.line) if c.spelling == name and c.kind != self._kinds.TEMPLATE_NON_TYPE_PARAMETER), None)
        if declared is None:
            yield self._finding(pragma.line, "scope", f"{pragma.name}: no variable {name} in scope")
            return
        if pragma.name not in ("array_partition", "array_reshape"):
            return
        sizes = _array_sizes(declared)
        dim, factor, kind = pragma.get("dim") or "0", pragma.get("factor"), pragma.get("type")
        if not dim.isdigit() or int(dim) > len(sizes):
            yield self._finding(pragma.line, "factor", f"{pragma.name}: dim={dim}, but {name} has {len(sizes)} dimensions")
            return
        if kind == "complete":
            if factor is not None:
                yield self._finding(pragma.line, "factor", f"{pragma.name}: type=complete takes no factor")
            return
        if factor is None or not re.fullmatch(r"[1-9]\d*", factor):
            yield self._finding(pragma.line, "factor", f"{pragma.name}: type={kind} needs a factor, a positive number, got {factor}")
            return
        for size in sizes if int(dim) == 0 else (sizes[int(dim) - 1],):
            if size is None:
                unproven = f"the size of {name} depends on a template; factor={factor} cannot be proven to divide it"
                yield self._finding(pragma.line, "factor", f"{pragma.name}: {unproven}")
            elif size % int(factor):
                yield self._finding(pragma.line, "factor", f"{pragma.name}: factor={factor} does not divide {size}, dimension {dim} of {name}")


def _declarations(unit: Any, kinds: tuple[Any, ...]) -> Iterator[Any]:
    """Declarations of these kinds at file or namespace scope, in every file of the unit."""
    for child in unit.get_children():
        if child.kind in kinds:
            yield child
        if child.kind.name == "NAMESPACE":
            yield from _declarations(child, kinds)


def _array_sizes(declared: Any) -> list[int | None]:
    """Sizes of an array, outermost first; None where one depends on a template."""
    sizes: list[int | None] = []
    kind = declared.type.get_pointee() if declared.type.kind.name == "LVALUEREFERENCE" else declared.type
    while kind.kind.name in ("CONSTANTARRAY", "DEPENDENTSIZEDARRAY", "INCOMPLETEARRAY"):
        sizes.append(kind.element_count if kind.kind.name == "CONSTANTARRAY" else None)
        kind = kind.element_type
    return sizes
