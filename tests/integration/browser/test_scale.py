"""The console with 10,000 jobs in a project and 100,000 points in a curve.

Wall times depend on what else the machine does, so they are printed (``-s``). Required are numbers that do not: rows in
the document, points of a reply, and CPU time of the page's main thread, which bounds each of its tasks.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from playwright.sync_api import CDPSession, Page, Response, expect
from sqlalchemy import insert, select
from tests.factories.console import Console, ConsoleData

from windlass.db.repository import table_of
from windlass.db.tables import JobTable
from windlass.domain.records import MetricSample
from windlass.services.jobs import DEFAULT_POINTS

_JOBS = 10_000
_FAILED = 60
"""The oldest jobs: a scan from the newest one reads all others before it finds them."""
_PAGE = 50
_POINTS = 100_000
_MOST_ROWS = 60
"""Rows of the list in the document: the visible ones, and some before and after them."""
_MOST_CURVE_POINTS = 500
_CPU_SECONDS = 5.0
"""Of the main thread, for opening a page and using it; measured: below 1."""
_PROJECT = "large"
_LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(Math.round(entry.duration));
}).observe({ type: "longtask", buffered: true });
"""


def _id(number: int) -> str:
    return f"job_{number:026d}"


def _add_jobs(data: ConsoleData, job: str) -> None:
    """Add copies of a job, with ids before its own. The oldest ones have failed."""
    table = table_of(JobTable)
    with data.harness.engine.begin() as connection:
        row = connection.execute(select(table).where(table.c.id == job)).mappings().one()
        copies = [
            {
                **row,
                "id": _id(number),
                "name": f"number {number}",
                "state": "failed" if number <= _FAILED else "succeeded",
                "created_at": row["created_at"] - timedelta(seconds=_JOBS - number + 1),
            }
            for number in range(1, _JOBS + 1)
        ]
        connection.execute(insert(table), copies)


@pytest.fixture(scope="module")
def long_job(data: ConsoleData) -> str:
    """Fill the project; the id of its newest job, which has a long curve."""
    harness = data.harness
    project = harness.create_project(_PROJECT)
    harness.create_dataset(_PROJECT)
    job: str = harness.submit(_PROJECT, key="long", name="long")["id"]
    harness.client.post(f"/v1/projects/{_PROJECT}/jobs/{job}:cancel").raise_for_status()
    harness.run_worker_once(2)
    _add_jobs(data, job)
    with harness.database.write() as uow:
        uow.project(project).telemetry.add_metrics(
            [
                MetricSample(
                    job=job, name="train_loss", step=step, attempt=1, value=2 / (1 + step / 9000) + step % 7 / 20
                )
                for step in range(_POINTS)
            ]
        )
    return job


@contextmanager
def _main_thread(page: Page, what: str) -> Iterator[None]:
    """Require that the main thread needs little CPU time, and print its long tasks."""
    session: CDPSession = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.add_init_script(_LONG_TASKS)
    yield
    values = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    tasks = page.evaluate("window.longTasks")
    print(f"{what}: {values['TaskDuration']:.2f} CPU s; {len(tasks)} long tasks, most {max(tasks, default=0)} ms")  # noqa: T201 - a measurement
    assert values["TaskDuration"] < _CPU_SECONDS
    session.detach()


def test_a_list_of_10000_jobs_has_few_rows_in_the_document(console: Console, data: ConsoleData, long_job: str) -> None:
    page = console.page
    sizes: list[int] = []

    def count(response: Response) -> None:
        if re.search(rf"/projects/{_PROJECT}/jobs(\?|$)", response.url) and response.request.resource_type == "fetch":
            sizes.append(len(response.json()["items"]))

    rows = page.get_by_role("list", name="Jobs").get_by_role("listitem")
    with _main_thread(page, "list of jobs"):
        console.open(f"/projects/{_PROJECT}/jobs")
        page.on("response", count)
        expect(rows.first).to_contain_text("long")
        assert rows.count() <= _MOST_ROWS
        oldest = _JOBS - 5 * _PAGE
        page.wait_for_function(
            """(name) => {
              const row = [...document.querySelectorAll("main strong")].find((each) => each.textContent === name);
              if (row) row.scrollIntoView({ block: "center" });
              else window.scrollTo(0, document.body.scrollHeight);
              return Boolean(row);
            }""",
            arg=f"number {oldest}",
        )
        expect(rows.filter(has=page.get_by_text(f"number {oldest}", exact=True))).to_be_visible()
        assert rows.count() <= _MOST_ROWS
        assert len(sizes) >= 5
        page.evaluate("window.scrollTo(0, 0)")
        expect(rows.first).to_contain_text("long")
        page.get_by_role("combobox", name="State").click()
        page.get_by_role("option", name="failed").click()
        expect(rows.first).to_contain_text(f"number {_FAILED}")
        assert rows.count() <= _MOST_ROWS
        page.get_by_role("combobox", name="State").click()
        page.get_by_role("option", name="failed").click()  # a second time: all states
        page.get_by_label("Name or id").fill("number 77")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("number 77")
        page.get_by_label("Name or id").fill(_id(_JOBS)[:-1])
        expect(rows).to_have_count(1)  # the others begin differently
        expect(rows).to_contain_text(f"number {_JOBS}")
    assert max(sizes) <= _PAGE
    console.require_safe()


def test_a_curve_of_100000_points_is_drawn_from_few(console: Console, data: ConsoleData, long_job: str) -> None:
    page = console.page
    path = f"/v1/projects/{_PROJECT}/jobs/{long_job}/metrics"
    [series] = data.harness.client.get(path).json()["series"]
    assert series["total"] == _POINTS
    assert _MOST_CURVE_POINTS < len(series["steps"]) <= DEFAULT_POINTS
    replies: list[Response] = []
    page.on("response", lambda response: replies.append(response) if path in response.url else None)
    with _main_thread(page, "page of a job"):
        console.open(f"/projects/{_PROJECT}/jobs/{long_job}")
        curve = page.get_by_role("figure").filter(has_text="train_loss")
        expect(curve).to_contain_text(f"at step {_POINTS - 1}")
        [drawn] = replies[0].json()["series"]
        assert drawn["total"] == _POINTS
        assert 100 < len(drawn["steps"]) <= _MOST_CURVE_POINTS
        canvas = curve.locator("canvas")
        picture = "(canvas) => canvas.toDataURL()"
        whole = canvas.evaluate(picture)
        plot = curve.locator(".u-over")
        box = plot.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
        with page.expect_response(lambda reply: path in reply.url and "through=" in reply.url) as zoomed:
            page.mouse.up()
        _expect_picture(page, whole, same=False)
        [detail] = zoomed.value.json()["series"]
        assert 0.15 * _POINTS < detail["total"] < 0.25 * _POINTS, "the points of the part that is shown, and no others"
        assert 100 < len(detail["steps"]) <= _MOST_CURVE_POINTS
        plot.dblclick()
        _expect_picture(page, whole, same=True)
        page.get_by_role("slider", name="Smoothing").press("End")
        _expect_picture(page, whole, same=False)
    console.require_safe()


def _expect_picture(page: Page, picture: str, *, same: bool) -> None:
    """Wait until the curve is drawn as in ``picture``, or differently."""
    script = f"(picture) => (document.querySelector('.curve canvas').toDataURL() === picture) === {json.dumps(same)}"
    page.wait_for_function(script, arg=picture)
