"""TorchScript archives (torch.jit.save), scripted, traced or frozen: tensors from a restricted unpickler, the network from the code's text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.archive import Archive
from fpga_squeeze.load.aten import Recorder
from fpga_squeeze.load.source import Imported
from fpga_squeeze.load.torchscript_code import CodeError, Interpreter, as_input_error
from fpga_squeeze.load.torchscript_pickle import Held, Module, read_pickle

MAX_MODULES = 800
RUNNER = "torch's own operators"


def load_torchscript(path: Path, input_size: int | None, default_size: int) -> Imported:
    """Read a TorchScript archive. It does not say which images it takes: the size is `input_size`, else `default_size` and an assumption.

    Raises InputError: damaged archives, objects other than modules and tensors, code beyond straight calls, operators that cannot be built.
    """
    with Archive(path) as archive:
        main = read_pickle(archive, "data.pkl")
        constants = read_pickle(archive, "constants.pkl")
        if not isinstance(main, Module) or not isinstance(constants, tuple):
            raise InputError(f"{path}: the archive holds no scripted module; save one with torch.jit.save")
        recorder = Recorder(path)
        interpreter = Interpreter(archive, recorder, constants)
        size = default_size if input_size is None else input_size
        if input_size is None:
            recorder.notes.append(f"input {size}x{size}, which TorchScript does not record (--input-size)")
        image = recorder.image(_channels(main, constants), size, "x")
        try:
            output = interpreter.call_method(main, "forward", [image])
        except CodeError as error:
            if recorder.refusals:  # what stopped the walk may come from an operator that was refused before
                recorder.unknown("code", "forward", str(error))
            else:
                raise as_input_error(path, error) from error
        except RecursionError as error:
            raise InputError(f"{path}: the TorchScript code is nested too deeply") from error
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            raise as_input_error(path, CodeError(f"values of the wrong kind ({type(error).__name__})")) from error
        return recorder.finish(output if recorder.refusals == [] else None, RUNNER)


def _channels(main: Module, constants: Sequence[Any]) -> int:
    """Input channels of the first convolution: 1 or 3 where its weights say so."""
    for shape in (*_shapes(main, set()), *(tuple(c.tensor.shape) for c in constants if isinstance(c, Held))):
        if len(shape) == 4:
            return int(shape[1]) if int(shape[1]) in (1, 3) else 3
    return 3


def _shapes(module: Module, seen: set[int]) -> list[tuple[int, ...]]:
    """Shapes of all tensors in the order of the attributes; modules may be shared or contain themselves."""
    found: list[tuple[int, ...]] = []
    for value in module.attributes.values():
        if isinstance(value, Module) and id(value) not in seen and len(seen) < MAX_MODULES:
            seen.add(id(value))
            found += _shapes(value, seen)
        elif isinstance(value, Held):
            found.append(tuple(value.tensor.shape))
    return found
