"""Facts to rows and back, by column name, and the one repository that every kind shares."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter
from sqlalchemy import JSON, ColumnElement, Table, delete, func, insert, select, update
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from windlass.domain.errors import ConflictError, NotFoundError, PreconditionFailedError

F = TypeVar("F", bound=BaseModel)


def table_of(kind: type[SQLModel]) -> Table:
    """Return the Core table that a SQLModel class declares."""
    table: Table = kind.__table__  # type: ignore[attr-defined]  # SQLModel sets it, its stubs do not say so
    return table


def _as_it_is(value: Any) -> Any:
    return value


@cache
def _encoders(kind: type[BaseModel], table: Table) -> dict[str, Callable[[Any], Any]]:
    """Return, by column, how a field's value becomes the column's; a JSON column takes the field's own JSON form."""
    encoders: dict[str, Callable[[Any], Any]] = {}
    for column in table.columns:
        field = kind.model_fields.get(column.name)
        if field is None:
            continue
        if isinstance(column.type, JSON):
            annotation: Any = field.annotation
            encoders[column.name] = partial(TypeAdapter[Any](annotation).dump_python, mode="json")
        else:
            encoders[column.name] = _as_it_is
    return encoders


def to_row(fact: BaseModel, table: Table) -> dict[str, Any]:
    """Return the column values of a fact."""
    return {name: encode(getattr(fact, name)) for name, encode in _encoders(type(fact), table).items()}


def to_fact(kind: type[F], row: RowMapping) -> F:
    """Return the fact that a row holds."""
    return kind.model_validate({name: row[name] for name in kind.model_fields if name in row})


class Rows(Generic[F]):
    """``ports.Repository`` on one connection: every statement carries the scope."""

    def __init__(
        self, connection: Connection, table: Table, kind: type[F], noun: str, scope: Mapping[str, str] | None = None
    ) -> None:
        self._connection = connection
        self._table = table
        self._kind = kind
        self._noun = noun
        self._scope = dict(scope or {})
        self._keys = [column.name for column in table.primary_key.columns]

    def _conditions(self, where: Mapping[str, Any]) -> list[ColumnElement[bool]]:
        conditions = []
        for name, value in {**where, **self._scope}.items():
            column = self._table.c[name]
            conditions.append(column.in_(list(value)) if isinstance(value, tuple | list | set) else column == value)
        return conditions

    def _missing(self, where: Mapping[str, Any]) -> NotFoundError:
        wanted = ", ".join(str(value) for value in where.values())
        return NotFoundError(f"no {self._noun} {wanted}".rstrip())

    def add(self, fact: F) -> None:
        row = to_row(fact, self._table)
        if any(row[name] != value for name, value in self._scope.items()):
            raise self._missing(self._scope)
        try:
            self._connection.execute(insert(self._table).values(row))
        except IntegrityError as error:
            name = row.get("name") or row[self._keys[-1]]
            raise ConflictError(
                f"a {self._noun} {name} exists already", hint="choose another name, or change the one that exists"
            ) from error

    def find(self, **where: Any) -> F | None:
        query = select(self._table).where(*self._conditions(where)).limit(1)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else to_fact(self._kind, row)

    def get(self, **where: Any) -> F:
        fact = self.find(**where)
        if fact is None:
            raise self._missing(where)
        return fact

    def all(self, **where: Any) -> list[F]:
        order = [self._table.c[name] for name in self._keys]
        query = select(self._table).where(*self._conditions(where)).order_by(*order)
        return [to_fact(self._kind, row) for row in self._connection.execute(query).mappings()]

    def count(self, **where: Any) -> int:
        query = select(func.count()).select_from(self._table).where(*self._conditions(where))
        return self._connection.scalar(query) or 0

    def page(self, limit: int, after: str | int | None, *, newest_first: bool = False, **where: Any) -> list[F]:
        key = self._table.c[self._keys[-1]]
        conditions = self._conditions(where)
        if after is not None:
            conditions.append(key < after if newest_first else key > after)
        query = select(self._table).where(*conditions).order_by(key.desc() if newest_first else key).limit(limit)
        return [to_fact(self._kind, row) for row in self._connection.execute(query).mappings()]

    def save(self, fact: F) -> F:
        row = to_row(fact, self._table)
        where = {name: row[name] for name in self._keys}
        guarded = dict(where)
        if "version" in row:
            guarded["version"] = row["version"]
            row["version"] += 1
        done = self._connection.execute(update(self._table).where(*self._conditions(guarded)).values(row))
        if done.rowcount == 0:
            if self.find(**where) is None:
                raise self._missing(where)
            raise PreconditionFailedError(
                f"the {self._noun} was changed in the meantime", hint="read it again and repeat the change"
            )
        return fact.model_copy(update={"version": row["version"]}) if "version" in row else fact

    def delete(self, **where: Any) -> int:
        return self._connection.execute(delete(self._table).where(*self._conditions(where))).rowcount

    def delete_older(self, field: str, than: datetime) -> int:
        old = delete(self._table).where(*self._conditions({}), self._table.c[field] < than)
        return self._connection.execute(old).rowcount
