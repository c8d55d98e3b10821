"""The ladder of priorities is the same in the code, in the chart's classes and in the policy."""

import json

import yaml
from tests.architecture.tree import ROOT

from windlass.kube.priorities import LADDER, class_named

TEMPLATES = ROOT / "helm/windlass/templates"
WANTED = {class_named(value): value for value in LADDER}


def test_the_chart_ships_the_classes_of_the_ladder() -> None:
    shipped = [one for one in yaml.safe_load_all((TEMPLATES / "priority-classes.yaml").read_text()) if one]
    assert {one["metadata"]["name"]: one["value"] for one in shipped} == WANTED


def test_the_policy_knows_the_ladder() -> None:
    policy = next(yaml.safe_load_all((TEMPLATES / "policies/priorities.yaml").read_text()))
    [ladder] = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "ladder"]
    assert json.loads(ladder.replace("'", '"')) == WANTED


def test_every_policy_denies_and_fails_closed_and_needs_no_rendering() -> None:
    for path in sorted((TEMPLATES / "policies").glob("*.yaml")):
        text = path.read_text()
        assert "{{" not in text
        found = list(yaml.safe_load_all(text))
        policies = {one["metadata"]["name"] for one in found if one["kind"] == "ValidatingAdmissionPolicy"}
        bound = {one["spec"]["policyName"] for one in found if one["kind"] == "ValidatingAdmissionPolicyBinding"}
        assert policies == bound
        for one in found:
            if one["metadata"]["name"] in policies and one["kind"] == "ValidatingAdmissionPolicy":
                assert one["spec"]["failurePolicy"] == "Fail"
            else:
                assert "Deny" in one["spec"]["validationActions"]
