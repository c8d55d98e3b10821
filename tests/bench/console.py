"""``python -m tests.bench.console``: how long a page of the console takes until it can be used.

A real server and a real browser; first alone, then while a job trains. A page can be used when it shows its content and
the main thread runs an idle task. Each first load is one of a new profile, without a cache. The goal is 2 s.
"""

import argparse
import csv
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright
from tests.e2e.servers import server
from tests.factories.browser import browser_path, build_console
from tests.factories.tiny_models import WORDS, tiny_encoder

from windlass.sdk import Client

_REPORT = Path("build/bench-console.md")
_GOAL_SECONDS = 2.0
_INTERACTIVE = "() => new Promise((resolve) => requestIdleCallback(() => resolve(performance.now() / 1000)))"


def _add_data(client: Client, folder: Path) -> None:
    client.base_models.add("tiny", str(tiny_encoder(folder / "tiny")))
    client.base_models.wait("tiny")
    file = folder / "rows.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([f"{WORDS[number % len(WORDS)]} {number}", "ab"[number % 2]] for number in range(400))
    client.datasets.upload("rows", [file], task="text-classification")


def _train(client: Client) -> str:
    """Submit a job that trains for longer than the measurement; return its id when it has its first points."""
    spec = {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "rows",
        "model": "rows-model",
        "training": {"max_steps": 100_000, "batch_size": 8},
    }
    job = client.jobs.create(spec).id
    for _ in client.jobs.stream(job):
        if client.jobs.metrics(job).series:
            return job
    raise RuntimeError(f"the job ended: {client.jobs.get(job).reason}")


def _load(page: Page, url: str, content: str) -> float:
    """Return the seconds from the start of the navigation."""
    page.goto(url, wait_until="commit")
    page.locator(content).first.wait_for(timeout=120_000)
    seconds: float = page.evaluate(_INTERACTIVE)
    return seconds


def _measure(browser: Browser, sign_in: Callable[[], str], url: str, content: str, loads: int) -> list[float]:
    """Return the seconds of first loads, and of one more load of the same page in each profile."""
    taken: list[float] = []
    for _ in range(loads):
        signed_in = browser.new_context()
        page = signed_in.new_page()
        page.goto(sign_in())
        page.get_by_role("heading", name="Jobs", exact=True).wait_for(timeout=120_000)
        context = browser.new_context(storage_state=signed_in.storage_state())  # its cache is empty
        taken.append(_load(context.new_page(), url, content))
        signed_in.close()
        context.close()
    return taken


def main() -> int:
    """Measure, print the table and write the report; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--loads", type=int, default=10, help="first loads of each page")
    options = parser.parse_args()
    build_console()
    lines, missed = ["| server | page | median | slowest |", "|---|---|---|---|"], False
    with (
        tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder,
        server(Path(folder) / "home") as process,
        sync_playwright() as playwright,
    ):
        client = process.start()
        _add_data(client, Path(folder))
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"])
        address = client.connection.url
        job = ""
        for state in ("idle", "trains a job"):
            pages = {"datasets": (f"{address}/projects/default/datasets", "main a.row")}
            if state != "idle":
                job = _train(client)
                pages["jobs"] = (f"{address}/projects/default/jobs", "main a.row")
                pages["the job, with its curves"] = (f"{address}/projects/default/jobs/{job}", "figure canvas")
            for name, (url, content) in pages.items():
                taken = _measure(
                    browser, lambda: address + client.sessions.create_link().path, url, content, options.loads
                )
                missed |= median(taken) > _GOAL_SECONDS
                lines.append(f"| {state} | {name} | {median(taken):.2f} s | {max(taken):.2f} s |")
        client.jobs.cancel(job)
        browser.close()
    title = f"First loads of the console, {platform.machine()}, {options.loads} of each page"
    text = "\n".join([title, "", *lines, ""])
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(text)
    print(text)  # noqa: T201 - the command's output
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
