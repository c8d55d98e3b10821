"""A manager applies exactly the fields of an object that it owns."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.ownership import applied_by, managed_by
from windlass.kube.resources import Project
from windlass.kube.schema import structural

Json = dict[str, Any]


def entry(manager: str, fields: Json, operation: str = "Apply", **more: str) -> Json:
    return {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


def subject(spec: Any, *entries: Json) -> Json:
    return {"metadata": {"name": "search", "managedFields": list(entries)}, "spec": spec}


def quota(*names: str, pool: str = "a100") -> Json:
    inside: Json = {".": {}, "f:pool": {}} | {f"f:{name}": {} for name in names}
    return {"f:spec": {"f:quotas": {f'k:{{"pool":"{pool}"}}': inside}}}


SPEC = {
    "cohort": "lab",
    "jobs": {"priorityCeiling": 10, "maxDurationSeconds": 60},
    "members": [{"kind": "User", "name": "ada", "role": "admin"}, {"kind": "Group", "name": "ada", "role": "viewer"}],
    "quotas": [{"pool": "a100", "nominal": 4, "borrowingLimit": 2}, {"pool": "h100", "nominal": 1}],
}


def test_only_owned_entries_and_fields_of_a_list() -> None:
    found = applied_by("us", subject(SPEC, entry("us", quota("nominal")), entry("them", quota("nominal", pool="h100"))))
    assert found == {"spec": {"quotas": [{"pool": "a100", "nominal": 4}]}}


def test_entries_are_matched_by_several_keys() -> None:
    fields: Json = {"f:spec": {"f:members": {'k:{"kind":"Group","name":"ada"}': {".": {}, "f:role": {}}}}}
    found = applied_by("us", subject(SPEC, entry("us", fields)))
    assert found == {"spec": {"members": [{"kind": "Group", "name": "ada", "role": "viewer"}]}}


def test_map_applied_empty_excludes_fields_of_others() -> None:
    fields: Json = {"f:spec": {"f:jobs": {}, "f:quotas": {}, "f:cohort": {}}}
    found = applied_by("us", subject(SPEC, entry("us", fields)))
    assert found == {"spec": {"jobs": {}, "quotas": [], "cohort": "lab"}}


def test_removed_fields_are_not_restored() -> None:
    fields = quota("nominal", pool="tpu") | {"f:metadata": {"f:labels": {"f:team": {}}}}
    assert applied_by("us", subject(SPEC, entry("us", fields))) == {"spec": {"quotas": []}, "metadata": {}}


def test_sets_hold_values() -> None:
    raw = subject({}, entry("us", {"f:metadata": {"f:finalizers": {'v:"ours"': {}, 'v:"gone"': {}}}}))
    raw["metadata"]["finalizers"] = ["theirs", "ours"]
    assert applied_by("us", raw) == {"metadata": {"finalizers": ["ours"]}}


def test_update_and_status_entries_are_not_applied_fields() -> None:
    ours = entry("us", quota("nominal"), "Update"), entry("us", quota("nominal"), subresource="status")
    assert applied_by("us", subject(SPEC, *ours)) == {}
    assert applied_by("us", {"metadata": {}}) == {}


def test_entries_of_two_api_versions_are_merged() -> None:
    older = entry("us", quota("nominal") | {"f:metadata": {"f:labels": {"f:a": {}}}}, apiVersion="windlass.dev/v0")
    newer = entry("us", quota("nominal", pool="h100") | {"f:metadata": {"f:labels": {"f:b": {}}}})
    raw = subject(SPEC, older, newer)
    raw["metadata"]["labels"] = {"a": "1", "b": "2"}
    assert applied_by("us", raw) == {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {"quotas": [{"pool": "a100", "nominal": 4}, {"pool": "h100", "nominal": 1}]},
    }


NAMES = st.sampled_from("abc")
SCALARS = st.integers(0, 3) | st.text("xyz", max_size=2) | st.booleans()


@st.composite
def owned(draw: st.DrawFn, depth: int = 3) -> tuple[Any, Json | None, Any]:
    """A value, its owned fields or None, and the owned part."""
    form = draw(st.sampled_from(["scalar", "map", "list", "set"])) if depth else "scalar"
    mine = draw(st.booleans())
    if form == "scalar":
        value = draw(SCALARS)
        return value, {} if mine else None, value
    if form == "map":
        parts = draw(st.dictionaries(NAMES, owned(depth - 1), max_size=3))
        fields = {f"f:{name}": fields for name, (_, fields, _) in parts.items() if fields is not None}
        full = {name: value for name, (value, _, _) in parts.items()}
        part = {name: part for name, (_, fields, part) in parts.items() if fields is not None}
        return full, ({".": {}} if mine else {}) | fields if fields or mine else None, part
    if form == "set":
        values = draw(st.lists(st.integers(0, 5), unique=True))
        kept = [value for value in values if draw(st.booleans())]
        return values, {f"v:{value}": {} for value in kept} if kept or mine else None, kept
    entries = draw(st.dictionaries(NAMES, owned(depth - 1), max_size=3))
    inside = {name: fields for name, (_, fields, _) in entries.items() if fields is not None}
    return (
        [{"key": name, "value": value} for name, (value, _, _) in entries.items()],
        {"k:" + json.dumps({"key": name}): {".": {}, "f:key": {}, "f:value": fields} for name, fields in inside.items()}
        if inside or mine
        else None,
        [{"key": name, "value": part} for name, (_, _, part) in entries.items() if name in inside],
    )


@given(owned(), owned())
def test_applied_by_returns_exactly_the_owned_part(
    ours: tuple[Any, Json | None, Any], theirs: tuple[Any, Json | None, Any]
) -> None:
    value, fields, part = ours
    entries = [] if fields is None else [entry("us", {"f:spec": {"f:x": fields}})]
    others = entry("them", {"f:spec": {"f:x": theirs[1] or {}}})
    found = applied_by("us", subject({"x": value, "y": theirs[0]}, others, *entries))
    assert found == ({} if fields is None else {"spec": {"x": part}})


def test_project_has_no_atomic_fields() -> None:
    """``applied_by`` knows no schema: it would treat an atomic field as one that was applied empty."""

    def walk(schema: Json, path: str) -> None:
        assert schema.get("x-kubernetes-map-type") != "atomic", path
        if schema["type"] == "array":
            assert schema.get("x-kubernetes-list-type") == "map", path
            walk(schema["items"], f"{path}[]")
        for name, one in schema.get("properties", {}).items():
            walk(one, f"{path}.{name}")

    walk(structural(Project)["properties"]["spec"], "spec")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ""),
        ([entry("windlass-api", quota("nominal")), entry("windlass-operators", quota("nominal"))], ""),
        ([entry("kubectl-client-side-apply", quota("nominal"), "Update")], "kubectl-client-side-apply"),
        ([entry("helm", quota("lendingLimit")), entry("argocd", quota("nominal"))], "argocd, helm"),
        ([entry("helm", quota("nominal", pool="h100"))], ""),
        ([entry("helm", quota())], ""),
        ([entry("helm", quota("nominal"), subresource="status")], ""),
        ([entry("helm", {"f:spec": {}})], ""),
    ],
)
def test_managers_of_a_quota(entries: list[Json], expected: str) -> None:
    assert managed_by(subject(SPEC, *entries), "a100") == expected
