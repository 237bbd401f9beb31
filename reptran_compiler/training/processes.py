"""Several processes that train one network: who they are, and what they say to each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Processes:
    """The processes of a run, from one's point of view.

    Attributes:
        count: how many there are.
        rank: which this is, from 0 on.
        local: which this is on its machine.
    """

    count: int = 1
    rank: int = 0
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this one writes the files and speaks."""
        return self.rank == 0

    def place(self, device: torch.device) -> torch.device:
        """This process' own device: of several GPUs of a machine, each process has one."""
        return torch.device("cuda", self.local) if device.type == "cuda" else device

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of the processes' tensors of one shape, in each of them."""
        if self.count > 1:
            numbers = numbers.clone()
            dist.all_reduce(numbers)
        return numbers


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, connected; one where it started none.

    torchrun says in the environment who they are. They talk through NCCL on GPUs and through gloo elsewhere.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_world_size(), dist.get_rank(), int(os.environ.get("LOCAL_RANK", "0")))
        dist.barrier()  # nobody leaves while another one still talks to it
    finally:
        dist.destroy_process_group()
