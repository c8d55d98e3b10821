"""The filters of the repositories have the fields of the entities that they select."""

import types
from collections.abc import Collection
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from windlass.ports import ProjectData, Repository, UnitOfWork
from windlass.ports.filters import ValueRange

REPOSITORIES = [
    pytest.param(*get_args(hint), id=name)
    for scope in (UnitOfWork, ProjectData)
    for name, hint in get_type_hints(scope).items()
    if get_origin(hint) is Repository
]


def plain_types(hint: Any) -> set[Any]:
    """The types that a field may have, without collections of them."""
    alternatives = get_args(hint) if isinstance(hint, types.UnionType) or get_origin(hint) is Union else (hint,)
    plain = {each for each in alternatives if get_origin(each) is not Collection}
    return {get_args(each)[0] if get_origin(each) is ValueRange else each for each in plain}


@pytest.mark.parametrize(("entity", "filter_"), REPOSITORIES)
def test_a_filter_has_the_fields_of_its_entity(entity: Any, filter_: Any) -> None:
    fields = {name: plain_types(info.annotation) for name, info in entity.model_fields.items()}
    for name, hint in get_type_hints(filter_).items():
        assert plain_types(hint) <= fields[name], f"{filter_.__name__}.{name}"
        if {type(None), datetime} <= fields[name]:
            assert type(None) in plain_types(hint), f"{filter_.__name__}.{name}: None selects rows without a time"


def test_every_repository_is_checked() -> None:
    assert len(REPOSITORIES) >= 24
