"""Collectives over the ranks of one attempt; with one rank they return their input."""

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DistributedContext:
    """Rank, world size and device of this process."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = _CPU

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only rank that writes files and reports."""
        return self.rank == 0

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over the ranks, on the device of ``values``; all ranks pass the same shape."""
        if self.world_size == 1:
            return values
        total = values.to(self.device)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def all_reduce_max(self, value: int) -> int:
        """Return the largest of the ranks' values."""
        if self.world_size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        return int(largest.item())

    def barrier(self) -> None:
        """Wait until every rank calls this."""
        self.all_reduce_max(0)
