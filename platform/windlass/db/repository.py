"""Maps models to rows and back by column name, and implements the repository of all models."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import JSON, ColumnElement, Row, Table, delete, select, tuple_
from sqlalchemy.engine import RowMapping
from sqlmodel import SQLModel

from windlass.db.dialect import insert_unless_stored
from windlass.db.row_scope import ScopedConnection, Setting
from windlass.db.statements import (
    BEYOND,
    ROWS,
    ConditionBuilder,
    Form,
    Order,
    SelectBuilder,
    all_columns,
    conditions,
    count_rows,
    delete_matching,
    form_of,
    is_collection,
    select_one,
    select_rows,
    update_rows,
)
from windlass.domain.errors import ConflictError, NotFoundError, PreconditionFailedError, WindlassError
from windlass.ports import Changes

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
F_contra = TypeVar("F_contra", bound=Mapping[str, object], contravariant=True)

_MAX_LIST = 10_000
"""Values of one list in a statement. SQLite allows 32,766 bound values, PostgreSQL 65,535."""


def table_of(kind: type[SQLModel]) -> Table:
    """Return the Core table that a SQLModel class declares."""
    table: Table = kind.__table__  # type: ignore[attr-defined]  # SQLModel sets it, its stubs do not declare it
    return table


def _identity(value: Any) -> Any:
    return value


@cache
def _encoders(kind: type[BaseModel], table: Table) -> dict[str, Callable[[Any], Any]]:
    """Return the encoder of each column. A JSON column stores the field's JSON form."""
    encoders: dict[str, Callable[[Any], Any]] = {}
    for column in table.columns:
        field = kind.model_fields.get(column.name)
        if field is None:
            continue
        if isinstance(column.type, JSON):
            annotation: Any = field.annotation
            encoders[column.name] = partial(TypeAdapter[Any](annotation).dump_python, mode="json")
        else:
            encoders[column.name] = _identity
    return encoders


def to_row(model: BaseModel, table: Table) -> dict[str, Any]:
    """Return the column values of a model."""
    return {name: encode(getattr(model, name)) for name, encode in _encoders(type(model), table).items()}


def to_model(kind: type[M], row: RowMapping) -> M:
    """Return the model of a row."""
    return kind.model_validate({name: row[name] for name in kind.model_fields if name in row})


@cache
def _positions(kind: type[BaseModel], table: Table) -> tuple[tuple[str, int], ...]:
    """Return the fields of a model and the positions of their columns in a row of the table."""
    names = [column.name for column in table.columns]
    return tuple((name, names.index(name)) for name in kind.model_fields if name in names)


@lru_cache(maxsize=1024)
def _log_unreadable(noun: str, key: str, problem: str) -> None:
    """Log a row once per process: the loops read it again every few seconds."""
    _log.error("a stored object cannot be read", extra={"kind": noun, "id": key, "problem": problem})


def _field_of(error: ValidationError) -> str:
    """Return the first wrong field of a row, without its value."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['type']}"


@cache
def _key_names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key.columns)


class SqlRepository(Generic[M, F_contra]):
    """``ports.Repository`` on one connection. Every statement filters by the scope."""

    _rows: SelectBuilder = staticmethod(all_columns)
    _where: ConditionBuilder = staticmethod(conditions)

    def __init__(
        self,
        connection: ScopedConnection,
        table: Table,
        kind: type[M],
        noun: str,
        changes: Changes,
        *,
        scope: Mapping[str, Any],
        lookups: Mapping[str, Setting] | None = None,
    ) -> None:
        """Create the repository of one scope.

        Args:
            connection: executes its statements.
            table: the table of the model.
            kind: the model.
            noun: what errors call it.
            changes: records what it writes.
            scope: values that every row has; empty for the rows of all projects.
            lookups: columns by which ``find`` may look up a row of any project, with their settings.
        """
        self._connection = connection
        self._table = table
        self._kind = kind
        self._noun = noun
        self._changes = changes
        self._scope = scope
        self._lookups = lookups or {}
        self._keys = _key_names(table)

    def _values(self) -> dict[str, object]:
        """Return the values of further parameters of ``_where``."""
        return {}

    def _form(self, where: Mapping[str, object] | None) -> tuple[Form, dict[str, object]]:
        """Return the form of a filter in this scope, and the values of all parameters of its conditions."""
        form, values = form_of({**(where or {}), **self._scope})
        return form, values | self._values()

    def _missing(self, where: Mapping[str, object]) -> NotFoundError:
        criteria = ", ".join(str(value) for value in where.values())
        return NotFoundError(f"no {self._noun} {criteria}".rstrip())

    def _model(self, row: Row[Any]) -> M:
        return self._kind.model_validate({name: row[index] for name, index in _positions(self._kind, self._table)})

    def _key(self, row: Row[Any]) -> Any:
        return row._mapping[self._keys[-1]]  # noqa: SLF001 - SQLAlchemy's public name

    def add(self, model: M) -> None:
        row = to_row(model, self._table)
        if any(row.get(name) != value for name, value in self._scope.items()):
            raise self._missing(self._scope)
        self._changes.save(model)
        # the database numbers a key without a value
        row = {name: value for name, value in row.items() if value is not None or name not in self._keys}
        insert = insert_unless_stored(self._connection.dialect.name, self._table)
        if self._connection.execute(insert, row).first() is None:
            name = row.get("name") or row[self._keys[-1]]
            raise ConflictError(
                f"a {self._noun} {name} exists already", hint="choose another name, or change the one that exists"
            )

    def find(self, where: F_contra) -> M | None:
        found = {setting: str(where[name]) for name, setting in self._lookups.items() if name in where}
        connection = self._connection.narrowed(found) if found else self._connection
        form, values = self._form(where)
        row = connection.execute(select_one(self._rows, self._where, self._table, form), values).first()
        if row is None:
            return None
        try:
            return self._model(row)
        except ValidationError as error:
            raise WindlassError(
                f"the stored {self._noun} {self._key(row)} cannot be read: {_field_of(error)}",
                hint="ask the platform's admin to repair or delete it in the database",
            ) from error

    def _readable(self, rows: Iterable[Row[Any]]) -> Iterator[M]:
        """Yield the models of the rows. A list leaves out a row that cannot be read, and logs it."""
        for row in rows:
            try:
                yield self._model(row)
            except ValidationError as error:
                _log_unreadable(self._noun, str(self._key(row)), _field_of(error))

    def get(self, where: F_contra) -> M:
        model = self.find(where)
        if model is None:
            raise self._missing(where)
        return model

    def all(self, where: F_contra | None = None) -> list[M]:
        rows: list[M] = []
        for part in _split(where or {}):
            form, values = self._form(part)
            query = select_rows(all_columns, self._where, self._table, form, Order.KEYS, limited=False)
            rows += self._readable(self._connection.execute(query, values))
        return rows

    def count(self, where: F_contra | None = None) -> int:
        total = 0
        for part in _split(where or {}):
            form, values = self._form(part)
            total += self._connection.execute(count_rows(self._where, self._table, form), values).scalar() or 0
        return total

    def page(
        self, limit: int, after: str | int | None, where: F_contra | None = None, *, newest_first: bool = False
    ) -> list[M]:
        form, values = self._form(where)
        order = Order.NEWEST_FIRST if newest_first else Order.OLDEST_FIRST
        models: list[M] = []
        while True:
            query = select_rows(all_columns, self._where, self._table, form, order, beyond=after is not None)
            wanted = limit - len(models)
            page = values | {ROWS: wanted} | ({} if after is None else {BEYOND: after})
            rows = self._connection.execute(query, page).all()
            models += self._readable(rows)
            if len(rows) < wanted or len(models) == limit:  # else a row was left out: fill the page
                return models
            after = self._key(rows[-1])

    def save(self, model: M) -> M:
        row = to_row(model, self._table)
        where = {name: row[name] for name in self._keys}
        guarded = dict(where)
        if "version" in row:
            guarded["version"] = row["version"]
            row["version"] += 1
        form, values = self._form(guarded)
        if self._connection.execute(update_rows(self._where, self._table, form), row | values).rowcount == 0:
            form, values = self._form(where)
            if self._connection.execute(count_rows(self._where, self._table, form), values).scalar() == 0:
                raise self._missing(where)
            raise PreconditionFailedError(
                f"the {self._noun} was changed in the meantime", hint="read it again and repeat the change"
            )
        saved = model.model_copy(update={"version": row["version"]}) if "version" in row else model
        self._changes.save(saved)
        return saved

    def delete(self, where: F_contra) -> int:
        self._changes.delete(self._kind, where)
        form, values = self._form(where)
        deleted: int = self._connection.execute(delete_matching(self._where, self._table, form), values).rowcount
        return deleted

    def older(self, before: F_contra, limit: int, where: F_contra | None = None, *, after: M | None = None) -> list[M]:
        key, [(field, time)] = self._table.c[self._keys[-1]], before.items()
        column = self._table.c[field]
        form, values = self._form(where)
        conditions = [*self._where(self._table, form), column < time]
        if after is not None:
            conditions.append(tuple_(column, key) > (getattr(after, field), getattr(after, key.name)))
        query = select(self._table).where(*conditions).order_by(column, key).limit(limit)
        return list(self._readable(self._connection.execute(query, values)))

    def delete_older(self, before: F_contra, limit: int, where: F_contra | None = None) -> int:
        self._changes.delete(self._kind, {})
        [(field, time)] = before.items()
        form, values = self._form(where)
        conditions = [*self._where(self._table, form), self._table.c[field] < time]
        return delete_rows(self._connection, self._table, conditions, limit, values)


def delete_rows(
    connection: ScopedConnection,
    table: Table,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    values: Mapping[str, object] | None = None,
) -> int:
    """Delete at most ``limit`` rows that match; return their number. ``values`` are those of parameters."""
    keys = list(table.primary_key.columns)
    chosen = select(*keys).where(*conditions).limit(limit)
    key = tuple_(*keys) if len(keys) > 1 else keys[0]
    deleted: int = connection.execute(delete(table).where(key.in_(chosen)), values).rowcount
    return deleted


def _split(where: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield ``where`` in parts whose longest list has at most ``_MAX_LIST`` values; the order is that of the list."""
    long = [(name, value) for name, value in where.items() if is_collection(value) and len(value) > _MAX_LIST]
    if not long:
        yield where
        return
    name, values = long[0][0], sorted(set(long[0][1]))
    for start in range(0, len(values), _MAX_LIST):
        yield {**where, name: values[start : start + _MAX_LIST]}
