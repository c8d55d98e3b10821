"""Deletes objects: shows what the server would delete, asks on a terminal, and requires ``--yes`` elsewhere."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import typer

from windlass.cli import errors
from windlass.cli.render import Output
from windlass.cli.safe_text import one_line
from windlass.cli.session import Session
from windlass.domain.errors import InvalidError
from windlass.kit.numbers import count, size
from windlass.wire.base import DeletionOut

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; required where no terminal can ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted; change nothing.")]

Cascade = Annotated[
    bool,
    typer.Option(
        "--cascade", help="Also delete what descends from it by lineage, endpoints first; --dry-run lists it."
    ),
]

_NAMED_BY_ID = {"job", "key"}
"""Kinds whose names are labels for people; commands name these objects by id."""


@dataclass(frozen=True)
class Verb:
    """The verb of a command in its messages."""

    infinitive: str
    past: str


DELETE = Verb("delete", "deleted")
REVOKE = Verb("revoke", "revoked")
REMOVE = Verb("remove", "removed")


class DeleteCall(Protocol):
    """Deletes one object, or with ``dry_run`` only returns what that would delete."""

    def __call__(self, *, dry_run: bool) -> DeletionOut:
        """Send the request."""
        ...


def delete(session: Session, call: DeleteCall, *, yes: bool, dry_run: bool, verb: Verb = DELETE) -> None:
    """Delete an object after a confirmation.

    Args:
        session: the invocation.
        call: deletes the object.
        yes: whether the user confirmed on the command line.
        dry_run: whether to print the preview only.
        verb: the verb of the messages.

    Raises:
        InvalidError: nobody can be asked, and ``yes`` is not set.
        Exit: the user declined.
    """
    if dry_run:
        _show(session, call(dry_run=True), f"would be {verb.past}")
        return
    if not yes:
        preview = call(dry_run=True)
        effects = _lines(preview, f"would be {verb.past}")
        confirm(session, effects, f"{verb.infinitive.capitalize()} {_subject(preview)}?")
    _show(session, call(dry_run=False), verb.past)


def confirm(session: Session, effects: Sequence[str], question: str) -> None:
    """Ask on a terminal whether to make a change.

    Args:
        session: the invocation.
        effects: what the change does, one line each; the first line is a sentence.
        question: the question.

    Raises:
        InvalidError: standard input or standard error is not a terminal, so nobody can answer.
        Exit: the user declined.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidError(
            f"{effects[0]}: --yes is required where no terminal can ask",
            hint=f"{session.command_line('--yes')}, or --dry-run to see the effects",
        )
    session.message("\n".join(effects))
    # typer.confirm writes a part of its prompt to standard output, which is for data
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        session.message("nothing was changed")
        raise typer.Exit(errors.FAILED)


def _show(session: Session, deletion: DeletionOut, done: str) -> None:
    if session.output is Output.NAME:
        session.names([deletion.name])
    elif session.machine:
        session.document(deletion)
    else:
        session.message("\n".join(_lines(deletion, done)))


def _subject(deletion: DeletionOut) -> str:
    kind, key, name = one_line(deletion.kind), one_line(deletion.id), one_line(deletion.name)
    if deletion.kind not in _NAMED_BY_ID:
        return f"{kind} {name}"
    return f"{kind} {key}" if name == key else f"{kind} {key}, {name}"


def _sentence(deletion: DeletionOut, done: str) -> str:
    parts = [count(number, one_line(kind)) for kind, number in deletion.contains.items()]
    if deletion.stored_bytes:
        parts.append(f"{size(deletion.stored_bytes)} of files")
    contents = f", with {', '.join(parts)}" if parts else ""
    return f"{_subject(deletion)} {done}{contents}"


def _lines(deletion: DeletionOut, done: str) -> list[str]:
    return [
        _sentence(deletion, done),
        *(f"  {one_line(text)}" for text in deletion.consequences),
        *_descendants(deletion),
    ]


def _descendants(deletion: DeletionOut) -> list[str]:
    lines = []
    for each in deletion.descendants:
        why = f": {one_line(each.why)}" if each.why else ""
        subject = one_line(each.name if each.name == each.id else f"{each.name} ({each.id})")
        lines.append(f"  {each.effect:<7}  {one_line(each.kind)} {subject}{why}")
    return lines
