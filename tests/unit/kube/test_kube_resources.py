"""The models read what an API server sends, and write what it takes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from windlass.kube.names import cluster_queue_of
from windlass.kube.resources import GPUPool, Project, condition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


def project(**spec: Any) -> Project:
    return Project.model_validate({"metadata": {"name": "search", "uid": "u", "generation": 3}, "spec": spec})


def test_a_project_is_read_in_camel_case_and_written_so() -> None:
    read = project(cohort="lab", quotas=[{"pool": "a100", "nominal": 4, "borrowingLimit": 8}])
    assert read.spec.quotas[0].borrowing_limit == 8
    written = read.spec.wire()
    assert written["quotas"] == [{"pool": "a100", "nominal": 4, "borrowingLimit": 8}]
    assert Project.model_validate({"metadata": {"name": "search"}, "spec": written}).spec == read.spec


def test_acronyms_are_written_as_kubernetes_does() -> None:
    pool = GPUPool.model_validate({"metadata": {"name": "a100"}, "spec": {"nodeLabels": {"gpu": "a100"}}})
    assert {"gpuType", "pricePerGPUHour", "resourceName"} <= pool.spec.wire().keys()
    limited = GPUPool.model_validate(
        {"metadata": {"name": "a100"}, "spec": {"nodeLabels": {"gpu": "a100"}, "maxGPUsPerJob": 8}}
    )
    assert limited.spec.max_gpus_per_job == 8


@pytest.mark.parametrize("spec", [{"nodeLabels": {}}, {"nodeLabels": {"a": "b"}, "podTemplate": {}}, {}])
def test_a_wish_that_says_too_little_or_something_unknown_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GPUPool.model_validate({"metadata": {"name": "a100"}, "spec": spec})


def test_what_a_newer_version_says_in_a_status_is_read_over() -> None:
    read = Project.model_validate({"metadata": {"name": "x", "managedFields": []}, "status": {"novelty": 1}})
    assert read.status.namespace == ""


def test_the_time_of_a_condition_moves_with_its_status_alone() -> None:
    first = condition([], "Ready", status=False, reason="Starting", message="one", generation=1, now=NOW)
    later = NOW + timedelta(hours=1)
    same = condition([first], "Ready", status=False, reason="Waiting", message="two", generation=2, now=later)
    assert (same.last_transition_time, same.message, same.observed_generation) == (NOW, "two", 2)
    turned = condition([same], "Ready", status=True, reason="Ready", message="", generation=2, now=later)
    assert (turned.last_transition_time, turned.status) == (later, "True")


@given(names, names, names, names)
def test_no_two_pairs_of_project_and_pool_share_a_queue(a: str, b: str, c: str, d: str) -> None:
    assert (cluster_queue_of(a, b) == cluster_queue_of(c, d)) is ((a, b) == (c, d))
