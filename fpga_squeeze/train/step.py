"""One training step: scores, loss, dropout that does not depend on the number of processes, and the gradients' way between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fpga_squeeze.errors import InputError
from fpga_squeeze.parallel import Group
from fpga_squeeze.train.qat import QatNetwork, Scores
from fpga_squeeze.zoo.squeezenet import SqueezeNet

LINEAR_WEIGHT = 0.33
WARMUP_SHARE = 0.05


class FloatNetwork(nn.Module):
    """The module itself, with its dropout replaced by a given mask and the scores before the last ReLU at hand. Same parameters, same keys."""

    def __init__(self, model: SqueezeNet) -> None:
        super().__init__()
        self.model = model
        drop, _, relu, _ = model.classifier
        if not isinstance(drop, nn.Dropout | _Masked) or not isinstance(relu, nn.ReLU):
            raise InputError(f"{model.arch}: the classifier dropout, conv10, ReLU, mean was expected")
        self._masked = _Masked()
        model.classifier[0] = self._masked
        model.classifier[2] = nn.ReLU()  # not in place: the values before it are scores too
        self._raw: torch.Tensor | None = None
        model.classifier[1].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        self._raw = output

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Scores:
        """Scores of the normalized (N, C, H, W); `mask`: dropout's factors for what conv10 reads."""
        self._masked.mask = mask
        rectified = self.model(x)
        assert self._raw is not None
        raw, self._raw = self._raw, None
        return Scores(rectified, raw.mean((2, 3)))


class _Masked(nn.Module):
    """Dropout with a mask from outside."""

    mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.mask is None else x * self.mask


class Objective(nn.Module):
    """The loss of a process's share of a batch, scaled so that the shares' gradients add up to the whole batch's."""

    def __init__(self, network: FloatNetwork | QatNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of weights x loss, number of hits): `weights` (N,) are 1 / size of the whole batch, or 0 for a stand-in of an empty share.

        Cross entropy of the scores, and with a third of the weight that of the scores before the last ReLU: that ReLU passes no gradient to a class
        whose score is negative everywhere, so without the second term such a class would never wake.
        """
        scores = self.network(x, mask)
        rectified, linear = (F.cross_entropy(z, labels, reduction="none") for z in (scores.rectified, scores.linear))
        loss = ((rectified + LINEAR_WEIGHT * linear) * weights).sum() / (1 + LINEAR_WEIGHT)
        hits = ((scores.rectified.argmax(1) == labels) & (weights > 0)).sum()
        return loss, hits


class GradientSum:
    """Adds the processes' gradients up, bucket by bucket while backward still runs, and counts the bytes each process hands in."""

    def __init__(self) -> None:
        self.bytes = 0

    def wrap(self, objective: Objective, group: Group, device: torch.device) -> nn.Module:
        """The module to call instead of `objective`: itself for one process, else torch's DistributedDataParallel with sums for means."""
        if group.world == 1:
            return objective
        ids = [device.index] if device.type == "cuda" else None
        parallel = DistributedDataParallel(objective, device_ids=ids)
        parallel.register_comm_hook(self, lambda state, bucket: _add_up(state, bucket))  # a hook's annotations would have to be torch's own
        return parallel


def _add_up(counter: GradientSum, bucket: Any) -> torch.futures.Future[torch.Tensor]:
    gradients = bucket.buffer()
    counter.bytes += gradients.numel() * gradients.element_size()
    work = dist.all_reduce(gradients, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])  # type: ignore[no-any-return]


def dropout_mask(shape: tuple[int, int, int], rate: float, count: int, share: slice, key: tuple[int, int, int]) -> torch.Tensor | None:
    """The rows `share` of the mask of a whole batch of `count`: (N, C, H, W) of 0 and 1 / (1 - rate), None at rate 0.

    `key` = (seed, epoch, step) decides it, so any split of the batch among processes sees the same mask.
    """
    if rate == 0.0:
        return None
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
    kept = torch.rand((count, *shape), generator=generator)[share] >= rate
    return kept.to(torch.float32) / (1.0 - rate)


def cosine_rate(peak: float, step: int, steps: int) -> float:
    """Learning rate of step 0 ... steps-1: a linear rise over the first twentieth, then half a cosine towards 0.

    >>> [round(cosine_rate(1.0, s, 40), 3) for s in (0, 1, 2, 20, 39)]
    [0.5, 1.0, 0.998, 0.52, 0.002]
    """
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step + 1 - warmup) / (steps + 1 - warmup)))
