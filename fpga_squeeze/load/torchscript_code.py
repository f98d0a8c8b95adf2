"""Runs the text of TorchScript's generated code symbolically: Python's `ast` parses it, this file interprets the small subset that torch writes.

Numbers, lists and conditions are computed; tensor operators become calls of a Recorder. Python itself never executes anything of the file.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.archive import Archive
from fpga_squeeze.load.aten import Recorder
from fpga_squeeze.load.aten_ops import Tensor
from fpga_squeeze.load.features import clean
from fpga_squeeze.load.torchscript_pickle import Held, Module

MAX_DEPTH = 60
MAX_STEPS = 200_000
MAX_CODE_BYTES = 1_000_000
"""Of one code file. The syntax tree of a text takes a hundred times its size."""
MAX_TOTAL_CODE_BYTES = 8_000_000
MAX_PATH = 200
MAX_LIST = 1000
Env = dict[str, Any]


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True)
class _Path:
    """A dotted name that is no variable: torch.conv2d, ops.prim.X, __torch__.a.b."""

    text: str


@dataclass(frozen=True, eq=False)
class _Method:
    owner: Module
    name: str


class CodeError(Exception):
    """The code leaves the subset; the text says where and why."""


class Interpreter:
    """Calls `forward` of the archive's main module on a recorded image."""

    def __init__(self, archive: Archive, recorder: Recorder, constants: tuple[Any, ...]) -> None:
        self._archive = archive
        self._recorder = recorder
        self._constants = tuple(self._wrap(c, "") for c in constants)
        self._files: dict[str, dict[str, ast.stmt]] = {}
        self._code_bytes = 0
        self._steps = 0
        self._depth = 0
        self._names: dict[str, int] = {}

    def call_method(self, owner: Module, name: str, arguments: list[Any]) -> Any:
        """Interpret `owner.name(*arguments)`."""
        module, _, kind = owner.kind.rpartition(".")
        found = self._definitions(module).get(kind)
        methods = {s.name: s for s in found.body if isinstance(s, ast.FunctionDef)} if isinstance(found, ast.ClassDef) else {}
        if name not in methods:
            raise CodeError(f"the code of {clean(owner.kind)}.{clean(name)} is missing")
        return self._run(methods[name], [owner, *arguments])

    def _run(self, function: ast.FunctionDef, arguments: list[Any]) -> Any:
        parameters = [a.arg for a in function.args.args]
        defaults = [self._eval(d, {}) for d in function.args.defaults]
        values = arguments + defaults[len(defaults) - (len(parameters) - len(arguments)) :] if len(arguments) < len(parameters) else arguments
        if len(values) != len(parameters):
            raise CodeError(f"{clean(function.name)} takes {len(parameters)} arguments, got {len(arguments)}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CodeError(f"calls nested more than {MAX_DEPTH} deep")
        try:
            self._block(function.body, dict(zip(parameters, values, strict=True)))
        except _Return as result:
            return result.value
        finally:
            self._depth -= 1
        return None

    def _definitions(self, module: str) -> dict[str, ast.stmt]:
        """Classes and functions of a code file, by name."""
        if module not in self._files:
            entry = f"code/{module.replace('.', '/')}.py"
            text = self._archive.text(entry, MAX_CODE_BYTES)
            self._code_bytes += len(text)
            if self._code_bytes > MAX_TOTAL_CODE_BYTES:
                raise CodeError(f"more than {MAX_TOTAL_CODE_BYTES} bytes of code")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # remarks on odd literals
                    tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise CodeError(f"{clean(entry)} does not parse ({type(error).__name__})") from error
            self._files[module] = {s.name: s for s in tree.body if isinstance(s, ast.ClassDef | ast.FunctionDef)}
        return self._files[module]

    def _block(self, body: list[ast.stmt], env: Env) -> None:
        for statement in body:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise CodeError(f"more than {MAX_STEPS} statements; larger networks are not read")
            self._statement(statement, env)

    def _statement(self, s: ast.stmt, env: Env) -> None:
        if isinstance(s, ast.Assign) and len(s.targets) == 1:
            self._assign(s.targets[0], self._eval(s.value, env, _target_name(s.targets[0])), env)
        elif isinstance(s, ast.AnnAssign) and s.value is not None:
            self._assign(s.target, self._eval(s.value, env), env)
        elif isinstance(s, ast.Return):
            raise _Return(None if s.value is None else self._eval(s.value, env, "result"))
        elif isinstance(s, ast.If):
            condition = self._eval(s.test, env)
            if not isinstance(condition, bool | int):
                raise CodeError(f"line {s.lineno}: a condition that depends on the image")
            self._block(s.body if condition else s.orelse, env)
        elif isinstance(s, ast.Expr):
            self._eval(s.value, env)
        elif not isinstance(s, ast.Pass):
            raise CodeError(f"line {s.lineno}: a {type(s).__name__} statement; straight code with fixed conditions was expected")

    def _assign(self, target: ast.expr, value: Any, env: Env) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, tuple | list) and len(target.elts) == len(value):
            for t, v in zip(target.elts, value, strict=True):
                self._assign(t, v, env)
        else:
            raise CodeError(f"line {target.lineno}: an assignment to something other than variables")

    def _eval(self, e: ast.expr, env: Env, hint: str = "") -> Any:
        if isinstance(e, ast.Constant):
            return e.value
        if isinstance(e, ast.Name):
            return env[e.id] if e.id in env else {"None": None, "True": True, "False": False}.get(e.id, _Path(e.id))
        if isinstance(e, ast.List | ast.Tuple):
            values = [self._eval(v, env) for v in e.elts]
            return values if isinstance(e, ast.List) else tuple(values)
        if isinstance(e, ast.Attribute):
            return self._attribute(self._eval(e.value, env), e.attr)
        if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub | ast.Not):
            value = self._eval(e.operand, env)
            if isinstance(value, int | float):
                return -value if isinstance(e.op, ast.USub) else not value
        if isinstance(e, ast.Subscript):
            owner, index = self._eval(e.value, env), self._eval(e.slice, env)
            if isinstance(owner, list | tuple) and isinstance(index, int):
                return owner[index]
            if isinstance(owner, _Path):  # a type such as List[int]
                return owner
        if isinstance(e, ast.Call):
            return self._call(e, env, hint)
        raise CodeError(f"line {e.lineno}: an expression of the kind {type(e).__name__}")

    def _attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, _Path):
            if owner.text == "CONSTANTS" and name[:1] == "c" and name[1:].isdigit() and int(name[1:]) < len(self._constants):
                return self._constants[int(name[1:])]
            return _Path(f"{owner.text}.{name}")
        if isinstance(owner, Module):
            if name in owner.attributes:
                return self._wrap(owner.attributes[name], f"{owner.path}.{name}" if owner.path else name)
            return _Method(owner, name)
        raise CodeError(f"the attribute {clean(name)!r} of a {type(owner).__name__}")

    def _wrap(self, value: Any, path: str) -> Any:
        if isinstance(value, Held) and isinstance(value.tensor, torch.Tensor):
            return Tensor(path or "constant", constant=value.tensor, origin=path)
        if isinstance(value, Module):
            value.path = path[-MAX_PATH:]
        return value

    def _call(self, e: ast.Call, env: Env, hint: str) -> Any:
        function = self._eval(e.func, env)
        named = {k.arg: self._eval(k.value, env) for k in e.keywords if k.arg is not None}
        if isinstance(function, _Path) and function.text in ("annotate", "unchecked_cast"):
            return self._eval(e.args[1], env, hint)
        arguments = [self._eval(a, env) for a in e.args]
        if isinstance(function, _Method):
            return self.call_method(function.owner, function.name, arguments)
        if not isinstance(function, _Path):
            raise CodeError(f"line {e.lineno}: a call of a {type(function).__name__}")
        text = function.text
        if text == "getattr" and len(arguments) == 2 and isinstance(arguments[1], str):
            return self._attribute(arguments[0], arguments[1])
        if text.startswith("__torch__."):
            module, _, name = text.rpartition(".")
            definition = self._definitions(module).get(name)
            if not isinstance(definition, ast.FunctionDef):
                raise CodeError(f"line {e.lineno}: the function {clean(text)} is missing")
            return self._run(definition, arguments)
        if text in _PLAIN and not named and (text in _ON_TENSORS or not any(isinstance(a, Tensor) for a in arguments)):
            return _plain(text, arguments)
        if text.startswith("torch."):
            return self._operator(text.removeprefix("torch."), arguments, named, hint)
        if text == "ops.prim.RaiseException":
            raise CodeError(f"line {e.lineno}: the network refuses its input: {clean(str(arguments[0]) if arguments else '')}")
        return self._recorder.unknown(text, hint or text, "not one of torch's standard operators")

    def _operator(self, op: str, arguments: list[Any], named: Mapping[str, Any], hint: str) -> Any:
        if op == "size" and len(arguments) == 1 and isinstance(arguments[0], Tensor):
            return list(_dims(arguments[0]))
        count = self._names[op] = self._names.get(op, -1) + 1
        name = hint if hint and not hint.startswith("_") and hint != "result" else f"{op.rstrip('_')}_{count}"
        return self._recorder.call(op, None, arguments, named, name)


def _dims(x: Tensor) -> tuple[int, ...]:
    if x.feature is not None:
        return x.feature.dims
    if x.constant is not None:
        return tuple(x.constant.shape)
    raise CodeError("the size of what an unsupported operator would make")


def _target_name(target: ast.expr) -> str:
    return target.id if isinstance(target, ast.Name) else ""


_PLAIN: dict[str, Callable[..., Any]] = {
    "torch.__is__": lambda a, b: a is b or (a is None and b is None),
    "torch.__isnot__": lambda a, b: a is not b,
    "torch.__not__": operator.not_, "torch.eq": operator.eq, "torch.ne": operator.ne, "torch.lt": operator.lt, "torch.gt": operator.gt,
    "torch.le": operator.le, "torch.ge": operator.ge, "torch.len": len, "torch.add": operator.add, "torch.sub": operator.sub,
    "torch.mul": operator.mul, "torch.__getitem__": operator.getitem, "torch.floordiv": operator.floordiv, "torch.remainder": operator.mod,
    "torch.format": lambda *a: str(a[0]), "torch.warn": lambda *a: None, "int": int, "bool": bool, "float": float, "ops.prim.NumToTensor": lambda a: a,
    "torch.Int": int, "torch.Bool": bool, "torch.Float": float, "ops.prim.unchecked_cast": lambda a, b: b, "torch.list": list,
    "torch.dim": lambda x: len(_dims(x)), "torch.slice": lambda x, start=None, end=None, step=1: x[start:end:step],
}  # fmt: skip
"""Functions of numbers and lists, computed at once; with tensors among the arguments add, sub, mul and eq are operators instead."""

_ARITHMETIC = frozenset({"torch.add", "torch.sub", "torch.mul", "torch.floordiv", "torch.remainder"})
_ON_TENSORS = frozenset({"torch.dim", "torch.__is__", "torch.__isnot__", "ops.prim.NumToTensor", "torch.__getitem__", "torch.len"})


def _plain(text: str, arguments: list[Any]) -> Any:
    numbers = all(isinstance(a, int | float) for a in arguments)
    lists = all(isinstance(a, list) and len(a) <= MAX_LIST for a in arguments)
    if text in _ARITHMETIC and not (numbers or (text == "torch.add" and lists)):
        raise CodeError(f"{text} on something other than numbers")
    result = _PLAIN[text](*arguments)
    if isinstance(result, int) and abs(result) > 1 << 62:
        raise CodeError(f"{text} gives a number beyond 64 bits")
    return result


def as_input_error(path: object, error: CodeError) -> InputError:
    """The error for the user."""
    return InputError(f"{path}: the TorchScript code cannot be followed: {error}")
