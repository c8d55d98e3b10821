"""The catalogue of reason codes is complete and consistent with the scheduler and the docs."""

import ast
import re

import pytest
from tests.architecture.tree import ROOT, parsed, python_files

from windlass.domain.jobs import ActionOwner
from windlass.domain.quota import QueueDecision, QuotaCode
from windlass.domain.reasons import CATALOGUE, ClusterCode

CLUSTER_PAGE = ROOT / "docs" / "reference" / "reasons-in-a-cluster.md"


def literal_codes() -> dict[str, str]:
    """Return the literal codes of ``Reason(code=...)`` calls, with their locations."""
    found = {}
    for path in python_files():
        if path.parts[0] not in {"platform", "api", "operators", "pipelines"}:
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason":
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        found[str(keyword.value.value)] = f"{path}:{node.lineno}"
    return found


def result_codes() -> set[str]:
    """Return the codes with which trainers report that they have failed."""
    found = set()
    for path in (path for path in python_files() if path.parts[:2] == ("pipelines", "windlass_pipelines")):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            values = node.args[1:2] if node.func.id == "_failed_result" else node.args[:1]
            if node.func.id in {"TrainingError", "_failed_result"} and isinstance(values[0], ast.Constant):
                found.add(str(values[0].value))
    return found


def test_every_result_of_a_trainer_is_in_the_catalogue() -> None:
    codes = result_codes()
    assert {"out_of_memory", "loss_not_finite", "training_failed"} <= codes
    assert sorted(codes - CATALOGUE.keys()) == []
    assert [code for code in codes if not CATALOGUE[code].action] == ["training_failed"]


def test_every_code_is_in_the_catalogue() -> None:
    literals = literal_codes()
    assert "run_failed" in literals
    codes = {*literals, *(code.value for code in QuotaCode), *(code.value for code in ClusterCode)}
    assert sorted(codes - CATALOGUE.keys()) == []


def test_codes_are_unique() -> None:
    assert not {code.value for code in QuotaCode} & {code.value for code in ClusterCode}


@pytest.mark.parametrize("code", list(QuotaCode))
def test_the_catalogue_and_the_scheduler_agree_on_who_can_act(code: QuotaCode) -> None:
    action_by = QueueDecision(
        code, "a100", 4, position=1, limit=2, ahead="job_x", terminating=("job_y",)
    ).reason.action_by
    assert CATALOGUE[code].action_by is action_by


def test_the_cluster_reasons_page_names_existing_codes() -> None:
    named = re.findall(r"\| `([a-z_]+)` \|", CLUSTER_PAGE.read_text("utf-8"))
    assert len(named) >= 15
    assert set(named) <= CATALOGUE.keys()
    assert {entry.action_by for entry in CATALOGUE.values()} == set(ActionOwner)
