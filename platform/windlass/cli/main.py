"""The ``windlass`` command: nouns and verbs, each imported when it is called."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer import completion
from typer.core import TyperCommand, TyperGroup

from windlass import __version__
from windlass.cli import failures
from windlass.cli.safe_text import lines
from windlass.domain.errors import WindlassError

COMPLETION_VARIABLE = "_WINDLASS_COMPLETE"
"""Set by the scripts of ``windlass completions`` when a shell asks what may come next."""


class _Entry(NamedTuple):
    panel: str
    help: str


_HERE = "On this machine"
_WORK = "Train and serve"
_SHARE = "Share"

_COMMANDS = {
    "up": _Entry(_HERE, "Start the server of this machine."),
    "down": _Entry(_HERE, "Stop it."),
    "status": _Entry(_HERE, "Show the server, and who you are to it."),
    "doctor": _Entry(_HERE, "Check this machine and the server, and say what to do."),
    "examples": _Entry(_WORK, "Fetch real example data and base models."),
    "dataset": _Entry(_WORK, "Upload, check and clean data."),
    "base-model": _Entry(_WORK, "The models that jobs may start from."),
    "job": _Entry(_WORK, "Submit and follow fine-tuning jobs."),
    "model": _Entry(_WORK, "Registered models: versions, reports, aliases, files."),
    "endpoint": _Entry(_WORK, "Serve models."),
    "predict": _Entry(_WORK, "Classify texts with an endpoint."),
    "chat": _Entry(_WORK, "Talk to an endpoint."),
    "project": _Entry(_SHARE, "Projects: tenants with members and quota."),
    "member": _Entry(_SHARE, "Who may do what in a project."),
    "quota": _Entry(_SHARE, "A project's share of the pools."),
    "pool": _Entry(_SHARE, "Pools of accelerators."),
    "key": _Entry(_SHARE, "API keys."),
    "usage": _Entry(_SHARE, "What the project's jobs have used."),
    "completions": _Entry(_SHARE, "Print the completion script of a shell."),
}


class _Commands(TyperGroup):
    """Knows names and one-line helps; loads a command's module when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel) for name, entry in _COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command for the first argument."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in _COMMANDS else known, rest


def _load(name: str) -> Any:
    module = import_module("windlass.cli.commands." + name.replace("-", "_"))
    command = typer.main.get_command(module.app)
    command.name = name
    return command


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"windlass {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune models on GPUs that teams share, and serve them.

    Start with `windlass up`, then `windlass examples fetch reviews`.
    """
    del version


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return the exit code."""
    if COMPLETION_VARIABLE in os.environ:
        completion.completion_init()  # type: ignore[attr-defined]  # typer has no public name for it
    try:
        answer = typer.main.get_command(app).main(list(arguments), prog_name="windlass", standalone_mode=False)
    except WindlassError as error:
        failures.show(error)
        return failures.exit_code(error)
    except TimeoutError as error:
        failures.say(f"timed out: {lines(str(error))}")
        return failures.WAIT_TIMED_OUT
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return failures.INTERRUPTED
    return answer if isinstance(answer, int) else failures.OK


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if message:
        failures.say(f"error: {lines(message)}")
    if context is not None and message:
        failures.say(f"  hint: {context.command_path} --help")
    return failures.USAGE


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))
