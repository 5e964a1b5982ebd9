"""Distributed training: several processes (`torchrun`) train one network on different batches and average their gradients.

All processes start from the same weights and take steps with the same gradients, so their weights stay the same.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The group of training processes, and this process's rank in it; a group of one without `torchrun`."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def join(device: str) -> "ProcessGroup":
        """Join the processes that the environment variables of torchrun describe."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return ProcessGroup()
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device == "cuda" else "gloo")
        return ProcessGroup(dist.get_rank(), size)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        pieces = (flat / self.size).split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def close(self) -> None:
        """Leave the group once all processes have reached this call; leaving earlier would break the others' connections."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

    def broadcast(self, value: float, device: torch.device | str) -> float:
        """Return the main process's value."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return float(shared)
