"""Erases a data subject: searches, prints the counts without any text, asks, and confirms."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from windlass.cli import errors
from windlass.cli.deletion import confirm
from windlass.cli.render import Column
from windlass.cli.session import Session
from windlass.domain.erasures import ErasureState
from windlass.domain.errors import InvalidError
from windlass.kit.numbers import count
from windlass.wire.erasures import ErasureOut

COLUMNS = (
    Column[ErasureOut]("id", lambda erasure: erasure.id),
    Column[ErasureOut]("dataset", lambda erasure: erasure.dataset),
    Column[ErasureOut]("state", lambda erasure: erasure.state),
    Column[ErasureOut]("rows", lambda erasure: erasure.rows),
    Column[ErasureOut](
        "pending",
        lambda erasure: [f"{each.kind} {each.name}" for each in erasure.descendants if each.outcome == "pending"],
        shrinks=True,
    ),
    Column[ErasureOut]("age", lambda erasure: erasure.created_at),
)
DETAILS = (
    *COLUMNS,
    Column[ErasureOut](
        "versions", lambda erasure: {f"@{each.number}": each.matches for each in erasure.versions if each.matches}
    ),
    Column[ErasureOut]("new version", lambda erasure: erasure.new_version),
    Column[ErasureOut](
        "descendants", lambda erasure: {f"{each.kind} {each.name}": each.outcome for each in erasure.descendants}
    ),
    Column[ErasureOut]("problem", lambda erasure: erasure.problem),
)


def name_of(erasure: ErasureOut) -> str:
    """Return how commands name an erasure."""
    return erasure.id


def parse_conditions(conditions: Sequence[str]) -> dict[str, str]:
    """Return the columns and values of ``--where column=value`` options.

    Raises:
        InvalidError: one has no ``=``, or a column is given twice.
    """
    row: dict[str, str] = {}
    for condition in conditions:
        column, separator, value = condition.partition("=")
        if not separator or column in row:
            raise InvalidError("--where: give COLUMN=VALUE, each column once", hint="--where group=customer-17")
        row[column] = value
    return row


def read_rows_file(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the texts and the rows of a file: a JSON object on a line is a row, any other line is a text.

    Raises:
        InvalidError: the file cannot be read, or an object has values that are not strings.
    """
    texts: list[str] = []
    rows: list[dict[str, str]] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} cannot be read as UTF-8 text", hint="give a text file") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            texts.append(line.strip())
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidError(f"{path}, line {number}: not a JSON object", hint="one object or text a line") from error
        if not all(isinstance(value, str) for value in row.values()):
            raise InvalidError(f"{path}, line {number}: a value is not a string", hint='for example {"group": "c17"}')
        rows.append(row)
    return texts, rows


def finish(session: Session, erasure: ErasureOut, *, yes: bool, dry_run: bool = False) -> None:
    """Show what was found; confirm it if the user agrees, and wait until the rows are erased.

    Raises:
        Exit: the erasure failed, or the user declined.
    """
    if erasure.state is not ErasureState.FOUND or not erasure.rows or dry_run:
        _end(session, erasure)
        return
    if not yes:
        confirm(session, _effects(erasure), f"Erase {count(erasure.rows, 'row')} from dataset {erasure.dataset}?")
    client = session.client.erasures
    client.confirm(erasure.id, if_match=erasure.version)
    _end(session, client.wait(erasure.id))


def _effects(erasure: ErasureOut) -> list[str]:
    affected = [each for each in erasure.versions if each.matches]
    lines = [f"{count(erasure.rows, 'row')} would be erased from dataset {erasure.dataset} by erasure {erasure.id}"]
    lines += [f"  {erasure.dataset}@{each.number}: {each.matches} of {count(each.rows, 'row')}" for each in affected]
    lines.append("  these versions are deleted for ever; a new version has the other rows")
    return lines


def _end(session: Session, erasure: ErasureOut) -> None:
    if session.machine:
        session.show(erasure, COLUMNS, name_of)
    elif erasure.state is ErasureState.FOUND and erasure.rows:
        session.message("\n".join(_effects(erasure)))
        session.message(f"confirm it: windlass erasure confirm {erasure.id}")
    elif erasure.state is ErasureState.FOUND:
        session.message(f"no version of dataset {erasure.dataset} has such rows")
    else:
        session.show(erasure, DETAILS, name_of)
    if erasure.state is ErasureState.FAILED:
        raise typer.Exit(errors.FAILED)
