"""Generates the command line reference from the commands."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

import typer

from windlass.cli import errors
from windlass.cli.main import app
from windlass.domain.errors import error_classes

SHARED = {"--output", "--json", "--project", "--server", "--key-file", "--help"}


def root() -> Any:
    return typer.main.get_command(app)


def child(group: Any, name: str) -> Any:
    """Return a command by name; the root group imports the command's module on demand."""
    context = group.make_context("windlass", [], resilient_parsing=True)
    return group.resolve_command(context, [name])[1]


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and command of every leaf command."""
    for name in group.commands:
        command = child(group, name)
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def value_of(parameter: Any) -> str:
    """Return an option's choices, or the type of its value."""
    kind = parameter.type_descriptor.annotation
    kind = (get_args(kind) or [kind])[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    placeholders = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER"}
    return str(parameter.metavar or placeholders.get(kind.__name__, kind.__name__)).upper()


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        if parameter.param_type_name == "option" and not SHARED & set(names):
            value = "" if parameter.is_flag or parameter.count else f" {value_of(parameter)}"
            note = " (required)" if parameter.required else " (repeatable)" if parameter.multiple else ""
            help_text = f": {parameter.help}" if parameter.help else ""
            yield f"- `{', '.join(names)}{value}`{note}{help_text}\n"


def arguments(command: Any) -> Iterator[Any]:
    return (parameter for parameter in command.params if parameter.param_type_name == "argument")


def usage(path: tuple[str, ...], command: Any) -> str:
    parts = ["windlass", *path]
    for argument in arguments(command):
        name = (argument.metavar or argument.name).upper().replace("[", "").replace("]", "").removesuffix("...")
        name += "..." if argument.nargs != 1 else ""
        parts.append(name if argument.required else f"[{name}]")
    return " ".join(parts)


def commands() -> str:
    parts = []
    for path, command in leaves(root()):
        description = " ".join((command.help or "").split())
        helps = [f"- `{a.name.upper()}`: {a.help}\n" for a in arguments(command) if getattr(a, "help", None)]
        listed = "".join([*helps, *options(command)])
        parts.append(
            f"### {' '.join(path)}\n\n{description}\n\n`{usage(path, command)}`\n" + (f"\n{listed}" if listed else "")
        )
    return "\n".join(parts)


def exit_codes() -> str:
    """Return the table of exit codes and their errors."""
    codes: dict[int, list[str]] = {}
    for kind in error_classes():
        codes.setdefault(errors.exit_code(kind("")), []).append(f"[`{kind.code}`](errors.md#{kind.code})")
    meanings = {
        errors.OK: "success",
        errors.FAILED: "the job failed, the version was rejected, a `doctor` check failed, or",
        errors.USAGE: "invalid command line, or",
        errors.WAIT_TIMED_OUT: "`--timeout` expired; the job or version continues",
        errors.INTERRUPTED: "Ctrl-C; the watched job or version continues",
    }
    rows = [
        (code, " ".join([meanings.get(code, ""), ", ".join(sorted(codes.get(code, [])))]))
        for code in {*codes, *meanings}
    ]
    return "| code | meaning |\n| --- | --- |\n" + "".join(
        f"| {code} | {text.strip()} |\n" for code, text in sorted(rows)
    )
