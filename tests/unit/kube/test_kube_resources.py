"""The models parse and serialize objects of the API server."""

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


def test_project_uses_camel_case() -> None:
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
def test_spec_with_missing_or_unknown_fields_is_rejected(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GPUPool.model_validate({"metadata": {"name": "a100"}, "spec": spec})


def test_unknown_status_fields_are_ignored() -> None:
    read = Project.model_validate({"metadata": {"name": "x", "managedFields": []}, "status": {"novelty": 1}})
    assert read.status.namespace == ""


def test_transition_time_changes_only_with_the_status() -> None:
    first = condition([], "Ready", status=False, reason="Starting", message="one", generation=1, now=NOW)
    later = NOW + timedelta(hours=1)
    equal_except_version = condition(
        [first], "Ready", status=False, reason="Waiting", message="two", generation=2, now=later
    )
    assert (
        equal_except_version.last_transition_time,
        equal_except_version.message,
        equal_except_version.observed_generation,
    ) == (NOW, "two", 2)
    turned = condition(
        [equal_except_version], "Ready", status=True, reason="Ready", message="", generation=2, now=later
    )
    assert (turned.last_transition_time, turned.status) == (later, "True")


@given(names, names, names, names)
def test_no_two_pairs_of_project_and_pool_share_a_queue(a: str, b: str, c: str, d: str) -> None:
    assert (cluster_queue_of(a, b) == cluster_queue_of(c, d)) is ((a, b) == (c, d))
