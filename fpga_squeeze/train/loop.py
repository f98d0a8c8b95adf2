"""`fpga-squeeze train --data`: from a folder of images to model.pt, over as many processes as torchrun started.

Everything random depends on (seed, epoch, step or picture) alone and everything else is in the checkpoint, so an interrupted training continues to
the very weights of an uninterrupted one; and a batch's gradients are added up over the processes, so their number changes rounding only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpga_squeeze.errors import CheckFailedError
from fpga_squeeze.parallel import Group
from fpga_squeeze.prescribed import Prescribed
from fpga_squeeze.quantize.ptq import QuantOptions
from fpga_squeeze.simulate.evaluate import top_k
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.train import checkpoint as disk
from fpga_squeeze.train.checkpoint import EpochRow, Progressed
from fpga_squeeze.train.data import Pictures, as_float, batches, epoch_order, rank_slice
from fpga_squeeze.train.fold import lowered_graph
from fpga_squeeze.train.options import TrainOptions
from fpga_squeeze.train.qat import QatNetwork, choose_prescribed
from fpga_squeeze.train.setup import Setup, prepare
from fpga_squeeze.train.step import FloatNetwork, GradientSum, Objective, cosine_rate, dropout_mask
from fpga_squeeze.zoo.squeezenet import SqueezeNet

CALIBRATION_IMAGES = 128
VALIDATION_BATCH = 32
Progress = Callable[[str, int, int], None]
"""Called with (step, done, total)."""


@dataclass(frozen=True)
class TrainResult:
    """What a training made. `steps` were taken by this call, each with `bytes_per_step` of gradients handed in by every process (0 for one process)."""

    model: Path
    arch: str
    classes: tuple[str, ...]
    parameters: int
    train_count: int
    val_count: int
    new_head: bool
    processes: int
    steps: int
    bytes_per_step: int
    rows: tuple[EpochRow, ...]

    def to_json(self) -> dict[str, object]:
        """Every field; the last epoch's figures as "train_loss", "train_top1", "val_top1", "val_top5"."""
        last = self.rows[-1]
        return {
            "file": str(self.model), "arch": self.arch, "classes": list(self.classes), "parameters": self.parameters, "epochs": last.epoch,
            "train_count": self.train_count, "val_count": self.val_count, "new_head": self.new_head, "processes": self.processes, "steps": self.steps,
            "bytes_per_step": self.bytes_per_step, "train_loss": last.train_loss, "train_top1": last.train_top1, "val_top1": last.val_top1,
            "val_top5": last.val_top5,
        }  # fmt: skip


def train(options: TrainOptions, group: Group, progress: Progress) -> TrainResult:
    """Train as `options` say; model.pt, labels.txt, train_log.csv and checkpoint.pt go to `options.out` after every epoch.

    Raises:
        InputError: bad folders, weights that do not fit, an `out` that holds another training (without resume) or cannot be resumed.
        CheckFailedError: the loss is no longer finite.
    """
    setup, model = prepare(options, group)
    training = _Training(setup, model, progress)
    # On GPUs: no reduced precision, and the same kernels every time.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        training.run()
    val_count = len(setup.validation.samples) if setup.validation is not None else 0
    return TrainResult(
        options.out / disk.MODEL_FILE, setup.arch.name, setup.folder.classes, sum(p.numel() for p in model.parameters()), len(setup.folder.samples),
        val_count, setup.new_head, group.world, training.steps, training.gradients.bytes // max(1, training.steps), tuple(training.state.rows),
    )  # fmt: skip


class _Training:
    """A run from its checkpoint (or its beginning) to its last epoch; `steps` counts the steps taken here."""

    def __init__(self, setup: Setup, model: SqueezeNet, progress: Progress) -> None:
        self.setup, self.model, self.progress = setup, model, progress
        self.optimizer = _optimizer(model, setup.options)
        self.state = Progressed()
        self.checkpoint = setup.options.out / disk.CHECKPOINT_FILE
        if setup.options.resume and self.checkpoint.is_file():
            self.state = disk.load_checkpoint(self.checkpoint, model, self.optimizer, setup.fingerprint)
        graph = lowered_graph(model, setup.preprocess)
        self.dropout_shape = graph[graph[graph[graph.output].inputs[0]].inputs[0]].shape
        self.gradients = GradientSum()
        self.steps = 0

    def run(self) -> None:
        setup, state = self.setup, self.state
        network: FloatNetwork | QatNetwork
        if setup.options.qat:
            network = QatNetwork(self.model, setup.preprocess, state.prescribed or self._choose_formats(equalize=True))
            state.prescribed = network.prescribed
        else:
            network = FloatNetwork(self.model)
        self.network = network
        objective = self.gradients.wrap(Objective(network), setup.group, setup.device)
        while state.epoch < setup.options.epochs:
            if isinstance(network, QatNetwork) and state.step == 0 and 0 < state.epoch < setup.format_epochs:
                network.prescribed = state.prescribed = self._choose_formats(equalize=False)
            started = time.monotonic()
            sums = self._epoch(objective)
            hits = self._validate(network)
            self._close_epoch(sums, hits, time.monotonic() - started)
        if setup.group.is_writer:
            self._write_results()

    def _choose_formats(self, equalize: bool) -> Prescribed:
        """By the writer for all, on unaugmented training images; the others get an equalized module's weights when gradients are first shared."""
        setup = self.setup
        text: str | None = None
        if setup.group.is_writer:
            count = min(CALIBRATION_IMAGES, len(setup.folder.samples))
            chosen = np.linspace(0, len(setup.folder.samples) - 1, count).round().astype(int).tolist()
            keys = [[(-1, i) for i in chosen[start : start + VALIDATION_BATCH]] for start in range(0, count, VALIDATION_BATCH)]
            pixels = np.concatenate([p for p, _ in batches(setup.pictures, keys, setup.options.workers)])
            options = QuantOptions(setup.options.weight_bits, setup.options.act_bits)
            text = choose_prescribed(
                self.model, setup.preprocess, pixels, options, equalize, lambda done, total: self.progress("calibrate", done, total)
            ).to_json()
        return Prescribed.from_json(setup.group.broadcast(text))

    def _epoch(self, objective: nn.Module) -> list[float]:
        """The rest of the current epoch; returns this process's loss and hits, summed over its images of the whole epoch."""
        setup, state, options = self.setup, self.state, self.setup.options
        order = epoch_order(len(setup.folder.samples), options.seed, state.epoch)
        whole = [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]
        shares = [rank_slice(len(batch), setup.group.rank, setup.group.world) for batch in whole]
        # A process without a share of a small last batch lets its first picture count nothing: it must take part in the exchange.
        keys = [[(state.epoch, int(i)) for i in (batch[share] if len(batch[share]) else batch[:1])] for batch, share in zip(whole, shares, strict=True)]
        sums = self._begin_sums()
        objective.train()
        for pixels, labels in batches(setup.pictures, keys[state.step :], options.workers):
            count, share = len(whole[state.step]), shares[state.step]
            loss, hits = self._step(objective, pixels, labels, count, share)
            sums = [sums[0] + loss * count, sums[1] + hits]
            state.step += 1
            self.steps += 1
            self.progress("train", state.epoch * len(whole) + state.step, options.epochs * len(whole))
            if options.checkpoint_steps and state.step % options.checkpoint_steps == 0 and state.step < len(whole):
                state.sums = setup.group.gather(sums)
                self._save_checkpoint()
        return sums

    def _begin_sums(self) -> list[float]:
        """What this process had counted when the epoch was interrupted; with another number of processes the writer takes it all."""
        saved, group = self.state.sums, self.setup.group
        if len(saved) == group.world:
            return saved[group.rank]
        return [sum(s[i] for s in saved) if group.is_writer else 0.0 for i in (0, 1)]

    def _step(self, objective: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], count: int, share: slice) -> tuple[float, float]:
        """One update; returns this process's part of the mean loss over the batch of `count`, and its hits."""
        setup, options, state = self.setup, self.setup.options, self.state
        empty = share.start == share.stop
        rows = slice(0, 1) if empty else share
        mask = dropout_mask(self.dropout_shape, setup.arch.dropout, count, rows, (options.seed, state.epoch, state.step))
        weights = torch.full((len(labels),), 0.0 if empty else 1.0 / count, device=setup.device)
        x = as_float(pixels, setup.device) if options.qat else setup.preprocess.normalize(pixels).to(setup.device)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self._rate()
        self.optimizer.zero_grad()
        loss, hits = objective(x, torch.from_numpy(labels).to(setup.device), weights, mask.to(setup.device) if mask is not None else None)
        loss.backward()
        if isinstance(self.network, QatNetwork):
            self.network.block_saturated()
        self.optimizer.step()
        value = float(loss.item())
        if not math.isfinite(value):
            raise CheckFailedError(f"--lr {options.lr:g}: the loss is {value} at step {state.step + 1} of epoch {state.epoch + 1}; use a smaller rate")
        return value, float(hits.item())

    def _rate(self) -> float:
        per_epoch = self.setup.steps_an_epoch
        return cosine_rate(self.setup.options.lr, self.state.epoch * per_epoch + self.state.step, self.setup.options.epochs * per_epoch)

    def _validate(self, network: FloatNetwork | QatNetwork) -> tuple[int, int] | None:
        """(top-1, top-5) hits over the validation images of all processes; of the machine itself in quantization-aware training."""
        setup = self.setup
        if setup.validation is None:
            return None
        pictures = Pictures(setup.validation.samples, setup.preprocess)
        mine = [(-1, i) for i in setup.group.share(range(len(pictures)))]
        keys = [mine[start : start + VALIDATION_BATCH] for start in range(0, len(mine), VALIDATION_BATCH)]
        simulator = FastSimulator(network.quantized()) if isinstance(network, QatNetwork) else None
        network.eval()
        hits = [0, 0]
        for done, (pixels, labels) in enumerate(batches(pictures, keys, setup.options.workers)):
            if simulator is not None:
                best = top_k(simulator.run(pixels), min(5, len(setup.folder.classes)))
            else:
                with torch.no_grad():
                    scores = network(setup.preprocess.normalize(pixels).to(setup.device)).rectified
                best = top_k(scores.cpu().numpy(), min(5, len(setup.folder.classes)))
            hits[0] += int((best[:, 0] == labels).sum())
            hits[1] += int((best == labels[:, None]).any(axis=1).sum())
            self.progress("validate", done + 1, len(keys))
        parts = setup.group.gather(hits)
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    def _close_epoch(self, sums: list[float], hits: tuple[int, int] | None, seconds: float) -> None:
        setup, state = self.setup, self.state
        parts = setup.group.gather(sums)
        count = len(setup.folder.samples)
        val = [100.0 * h / len(setup.validation.samples) for h in hits] if hits is not None and setup.validation is not None else [None, None]
        state.step -= 1
        rate = self._rate()
        loss, right = (math.fsum(p[i] for p in parts) for i in (0, 1))
        state.rows.append(EpochRow(state.epoch + 1, rate, loss / count, 100.0 * right / count, val[0], val[1], seconds))
        state.epoch, state.step, state.sums = state.epoch + 1, 0, []
        if setup.group.is_writer:
            self._write_results()
            self._save_checkpoint()

    def _write_results(self) -> None:
        setup, out = self.setup, self.setup.options.out
        disk.save_model(out / disk.MODEL_FILE, self.model.state_dict(), setup.arch.name, setup.preprocess, setup.folder.classes, self.state.prescribed)
        disk.write_atomic(out / disk.LABELS_FILE, "".join(f"{name}\n" for name in setup.folder.classes).encode())
        disk.write_log(out / disk.LOG_FILE, self.state.rows)

    def _save_checkpoint(self) -> None:
        if self.setup.group.is_writer:
            disk.save_checkpoint(self.checkpoint, self.state, self.model.state_dict(), self.optimizer, self.setup.fingerprint)


def _optimizer(model: SqueezeNet, options: TrainOptions) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, weight_decay=options.weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
