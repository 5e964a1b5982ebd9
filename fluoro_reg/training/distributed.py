"""Several processes that train one network (`torchrun`): each makes batches of its own, and gradients are averaged.

That is all there is to it: the same weights at the start and the same gradients give the same weights for good.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process's place; alone where nobody started several."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def joined(device: str) -> "ProcessGroup":
        """The processes that torchrun's environment names."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return ProcessGroup()
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device == "cuda" else "gloo")
        return ProcessGroup(dist.get_rank(), size)

    @property
    def leads(self) -> bool:
        """Whether this process validates, writes and tells."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        pieces = (flat / self.size).split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def leave(self) -> None:
        """Ends the processes when all have come so far: who goes first takes the others' connections away."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

    def agreed(self, number: float, device: torch.device | str) -> float:
        """The leader's number."""
        if self.size == 1:
            return number
        shared = torch.tensor([number], dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return float(shared)
