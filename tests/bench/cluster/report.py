"""The results as Markdown and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import psutil
from tests.bench.cluster.admission import Round, ratio
from tests.bench.cluster.changes import RateResult
from tests.bench.cluster.sizes import Sizes
from tests.bench.cluster.startup import StartupResult


@dataclass(frozen=True)
class Results:
    """All results of one run."""

    sizes: Sizes
    empty_rss_mib: float
    first: StartupResult
    again: StartupResult
    paces: Sequence[RateResult]
    rounds: Sequence[Round]
    load_before: float
    seconds: float


def to_json(results: Results) -> str:
    rounds = [asdict(one) | {"rate": one.rate} for one in results.rounds]
    full = asdict(results) | {
        "rounds": rounds,
        "ratios": _ratios(results),
        "machine": machine(),
        "date": _today(),
    }
    return json.dumps(full, indent=1)


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _ratios(results: Results) -> dict[str, float]:
    forms = dict.fromkeys(one.form for one in results.rounds)
    return {form: ratio([one for one in results.rounds if one.form == form]) for form in forms}


def _table(head: str, rows: Sequence[Sequence[object]]) -> str:
    columns = head.count("|") - 1
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, "|" + "---|" * columns, *lines])


def to_markdown(results: Results) -> str:
    """The results as Markdown."""
    sizes = results.sizes
    began = f"load {results.load_before:.1f} before, {results.seconds:.0f} s in all"
    head = f"{_today()}, {machine()}, {sizes.projects} projects, {sizes.workloads} workloads a side; {began}."
    starts = _table(
        f"| start among {sizes.projects} projects | seconds | writes | writes a project | CPU ms a project | RSS MiB |",
        [
            (
                name,
                f"{one.seconds:.1f}",
                one.writes,
                f"{one.writes / sizes.projects:.2f}",
                f"{one.cpu_seconds / sizes.projects * 1000:.1f}",
                f"{one.rss_mib:.0f}",
            )
            for name, one in (("from nothing", results.first), ("again", results.again))
        ],
    )
    paces = _table(
        "| change | target /s | sent /s | changes | no response | p50 ms | p99 ms | writes | reads | CPU ms |",
        [
            (
                one.what,
                one.target_rate,
                f"{one.rate:.1f}",
                one.changes,
                one.without_response,
                f"{one.p50_ms:.0f}",
                f"{one.p99_ms:.0f}",
                f"{one.writes_per_change:.2f}",
                f"{one.reads_per_change:.2f}",
                f"{one.cpu_ms_per_change:.1f}",
            )
            for one in results.paces
        ],
    )
    rounds = _table(
        "| form | Windlass | admitted | seconds | a second | CPU ms for each |",
        [
            (
                one.form,
                "with" if one.windlass else "without",
                one.workloads,
                f"{one.seconds:.1f}",
                f"{one.rate:.1f}",
                ", ".join(f"{name} {used:.1f}" for name, used in one.cpu_ms.items() if used >= 0.05),
            )
            for one in results.rounds
        ],
    )
    ratios = [f"{form}s with Windlass / without: **{value:.2f}**" for form, value in _ratios(results).items()]
    empty = f"RSS without projects: {results.empty_rss_mib:.0f} MiB."
    return "\n\n".join([head, empty, starts, paces, rounds, "; ".join(ratios)]) + "\n"
