"""What the ranks of one attempt do together; with one rank nothing is communicated."""

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers, and the device it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes and reports."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over the ranks. ``values`` has the same shape on each; stays on its device."""
        if self.size == 1:
            return values
        moved = values.to(self.device)
        torch.distributed.all_reduce(moved)
        return moved.to(values.device)

    def highest(self, value: int) -> int:
        """Return the largest of the ranks' values, the same on each."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        return int(found.item())

    def wait(self) -> None:
        """Return when every rank is here."""
        self.highest(0)
