"""``python -m tests.bench.control_plane``: what queued and finished jobs cost the control plane, in ratios."""

import argparse
import platform
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.control_plane.history import history_rows
from tests.bench.control_plane.measurements import (
    admission_milliseconds,
    idle_percent,
    server,
    submit_milliseconds,
)

_REPORT = Path("build/bench-control-plane.md")
_ADMISSIONS = 100


def _measure(folder: Path, many: int, requests: int, idle_seconds: float) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    submit: dict[int, float] = {}
    for queued in (0, 450, 940, many):
        with server(folder, queued) as (process, submitter):
            idle = idle_percent(process, idle_seconds)
            rows.append((f"idle server, {queued:,} queued jobs", f"{idle:.2f} % of a core", "< 1 %"))
            if queued in {0, many}:
                submit[queued] = submit_milliseconds(process, submitter, requests)
                rows.append((f"submission, {queued:,} queued jobs", f"{submit[queued]:.1f} CPU ms", ""))
    rows.append((f"submission, {many:,} queued jobs against none", f"{submit[many] / submit[0]:.2f}x", "<= 1.5x"))
    for queued in (20, many):
        wall, cpu = admission_milliseconds(folder, queued, jobs=min(queued - 1, _ADMISSIONS))
        work = f"end of a job to the next admission, {queued:,} queued jobs"
        rows.append((work, f"{median(wall):.0f} ms, at most {max(wall):.0f} ms", "< 50 ms"))
        rows.append((f"{work}, CPU time", f"{median(cpu):.0f} ms, at most {max(cpu):.0f} CPU ms", ""))
    return rows


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.control_plane", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="length of the long queue; 0: none is measured")
    parser.add_argument(
        "--finished", type=int, default=1_000_000, help="finished jobs in the database; 0: none is measured"
    )
    parser.add_argument("--requests", type=int, default=200, help="submissions per measurement")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="length of an idle measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder:
        rows = _measure(Path(folder), options.jobs, options.requests, options.idle_seconds) if options.jobs else []
        if options.finished:
            rows += history_rows(Path(folder), options.finished, options.idle_seconds)
    lines = ["| work | measured | goal |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    text = "\n".join([f"Control plane, {platform.machine()}, Python {platform.python_version()}", "", *lines, ""])
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(text)
    print(text)  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
