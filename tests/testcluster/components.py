"""Starts components as soon as their dependencies are ready, and reports the time that each took."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.testcluster import processes
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster

ReportProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Component:
    """Something to start, with a readiness check."""

    name: str
    start: Callable[[LocalCluster], None]
    ready: Callable[[LocalCluster], bool] = lambda _: True
    depends_on: tuple[str, ...] = ()
    timeout_seconds: float = 60


def start_all(cluster: LocalCluster, components: Sequence[Component], report_progress: ReportProgress) -> None:
    """Start every component and return when all are ready.

    Raises:
        LocalClusterError: a component is not ready in time, or a process exited.
    """
    waiting = {component.name: component for component in components}
    started_at: dict[str, float] = {}
    ready: set[str] = set()
    while waiting:
        for name, component in list(waiting.items()):
            if name not in started_at and ready.issuperset(component.depends_on):
                started_at[name] = time.monotonic()
                component.start(cluster)
            if name in started_at and component.ready(cluster):
                report_progress(name, time.monotonic() - started_at[name])
                ready.add(name)
                del waiting[name]
        for name in started_at.keys() & waiting.keys():
            if time.monotonic() - started_at[name] > waiting[name].timeout_seconds:
                raise LocalClusterError(
                    f"{name} is not ready after {waiting[name].timeout_seconds:.0f} s{_log_tail(cluster, name)}"
                )
        for record in processes.process_records(cluster).values():
            if not record.alive:
                raise LocalClusterError(f"{record.name} exited{_log_tail(cluster, record.name)}")
        time.sleep(0.15)


def _log_tail(cluster: LocalCluster, name: str, lines: int = 15) -> str:
    log = cluster.log(name)
    if not log.exists():
        return ""
    tail = log.read_text("utf-8", errors="replace").splitlines()[-lines:]
    return f"; the end of {log}:\n" + "\n".join(tail)
