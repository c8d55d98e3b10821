"""Whether the workers of a job fit the nodes of its pool, by GPUs; Kueue and the quotas do not know nodes."""

from collections.abc import Sequence

from windlass.domain.quota.queue_decisions import Unit, counted


def placement_problem(free: Sequence[int], workers: int, gpus: int, unit: Unit = "GPU") -> str:
    """Return why ``workers`` with ``gpus`` each do not fit nodes with ``free`` GPUs each; empty if they fit."""
    if gpus < 1 or workers < 1:
        return ""
    room = sum(amount // gpus for amount in free)
    if room >= workers:
        return ""
    if room == 0:
        most = max(free, default=0)
        return f"no node has {counted(gpus, unit)} free, the most on one node is {most}"
    return f"the nodes have room for {room} of {counted(workers, 'worker')} with {counted(gpus, unit)} each"
