"""The processes of a torchrun, or the one that there is without."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """Which of how many this is.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Processes:
        """What torchrun says."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @torch.no_grad()
    def share_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over the processes."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.world

    @torch.no_grad()
    def share_buffers(self, module: nn.Module) -> None:
        """Average what a module remembers."""
        if self.world == 1:
            return
        for value in module.buffers():
            dist.all_reduce(value)
            value /= self.world

    def leave(self, status: int) -> None:
        """End this process with a status when all are here; does nothing where there is one alone.

        At once: a thread of Gloo's may still run while Python takes itself down, which now and then ends in an abort.
        """
        if self.world == 1:
            return
        dist.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def any_of(self, wish: bool, device: torch.device) -> bool:
        """Whether any process has that wish: all must leave the loop at the same step."""
        if self.world == 1:
            return wish
        wanted = torch.tensor([float(wish)], device=device)
        dist.all_reduce(wanted)
        return bool(wanted.item())
