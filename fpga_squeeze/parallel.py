"""Several processes on one job, as `torchrun` starts them: who am I, what is my share, and how do we put results together.

Without torchrun there is one process and nothing here communicates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from fpga_squeeze.errors import InputError

T = TypeVar("T")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Group:
    """This process is number `rank` of `world`; `local_rank` counts on its own machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_writer(self) -> bool:
        """True in the one process that prints and writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items, every `world`-th one: shares differ by one item at most.

        >>> [list(Group(rank, 2).share("abcde")) for rank in (0, 1)]
        [['a', 'c', 'e'], ['b', 'd']]
        """
        return items[self.rank :: self.world]

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank, in every process. Values are Python objects of these very processes (pickled between them)."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return [v for v in values if v is not None]

    def broadcast(self, value: T | None) -> T:
        """The writer's value in every process; the others pass None."""
        if self.world > 1:
            box = [value]
            dist.broadcast_object_list(box, src=0)
            value = box[0]
        assert value is not None
        return value


def environment() -> Group:
    """What torchrun says in the environment; one process when it says nothing. Raises InputError when it makes no sense."""
    if any(name not in os.environ for name in _VARIABLES):
        return Group()
    try:
        rank, world, local = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE and LOCAL_RANK of the environment must be whole numbers, as torchrun sets them ({error})") from error
    if not 0 <= rank < world or local < 0:
        raise InputError(f"RANK {rank} of WORLD_SIZE {world} in the environment: numbers as torchrun sets them were expected")
    return Group(rank, world, local)


@contextmanager
def process_group(use_gpu: bool = False) -> Iterator[Group]:
    """The group of torchrun's processes for the time of a job: gloo on CPUs, nccl where `use_gpu` and a GPU is there."""
    group = environment()
    if group.world == 1:
        yield group
        return
    on_gpu = use_gpu and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(group.local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=group.rank, world_size=group.world)
    try:
        yield group
    finally:
        dist.destroy_process_group()
