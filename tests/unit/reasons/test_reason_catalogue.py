"""The catalogue of Reasons is whole: nothing shows a code that it does not have, and its pages say the same."""

import ast
import re

import pytest
from tests.architecture.tree import ROOT, parsed, python_files

from windlass.domain.jobs import Owner
from windlass.domain.quota import Code, Verdict
from windlass.domain.reasons import CATALOGUE, ClusterCode

CLUSTER_PAGE = ROOT / "docs" / "reference" / "reasons-in-a-cluster.md"


def literal_codes() -> dict[str, str]:
    """The codes that are written where a Reason is made, with the place."""
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


def test_every_code_is_in_the_catalogue() -> None:
    made = literal_codes()
    assert "run_failed" in made
    codes = {*made, *(code.value for code in Code), *(code.value for code in ClusterCode)}
    assert sorted(codes - CATALOGUE.keys()) == []


def test_no_code_means_two_things() -> None:
    assert not {code.value for code in Code} & {code.value for code in ClusterCode}


@pytest.mark.parametrize("code", list(Code))
def test_the_catalogue_names_the_owner_that_the_scheduler_does(code: Code) -> None:
    said = Verdict(code, "a100", 4, position=1, limit=2, ahead="job_x", leaving=("job_y",)).reason.owner
    assert CATALOGUE[code].owner is said


def test_the_page_of_the_cluster_names_codes_that_exist() -> None:
    named = re.findall(r"\| `([a-z_]+)` \|", CLUSTER_PAGE.read_text("utf-8"))
    assert len(named) >= 15
    assert set(named) <= CATALOGUE.keys()
    assert {entry.owner for entry in CATALOGUE.values()} == set(Owner)
