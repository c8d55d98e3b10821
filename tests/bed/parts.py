"""Starts parts in the order of their needs: whatever can start does, and one line is printed when a part is ready."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bed import processes
from tests.bed.failures import BedError
from tests.bed.layout import Bed

Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Part:
    """Something to start, and how to see that it serves."""

    name: str
    start: Callable[[Bed], None]
    ready: Callable[[Bed], bool] = lambda _: True
    needs: tuple[str, ...] = ()
    patience: float = 60


def start_all(bed: Bed, parts: Sequence[Part], say: Say) -> None:
    """Start every part and return when all are ready.

    Raises:
        BedError: a part is not ready in its time, or a started program ended.
    """
    waiting = {part.name: part for part in parts}
    begun: dict[str, float] = {}
    ready: set[str] = set()
    while waiting:
        for name, part in list(waiting.items()):
            if name not in begun and ready.issuperset(part.needs):
                begun[name] = time.monotonic()
                part.start(bed)
            if name in begun and part.ready(bed):
                say(name, time.monotonic() - begun[name])
                ready.add(name)
                del waiting[name]
        for name in begun.keys() & waiting.keys():
            if time.monotonic() - begun[name] > waiting[name].patience:
                raise BedError(f"{name} is not ready after {waiting[name].patience:.0f} s{_last_words(bed, name)}")
        for record in processes.recorded(bed).values():
            if not record.alive:
                raise BedError(f"{record.name} ended{_last_words(bed, record.name)}")
        time.sleep(0.15)


def _last_words(bed: Bed, name: str, lines: int = 15) -> str:
    log = bed.log(name)
    if not log.exists():
        return ""
    tail = log.read_text("utf-8", errors="replace").splitlines()[-lines:]
    return f"; the end of {log}:\n" + "\n".join(tail)
