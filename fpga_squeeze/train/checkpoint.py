"""What a training leaves on disk: the model file, the checkpoint it can be resumed from, the CSV log. Each is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.load.state_dict import Tensors
from fpga_squeeze.load.trained import METADATA_KEY, METADATA_VERSION
from fpga_squeeze.prescribed import Prescribed

MODEL_FILE = "model.pt"
CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "train_log.csv"
LABELS_FILE = "labels.txt"
VERSION = 1


@dataclass(frozen=True)
class EpochRow:
    """One line of train_log.csv: percentages of the images, the mean loss, the rate after the epoch's last step; val is None without validation."""

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    val_top1: float | None
    val_top5: float | None
    seconds: float


@dataclass
class Progressed:
    """Where a training stands: `epoch` (from 0) and `step` are the next to do; `sums` holds, per process, the epoch's loss and hits so far."""

    epoch: int = 0
    step: int = 0
    sums: list[list[float]] = field(default_factory=list)
    prescribed: Prescribed | None = None
    rows: list[EpochRow] = field(default_factory=list)


def save_model(path: Path, state: Tensors, arch: str, preprocess: Preprocess, classes: tuple[str, ...], prescribed: Prescribed | None) -> None:
    """The result: {"state_dict": tensors, "fpga_squeeze": what a state dict cannot say}; `export` reads both, plain PyTorch the first."""
    metadata: dict[str, object] = {"version": METADATA_VERSION, "arch": arch, "preprocess": preprocess.to_json(), "classes": list(classes)}
    if prescribed is not None:
        metadata["prescribed"] = prescribed.to_json()
    write_atomic(path, _torch_bytes({"state_dict": _on_cpu(state), METADATA_KEY: metadata}))


def save_checkpoint(path: Path, progressed: Progressed, model: Tensors, optimizer: torch.optim.Optimizer, fingerprint: Mapping[str, object]) -> None:
    """Everything that the rest of the training depends on."""
    body = {
        "version": VERSION,
        "fingerprint": json.dumps(fingerprint),
        "epoch": progressed.epoch,
        "step": progressed.step,
        "sums": progressed.sums,
        "prescribed": progressed.prescribed.to_json() if progressed.prescribed is not None else None,
        "rows": json.dumps([asdict(row) for row in progressed.rows]),
        "model": _on_cpu(model),
        "optimizer": optimizer.state_dict(),
    }
    write_atomic(path, _torch_bytes(body))


def load_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, fingerprint: Mapping[str, object]) -> Progressed:
    """Restore model and optimizer in place and say where the training stood.

    Raises InputError: damaged, of another version, or of a training with other options or data (the first that differs is named).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body: Any = torch.load(path, map_location="cpu", weights_only=True)
        if body["version"] != VERSION:
            raise InputError(f"--resume: {path} has format version {body['version']}, expected {VERSION}")
        before = json.loads(body["fingerprint"])
    except InputError:
        raise
    except Exception as error:  # torch's reader answers a malformed file with nearly any exception type
        raise InputError(f"--resume: {path} is damaged or no checkpoint ({type(error).__name__}); remove it to begin anew") from error
    for key, now in fingerprint.items():
        if before.get(key) != now:
            raise InputError(f"--resume: {path} was made with {key} {before.get(key)}, now it is {now}; use the same options and data, or another -o")
    try:
        model.load_state_dict(body["model"])
        optimizer.load_state_dict(body["optimizer"])
        rows = [EpochRow(**row) for row in json.loads(body["rows"])]
        prescribed = Prescribed.from_json(body["prescribed"], str(path)) if body["prescribed"] is not None else None
        return Progressed(int(body["epoch"]), int(body["step"]), [[float(v) for v in s] for s in body["sums"]], prescribed, rows)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"--resume: {path} is damaged ({type(error).__name__}); remove it to begin anew") from error


def write_log(path: Path, rows: list[EpochRow]) -> None:
    """train_log.csv with a heading, one row an epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochRow.__dataclass_fields__)
    for row in rows:
        writer.writerow("" if value is None else f"{value:.6g}" for value in asdict(row).values())
    write_atomic(path, text.getvalue().encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside, force to disk, rename: after a crash the file is the old or the new one, never half of it. Raises InputError when it cannot."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _torch_bytes(body: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(body, buffer)
    return buffer.getvalue()


def _on_cpu(state: Tensors) -> Tensors:
    return {key: value.detach().to("cpu").clone() for key, value in state.items()}
