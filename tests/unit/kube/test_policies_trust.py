"""Accounts that the admission policies trust: fully qualified, and equal in all policies."""

import re
from typing import Any

from tests.charts.rendering import SYSTEM, render

from windlass.settings import OperatorSettings

ACCOUNT = r"'system:serviceaccount:[a-z-]+:[a-z-]+'"
TRUSTED = {"windlass", "kuberay", "kueue", "job_controller"}
Json = dict[str, Any]


def trusted(objects: list[Json]) -> dict[str, set[str]]:
    """The expressions of each variable that names accounts, over all policies."""
    found: dict[str, set[str]] = {}
    for one in objects:
        if one["kind"] == "ValidatingAdmissionPolicy":
            for variable in one["spec"].get("variables", ()):
                if "variables.user" in variable["expression"]:
                    found.setdefault(variable["name"], set()).add(variable["expression"])
    return found


def test_accounts_are_fully_qualified_and_equal_in_all_policies() -> None:
    found = trusted(render())
    assert found.pop("cluster_parts") == {"variables.user.startsWith('system:serviceaccount:kube-system:')"}
    assert set(found) == TRUSTED
    for expressions in found.values():
        [expression] = expressions
        assert re.fullmatch(rf"variables\.user (== {ACCOUNT}|in \[{ACCOUNT}(, {ACCOUNT})*\])", expression)


def test_windlass_is_trusted_in_the_namespace_of_the_release() -> None:
    [expression] = trusted(render(namespace="mlops"))["windlass"]
    assert set(re.findall(r"system:serviceaccount:([a-z:-]+)", expression)) == {
        "mlops:windlass-operators",
        "mlops:windlass-worker",
        "mlops:windlass-runner",
    }
    assert OperatorSettings.model_fields["namespace"].default == SYSTEM


def test_the_accounts_of_kueue_and_kuberay_are_values() -> None:
    found = trusted(
        render(
            {
                "kueue": {"namespace": "queues", "serviceAccount": "kueue"},
                "kuberay": {"namespace": "ray", "serviceAccount": "operator"},
            }
        )
    )
    assert found["kueue"] == {"variables.user == 'system:serviceaccount:queues:kueue'"}
    assert found["kuberay"] == {"variables.user == 'system:serviceaccount:ray:operator'"}
