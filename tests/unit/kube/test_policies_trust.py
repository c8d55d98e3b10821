"""Whom the admission policies trust: accounts by their full names, the same ones everywhere."""

import re

import yaml
from tests.architecture.tree import ROOT

from windlass.settings import OperatorSettings

POLICIES = ROOT / "helm/windlass/templates/policies"
ACCOUNT = r"'system:serviceaccount:[a-z-]+:[a-z-]+'"
TRUSTED = {"windlass", "kuberay", "kueue", "job_controller"}


def trusted() -> dict[str, set[str]]:
    """What each variable that names accounts says, over all policies."""
    found: dict[str, set[str]] = {}
    for path in POLICIES.glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            for variable in one["spec"].get("variables", ()):
                if "variables.user" in variable["expression"]:
                    found.setdefault(variable["name"], set()).add(variable["expression"])
    return found


def test_accounts_are_named_in_full_and_alike_in_all_policies() -> None:
    found = trusted()
    assert found.pop("cluster_parts") == {"variables.user.startsWith('system:serviceaccount:kube-system:')"}
    assert set(found) == TRUSTED
    for expressions in found.values():
        [expression] = expressions
        assert re.fullmatch(rf"variables\.user (== {ACCOUNT}|in \[{ACCOUNT}(, {ACCOUNT})*\])", expression)


def test_windlass_is_trusted_in_the_namespace_where_its_operators_run() -> None:
    [expression] = trusted()["windlass"]
    namespaces = set(re.findall(r"system:serviceaccount:([a-z-]+):", expression))
    assert namespaces == {OperatorSettings.model_fields["namespace"].default}
