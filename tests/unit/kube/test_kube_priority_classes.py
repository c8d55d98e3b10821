"""The priority classes are equal in the code, the chart and the admission policy."""

import json

from tests.charts.rendering import only, render

from windlass.kube.priority_classes import PRIORITY_CLASS_VALUES, class_name_for_value

EXPECTED = {class_name_for_value(value): value for value in PRIORITY_CLASS_VALUES}


def test_chart_contains_all_priority_classes() -> None:
    shipped = [one for one in render() if one["kind"] == "WorkloadPriorityClass"]
    assert {one["metadata"]["name"]: one["value"] for one in shipped} == EXPECTED


def test_policy_lists_all_priority_classes() -> None:
    policy = only(render(), "ValidatingAdmissionPolicy", "windlass-priority")
    [classes] = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "classes"]
    assert json.loads(classes.replace("'", '"')) == EXPECTED


def test_every_policy_denies_and_fails_closed() -> None:
    objects = render()
    policies = [one for one in objects if one["kind"] == "ValidatingAdmissionPolicy"]
    bindings = [one for one in objects if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    names = {one["metadata"]["name"] for one in policies}
    assert names == {one["spec"]["policyName"] for one in bindings}
    assert len(names) == len(policies) == len(bindings)
    assert {one["spec"]["failurePolicy"] for one in policies} == {"Fail"}
    assert all("Deny" in one["spec"]["validationActions"] for one in bindings)
