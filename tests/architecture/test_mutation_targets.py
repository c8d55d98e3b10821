"""The mutation tests name modules, tests, functions and places of the code that exist."""

import importlib

import pytest
from tests.mutants.__main__ import mutant_name
from tests.mutants.operators import mutations
from tests.mutants.targets import ROOT, NamedMutant, Target, load_accepted, load_named, load_targets

TARGETS = load_targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.module)
def test_a_target_names_a_module_tests_and_functions_that_exist(target: Target) -> None:
    assert target.path.is_file()
    assert [path for path in target.tests if not (ROOT / path).exists()] == []
    for name in target.warm_up:
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(module), function, None)), name


@pytest.mark.parametrize("named", load_named(), ids=lambda named: named.name)
def test_a_named_mutant_changes_one_place_of_its_module(named: NamedMutant) -> None:
    [target] = [target for target in TARGETS if target.module == named.module]
    assert target.source.count(named.old) == 1


def test_every_accepted_survivor_is_a_mutant() -> None:
    existing = {mutant_name(target, mutation) for target in TARGETS for mutation in mutations(target.source)}
    assert [each.mutant for each in load_accepted() if each.mutant not in existing] == []
