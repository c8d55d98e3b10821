"""The columns of the ledger."""

import pytest

from windlass.cli.commands.quota import _COLUMNS
from windlass.wire.projects import QuotaOut


def cells(cohort: str | None, borrowing_limit: int | None) -> dict[str, object]:
    counts = dict.fromkeys(("nominal", "used", "free", "pending", "reclaimable", "overcommitted"), 0)
    quota = QuotaOut.model_validate(
        {
            "project": "search",
            "pool": "a100",
            "cohort": cohort,
            "borrowing_limit": borrowing_limit,
            "lending_limit": None,
            "borrowed_from": {},
            "lent_to": {},
            "managed_by": "",
            "waiting": [],
            "queue_time_p50_seconds": None,
            "queue_time_p90_seconds": None,
            "version": 1,
            **counts,
        }
    )
    return {column.title: column.value(quota) for column in _COLUMNS}


@pytest.mark.parametrize(
    ("cohort", "borrowing", "shown"),
    [(None, None, (None, None)), ("lab", None, ("no limit", "no limit")), ("lab", 0, ("0", "no limit"))],
)
def test_a_project_without_a_cohort_has_no_limits(cohort: str | None, borrowing: int | None, shown: object) -> None:
    found = cells(cohort, borrowing)
    assert (found["borrowing limit"], found["lending limit"]) == shown
