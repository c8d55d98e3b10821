"""One stored row that cannot be read makes no list fail."""

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.repository import table_of
from windlass.db.tables import JobTable


@pytest.fixture
def damaged(tmp_path: Path) -> ControlPlaneHarness:
    """A project with five jobs, two of which cannot be read."""
    harness = ControlPlaneHarness(tmp_path)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    jobs = [harness.submit("ours", key=str(number))["id"] for number in range(5)]
    table = table_of(JobTable)
    with harness.engine.begin() as connection:
        for job in jobs[1:3]:
            spec: Any = connection.scalar(select(table.c.spec).where(table.c.id == job))
            spec["training"]["max_grad_norm"] = None
            connection.execute(update(table).where(table.c.id == job).values(spec=spec))
    return harness


def test_a_list_leaves_out_an_unreadable_row_and_its_pages_go_on(
    damaged: ControlPlaneHarness, caplog: pytest.LogCaptureFixture
) -> None:
    ids, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = damaged.client.get("/v1/projects/ours/jobs", params=params).json()
        ids += [job["id"] for job in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert len(ids) == len(set(ids)) == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2  # one for each row, although the rows were read by several requests
    damaged.close()


def test_an_unreadable_object_is_an_error_that_names_it_and_not_its_value(damaged: ControlPlaneHarness) -> None:
    with damaged.engine.begin() as connection:
        job = connection.execute(text("SELECT id FROM job ORDER BY id")).scalars().all()[1]
    reply = damaged.client.get(f"/v1/projects/ours/jobs/{job}")
    assert reply.status_code == 500
    assert reply.json()["detail"] == f"the stored job {job} cannot be read: spec.training.max_grad_norm: float_type"
    damaged.close()
