"""``python -m tests.bench.flood``: what the requests of one tenant do to the requests of another one.

A real server; the members of one project send requests as fast as they can, each over several connections, and a member
of another project sends one request after the other. The goal is a p99 below 1 s.
"""

import argparse
import http.client
import multiprocessing
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import quantiles

from tests.e2e.servers import server

from windlass.sdk import Client

_REPORT = Path("build/bench-flood.md")
_GOAL_SECONDS = 1.0
_DATASETS = 100
_LEAST = 20
"""Requests of a measurement, however long they take."""


def _requests(port: int, key: str, path: str, stop: Event, started: Event) -> None:
    """Send requests until ``stop``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not stop.is_set():
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
        started.set()


def _send_all(port: int, keys: list[str], connections: int, stop: Event, started: Event) -> None:
    """Send the requests of all connections from threads of one process, so that the server keeps a core."""
    path = f"/v1/projects/flooding/datasets?limit={_DATASETS}"
    threads = [
        threading.Thread(target=_requests, args=(port, key, path, stop, started))
        for key in keys
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _flood(port: int, keys: list[str], connections: int) -> Iterator[None]:
    stop, started = multiprocessing.Event(), multiprocessing.Event()
    sender = multiprocessing.Process(target=_send_all, args=(port, keys, connections, stop, started), daemon=True)
    if keys:
        sender.start()
        started.wait(60)
    try:
        yield
    finally:
        stop.set()
        if keys:
            sender.join(60)


def _latencies(port: int, key: str, seconds: float) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < _LEAST:
        began = time.perf_counter()
        connection.request("GET", "/v1/projects/quiet/datasets", headers={"Authorization": f"Bearer {key}"})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == http.client.OK, reply.status
        taken.append(time.perf_counter() - began)
    connection.close()
    return taken


def _set_up(client: Client, users: int) -> tuple[str, list[str]]:
    """Return the key of the quiet member, and those of the flooding ones."""
    for project in ("quiet", "flooding"):
        client.projects.create(project)
    flooding = client.in_project("flooding")
    for number in range(_DATASETS):
        flooding.datasets.create(f"d{number}", task="text-classification", description="x" * 500)
    keys = []
    for number in range(users):
        flooding.members.set(f"eve{number}", "viewer")
        keys.append(client.keys.create(f"eve{number}").secret)
    client.in_project("quiet").members.set("ann", "viewer")
    return client.keys.create("ann").secret, keys


def main() -> int:
    """Measure, print the table and write the report; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement")
    parser.add_argument("--users", type=int, nargs="+", default=[0, 1, 4, 16], help="flooding users")
    parser.add_argument("--connections", type=int, default=8, help="connections of each of them")
    options = parser.parse_args()
    lines, missed = ["| flood | requests of the other tenant | p50 | p99 |", "|---|---|---|---|"], False
    with tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder, server(Path(folder) / "home") as process:
        quiet, keys = _set_up(process.start(), max(options.users))
        for users in options.users:
            with _flood(process.port, keys[:users], options.connections):
                taken = _latencies(process.port, quiet, options.seconds)
            cuts = quantiles(taken, n=100)
            missed |= cuts[98] > _GOAL_SECONDS
            flood = f"{users} users with {options.connections} connections each" if users else "none"
            lines.append(f"| {flood} | {len(taken)} | {cuts[49] * 1000:.1f} ms | {cuts[98] * 1000:.1f} ms |")
    text = "\n".join([f"Flood, {platform.machine()}, Python {platform.python_version()}", "", *lines, ""])
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(text)
    print(text)  # noqa: T201 - the command's output
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
