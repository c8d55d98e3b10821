"""The statements of the repositories: built once for each form of filter, then executed with other values.

Building a statement and the key of SQLAlchemy's compiled cache takes longer than SQLite needs to execute it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement, Integer, Select, Table, bindparam, delete, func, or_, select, update

from windlass.ports.filters import ValueRange

ROWS: str = "rows"
"""Parameter of the number of rows."""
BEYOND: str = "beyond"
"""Parameter of the key after which a page begins."""


class Comparison(StrEnum):
    """How a condition compares a column."""

    EQUAL = "equal"
    NULL = "null"
    IN = "in"
    IN_OR_NULL = "in_or_null"
    FROM = "from"
    BELOW = "below"


Form = tuple[tuple[str, Comparison], ...]
"""The columns and comparisons of a filter; a statement is built once for each."""
ConditionBuilder = Callable[[Table, Form], Sequence[ColumnElement[bool]]]
"""Builds the conditions of a form."""
SelectBuilder = Callable[[Table], Select[Any]]
"""Builds the SELECT of all rows."""


class Order(StrEnum):
    """The order of the rows."""

    KEYS = "keys"
    OLDEST_FIRST = "oldest_first"
    NEWEST_FIRST = "newest_first"


def form_of(where: Mapping[str, object]) -> tuple[Form, dict[str, object]]:
    """Return the form of a filter and the values of its parameters. None in a list matches NULL, unlike in SQL."""
    form: list[tuple[str, Comparison]] = []
    values: dict[str, object] = {}

    def add(name: str, comparison: Comparison, value: object) -> None:
        form.append((name, comparison))
        values[_parameter(name, comparison)] = value

    for name, value in where.items():
        if value is None:
            form.append((name, Comparison.NULL))
        elif isinstance(value, ValueRange):
            if value.first is not None:
                add(name, Comparison.FROM, value.first)
            if value.end is not None:
                add(name, Comparison.BELOW, value.end)
        elif is_collection(value):
            stored = [each for each in value if each is not None]
            add(name, Comparison.IN_OR_NULL if None in value else Comparison.IN, stored)
        else:
            add(name, Comparison.EQUAL, value)
    return tuple(form), values


def is_collection(value: object) -> TypeGuard[Collection[Any]]:
    """Return whether a filter compares with any of several values."""
    return isinstance(value, Collection) and not isinstance(value, str)


def _parameter(name: str, comparison: Comparison) -> str:
    """Return a name that is not the one of a column: an UPDATE has parameters with those."""
    return f"where_{comparison}_{name}"


@cache
def conditions(table: Table, form: Form) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a form."""
    return tuple(_condition(table.c[name], name, comparison) for name, comparison in form)


def _condition(column: ColumnElement[Any], name: str, comparison: Comparison) -> ColumnElement[bool]:
    is_list = comparison in (Comparison.IN, Comparison.IN_OR_NULL)
    value = bindparam(_parameter(name, comparison), type_=column.type, expanding=is_list)
    match comparison:
        case Comparison.EQUAL:
            return column == value
        case Comparison.NULL:
            return column.is_(None)
        case Comparison.IN:
            return column.in_(value)
        case Comparison.IN_OR_NULL:
            return or_(column.is_(None), column.in_(value))
        case Comparison.FROM:
            return column >= value
        case Comparison.BELOW:
            return column < value


def all_columns(table: Table) -> Select[Any]:
    """Return the SELECT of all columns of all rows."""
    return select(table)


@cache
def select_rows(
    rows: SelectBuilder,
    where: ConditionBuilder,
    table: Table,
    form: Form,
    order: Order,
    *,
    limited: bool = True,
    beyond: bool = False,
) -> Select[Any]:
    """Return the SELECT of the rows that match a form.

    Args:
        rows: builds the SELECT.
        where: builds the conditions.
        table: the table.
        form: columns and comparisons of the filter.
        order: the order.
        limited: at most ``ROWS`` rows.
        beyond: only rows after the key ``BEYOND`` in this order.
    """
    keys = list(table.primary_key.columns)
    statement = rows(table).where(*where(table, form))
    if beyond:
        last: Any = bindparam(BEYOND, type_=keys[-1].type)
        statement = statement.where(keys[-1] < last if order is Order.NEWEST_FIRST else keys[-1] > last)
    if order is Order.KEYS:
        statement = statement.order_by(*keys)
    else:
        statement = statement.order_by(keys[-1].desc() if order is Order.NEWEST_FIRST else keys[-1])
    return statement.limit(bindparam(ROWS, type_=Integer)) if limited else statement


@cache
def select_one(rows: SelectBuilder, where: ConditionBuilder, table: Table, form: Form) -> Select[Any]:
    """Return the SELECT of one row that matches a form."""
    return rows(table).where(*where(table, form)).limit(1)


@cache
def count_rows(where: ConditionBuilder, table: Table, form: Form) -> Select[Any]:
    """Return the SELECT of the number of rows that match a form."""
    return select(func.count()).select_from(table).where(*where(table, form))


@cache
def update_rows(where: ConditionBuilder, table: Table, form: Form) -> Any:
    """Return the UPDATE of the rows that match a form; it sets the columns that its parameters name."""
    return update(table).where(*where(table, form))


@cache
def delete_matching(where: ConditionBuilder, table: Table, form: Form) -> Any:
    """Return the DELETE of the rows that match a form."""
    return delete(table).where(*where(table, form))
