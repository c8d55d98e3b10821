"""The reference of the command line, from the command line itself."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

import typer

from windlass.cli import failures
from windlass.cli.main import app
from windlass.domain.errors import error_classes

SHARED = {"--output", "--json", "--project", "--server", "--key-file", "--help"}


def root() -> Any:
    return typer.main.get_command(app)


def child(group: Any, name: str) -> Any:
    """The real command of a name; the root loads the modules of its commands when asked."""
    context = group.make_context("windlass", [], resilient_parsing=True)
    return group.resolve_command(context, [name])[1]


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and command of everything that can be called."""
    for name in group.commands:
        command = child(group, name)
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def value_of(parameter: Any) -> str:
    """What an option takes: its choices, or the kind of value."""
    kind = parameter.type_descriptor.annotation
    kind = (get_args(kind) or [kind])[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    words = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER"}
    return str(parameter.metavar or words.get(kind.__name__, kind.__name__)).upper()


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        if parameter.param_type_name == "option" and not SHARED & set(names):
            value = "" if parameter.is_flag or parameter.count else f" {value_of(parameter)}"
            note = " (required)" if parameter.required else " (repeatable)" if parameter.multiple else ""
            said = f": {parameter.help}" if parameter.help else ""
            yield f"- `{', '.join(names)}{value}`{note}{said}\n"


def arguments(command: Any) -> Iterator[Any]:
    return (parameter for parameter in command.params if parameter.param_type_name == "argument")


def usage(path: tuple[str, ...], command: Any) -> str:
    words = ["windlass", *path]
    for argument in arguments(command):
        name = (argument.metavar or argument.name).upper().replace("[", "").replace("]", "").removesuffix("...")
        name += "..." if argument.nargs != 1 else ""
        words.append(name if argument.required else f"[{name}]")
    return " ".join(words)


def commands() -> str:
    parts = []
    for path, command in leaves(root()):
        said = " ".join((command.help or "").split())
        helps = [f"- `{a.name.upper()}`: {a.help}\n" for a in arguments(command) if getattr(a, "help", None)]
        listed = "".join([*helps, *options(command)])
        parts.append(
            f"### {' '.join(path)}\n\n{said}\n\n`{usage(path, command)}`\n" + (f"\n{listed}" if listed else "")
        )
    return "\n".join(parts)


def exit_codes() -> str:
    """Which errors end the CLI with which code."""
    codes: dict[int, list[str]] = {}
    for kind in error_classes():
        codes.setdefault(failures.exit_code(kind("")), []).append(f"[`{kind.code}`](errors.md#{kind.code})")
    said = {
        failures.OK: "done",
        failures.FAILED: "the job failed, the version was rejected, a check of `doctor` failed, or",
        failures.USAGE: "the command line is wrong, or",
        failures.WAIT_TIMED_OUT: "`--timeout` ran out; what was waited for goes on",
        failures.INTERRUPTED: "Ctrl-C; what was watched goes on",
    }
    rows = [(code, " ".join([said.get(code, ""), ", ".join(sorted(codes.get(code, [])))])) for code in {*codes, *said}]
    return "| code | meaning |\n| --- | --- |\n" + "".join(
        f"| {code} | {text.strip()} |\n" for code, text in sorted(rows)
    )
