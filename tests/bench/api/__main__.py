"""``python -m tests.bench.api``: requests of the API beside those of MLflow, in one run on one machine.

All servers start first. Then each gets the same load in turn for a second at a time; the first round is not counted,
and a ratio is the median of the ratios of the rounds.
"""

import argparse
import http.client
import platform
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import psutil
from tests.bench.api.contenders import OPERATIONS, Contender, MlflowServer, WindlassServer

_REPORT = Path("build/bench.md")
_CONNECTIONS = (1, 8)
_COLUMNS = (
    *("operation", "connections", "database", "Windlass, requests/s", "MLflow", "ratio"),
    *("Windlass, CPU ms a request", "MLflow", "ratio", "Windlass, p99 ms", "MLflow"),
)
_DATABASES = ("sqlite", "postgresql")


@dataclass
class Slice:
    """What one server did in one slice."""

    seconds: float
    cpu_seconds: float
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """CPU time of the server and its database for each request."""
        return 1000 * self.cpu_seconds / max(1, len(self.latencies))


def _load(contender: Contender, operation: str, connection: int, end: float, latencies: list[float]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=120)
    while not latencies or time.monotonic() < end:
        request = contender.request(operation, connection)
        began = time.perf_counter()
        client.request(request.method, request.path, request.body, request.headers)
        response = client.getresponse()
        text = response.read()
        latencies.append(time.perf_counter() - began)
        assert response.status < http.client.MULTIPLE_CHOICES, (contender.name, operation, text)
    client.close()


def _slice(contender: Contender, operation: str, connections: int, seconds: float) -> Slice:
    latencies: list[float] = []
    began, cpu = time.monotonic(), contender.cpu_seconds()
    threads = [
        threading.Thread(target=_load, args=(contender, operation, number, began + seconds, latencies))
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Slice(time.monotonic() - began, contender.cpu_seconds() - cpu, latencies)


def _measure(
    contenders: Sequence[Contender], operation: str, connections: int, rounds: int, seconds: float
) -> dict[str, list[Slice]]:
    slices: dict[str, list[Slice]] = {each.name: [] for each in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            measured = _slice(contender, operation, connections, seconds)
            if number:
                slices[contender.name].append(measured)
    return slices


def _p99(slices: list[Slice]) -> float:
    latencies = [each for one in slices for each in one.latencies]
    return quantiles(latencies, n=100)[98] if len(latencies) > 1 else latencies[0]


def _row(operation: str, connections: int, database: str, windlass: list[Slice], mlflow: list[Slice]) -> str:
    pairs = list(zip(windlass, mlflow, strict=True))
    rate = median(ours.rate / theirs.rate for ours, theirs in pairs)
    cpu = median(theirs.cpu_milliseconds / ours.cpu_milliseconds for ours, theirs in pairs)
    columns = [
        *(operation, str(connections), database),
        f"{median(each.rate for each in windlass):.0f}",
        f"{median(each.rate for each in mlflow):.0f}",
        f"**{rate:.1f}x**",
        f"{median(each.cpu_milliseconds for each in windlass):.2f}",
        f"{median(each.cpu_milliseconds for each in mlflow):.2f}",
        f"**{cpu:.1f}x**",
        f"{1000 * _p99(windlass):.1f}",
        f"{1000 * _p99(mlflow):.1f}",
    ]
    return f"| {' | '.join(columns)} |"


def _report(contenders: list[Contender], options: argparse.Namespace) -> list[str]:
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    for operation in options.operations:
        for connections in _CONNECTIONS:
            slices = _measure(contenders, operation, connections, options.rounds, options.seconds)
            for database in _DATABASES:
                pair = slices[f"Windlass, {database}"], slices[f"MLflow, {database}"]
                lines.append(_row(operation, connections, database, *pair))
                print(lines[-1], flush=True)  # noqa: T201 - progress
    lines += ["", "| server | memory, MiB |", "|---|---|"]
    lines += [f"| {each.name} | {each.resident_bytes() / (1 << 20):.0f} |" for each in contenders]
    return lines


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.api", description=__doc__)
    parser.add_argument("--mlflow", type=Path, default=Path("build/mlflow/bin/mlflow"), help="program of the peer")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a slice")
    parser.add_argument("--operations", nargs="+", default=OPERATIONS, choices=OPERATIONS, help="what is measured")
    options = parser.parse_args()
    cores = psutil.Process().cpu_affinity()
    server_core = cores[0] if len(cores) > 1 else None
    MlflowServer.program = options.mlflow.absolute()
    with tempfile.TemporaryDirectory(prefix="windlass-bench-", ignore_cleanup_errors=True) as folder:
        contenders: list[Contender] = [
            kind(f"{name}, {database}", Path(folder) / f"{name}-{database}", database, server_core)
            for database in _DATABASES
            for name, kind in (("Windlass", WindlassServer), ("MLflow", MlflowServer))
        ]
        try:
            for contender in contenders:
                contender.start()
            if server_core is not None:
                psutil.Process().cpu_affinity(cores[1:])
            lines = _report(contenders, options)
        finally:
            for contender in contenders:
                contender.stop()
    text = "\n".join([f"API, {platform.machine()}, Python {platform.python_version()}", "", *lines, ""])
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(text)
    print(text)  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
