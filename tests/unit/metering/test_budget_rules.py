"""Budgets: thresholds, the refusal, and the warnings about a new job."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.budgets import BudgetState, BudgetStatus, ProjectBudget, budget_warnings, require_budget
from windlass.domain.errors import BudgetExceededError
from windlass.domain.specs import JobSpec

HOUR = 3600 * 10**6


def status(
    used: float = 0, limit: float | None = None, cost: float = 0, cost_limit: float | None = None
) -> BudgetStatus:
    """Return a status in GPU-hours and units of the currency."""
    budget = ProjectBudget(
        project="p",
        gpu_time=None if limit is None else round(limit * HOUR),
        cost=None if cost_limit is None else round(cost_limit * 10**6),
    )
    return BudgetStatus(budget=budget, month="2026-11", gpu_time=round(used * HOUR), cost=round(cost * 10**6))


def spec(seconds: int, gpus: int = 1) -> JobSpec:
    content: dict[str, Any] = {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "reviews",
        "model": "m",
        "max_duration_seconds": seconds,
        "resources": {"workers": gpus},
    }
    return JobSpec.model_validate(content)


@pytest.mark.parametrize(
    ("checked", "state"),
    [
        (status(used=1000), BudgetState.UNLIMITED),
        (status(used=79.999, limit=100), BudgetState.OK),
        (status(used=80, limit=100), BudgetState.WARNING),
        (status(used=99.999, limit=100), BudgetState.WARNING),
        (status(used=100, limit=100), BudgetState.EXHAUSTED),
        (status(used=1, limit=100, cost=5, cost_limit=5), BudgetState.EXHAUSTED),
        (status(used=1, limit=100, cost=4, cost_limit=5), BudgetState.WARNING),
        (status(limit=0), BudgetState.EXHAUSTED),
    ],
)
def test_a_budget_warns_from_80_percent_and_is_exhausted_from_100(checked: BudgetStatus, state: BudgetState) -> None:
    assert checked.state is state
    if state is not BudgetState.EXHAUSTED:
        require_budget(checked, "ours")
        return
    with pytest.raises(BudgetExceededError) as caught:
        require_budget(checked, "ours")
    error = caught.value
    assert (error.code, error.retryable) == ("budget_exceeded", False)
    assert checked.describe() in error.message
    assert "platform admin" in error.hint
    assert "2026-12-01" in error.hint
    assert error.context["used_gpu_hours"] == checked.gpu_time / HOUR


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_thresholds_compare_exact_integers(used: int, limit: int) -> None:
    budget = ProjectBudget(project="p", gpu_time=limit)
    checked = BudgetStatus(budget=budget, month="2026-11", gpu_time=used, cost=0)
    assert (checked.state is BudgetState.EXHAUSTED) == (used >= limit)
    assert checked.has_reached(80) == (used * 5 >= limit * 4)


@pytest.mark.parametrize(
    ("checked", "job", "codes"),
    [
        (status(used=10, limit=100), spec(3600), []),
        (status(used=80, limit=100), spec(3600), ["budget_nearly_used"]),
        (status(used=99, limit=100), spec(3600), ["budget_nearly_used"]),
        (status(used=99, limit=100), spec(3601), ["budget_nearly_used", "budget_may_be_exceeded"]),
        (status(used=10, limit=100), spec(24 * 3600, gpus=4), ["budget_may_be_exceeded"]),
        (status(cost=0, cost_limit=2.5), spec(3600), []),
        (status(cost=0.1, cost_limit=2.5), spec(3600), ["budget_may_be_exceeded"]),
        (status(used=10), spec(3600), []),
    ],
)
def test_a_job_that_could_exceed_the_budget_is_warned_about(
    checked: BudgetStatus, job: JobSpec, codes: list[str]
) -> None:
    warnings = budget_warnings(checked, job, price=2_500_000)
    assert [warning.code for warning in warnings] == codes
    assert all(warning.context["month"] == "2026-11" for warning in warnings)
