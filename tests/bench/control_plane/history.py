"""Measures a real server whose database has many finished jobs (the history)."""

import contextlib
import http.client
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.bench.control_plane.measurements import cpu_seconds, idle_percent
from tests.bench.control_plane.seeding import PROJECT, seed
from tests.e2e.servers import ServerProcess, free_port

from windlass.domain.jobs import JobState
from windlass_api.dependencies import encode_cursor

_WARM_UP, _REQUESTS = 10, 100
_LISTS = ("jobs", *(f"jobs?state={state.value}" for state in JobState), "jobs?match=no-such-name", "usage")
_MIDDLE = "jobs, the page in the middle"
_ID = "job_{:026d}"
_FAILED = 60
"""The oldest jobs have failed: their list has a full page, and a scan from the newest job would read all others."""
_DAY_MICROSECONDS = 24 * 3600 * 1_000_000


def seed_history(home: Path, finished: int) -> None:
    """Create a data directory with one queued job and ``finished`` ended ones, whose data retention has removed."""
    seed(home, 1, blocked=True).close()
    with contextlib.closing(sqlite3.connect(home / "windlass.db")) as database, database:
        names = [row[1] for row in database.execute("PRAGMA table_info(job)")]
        changed = {
            "id": "printf('job_%026d', number)",
            "state": f"iif(number > {_FAILED}, 'succeeded', 'failed')",
            "finished_at": f"created_at - {100 * _DAY_MICROSECONDS} + number",
            "cleaned_up_at": "created_at",
            "history_deleted_at": "created_at",
        }
        values = ", ".join(changed.get(name, f'"{name}"') for name in names)
        numbers = "WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT ?)"
        insert = f"{numbers} INSERT INTO job SELECT {values} FROM job, numbers"  # noqa: S608 - names of columns
        database.execute(insert, (finished,))


def forget_clean_up(home: Path) -> None:
    """Make the data of every finished job due for removal."""
    with contextlib.closing(sqlite3.connect(home / "windlass.db")) as database, database:
        database.execute("UPDATE job SET cleaned_up_at = NULL, history_deleted_at = NULL WHERE finished_at IS NOT NULL")


@contextlib.contextmanager
def running(home: Path) -> Iterator[ServerProcess]:
    """Run ``windlass up`` on the data directory."""
    server = ServerProcess(home, free_port())
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


def list_milliseconds(server: ServerProcess, finished: int) -> dict[str, float]:
    """Return the CPU milliseconds of the server per page, by list."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {(server.home / 'admin.key').read_text().strip()}"}

    def read(path: str, times: int) -> None:
        for _ in range(times):
            connection.request("GET", f"/v1/projects/{PROJECT}/{path}", headers=headers)
            response = connection.getresponse()
            body = response.read()
            assert response.status == http.HTTPStatus.OK, body

    costs = {}
    middle = f"jobs?cursor={encode_cursor(_ID.format(finished // 2))}"
    for name, path in {**{path: path for path in _LISTS}, _MIDDLE: middle}.items():
        read(path, _WARM_UP)
        before = cpu_seconds(process)
        read(path, _REQUESTS)
        costs[name] = 1000 * (cpu_seconds(process) - before) / _REQUESTS
    return costs


def deleted_data(home: Path) -> int:
    """Return the number of finished jobs whose data retention has deleted."""
    with contextlib.closing(sqlite3.connect(home / "windlass.db")) as database:
        number: int = database.execute("SELECT count(*) FROM job WHERE cleaned_up_at IS NOT NULL").fetchone()[0]
    return number


def history_rows(folder: Path, finished: int, idle_seconds: float) -> list[tuple[str, str, str]]:
    """Measure lists, idle cost and the stop of a server with 1,000 and with ``finished`` finished jobs."""
    rows: list[tuple[str, str, str]] = []
    lists: dict[int, dict[str, float]] = {}
    for number in (1000, finished):
        home = folder / f"finished-{number}"
        seed_history(home, number)
        with running(home) as server:
            assert server.process is not None
            idle = idle_percent(psutil.Process(server.process.pid), idle_seconds)
            rows.append((f"idle server, {number:,} finished jobs", f"{idle:.2f} % of a core", "< 1 %"))
            lists[number] = list_milliseconds(server, number)
    for name, long in lists[finished].items():
        short = lists[1000][name]
        value = f"{long:.1f} CPU ms, {long / short:.2f}x of {short:.1f} CPU ms with 1,000"
        rows.append((f"page of {name}, {finished:,} finished jobs", value, "<= 1.5x"))
    forget_clean_up(home)
    with running(home) as server:
        began = time.monotonic()
        time.sleep(idle_seconds)
        deleted, stopped = deleted_data(home), time.monotonic()
        assert server.stop() == 0
        value = f"{deleted / (stopped - began):.0f} jobs a second"
        rows.append((f"retention, the data of {finished:,} jobs has expired", value, ""))
        rows.append(("stop of this server", f"{time.monotonic() - stopped:.1f} s", "< 10 s"))
    return rows
