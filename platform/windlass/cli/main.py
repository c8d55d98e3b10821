"""The ``windlass`` command. The module of a command is imported when the command is called."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer import completion
from typer.core import TyperCommand, TyperGroup

from windlass import __version__
from windlass.cli import errors
from windlass.cli.safe_text import lines
from windlass.domain.errors import WindlassError

COMPLETION_VARIABLE = "_WINDLASS_COMPLETE"
"""Set by the scripts of ``windlass completions`` when the shell requests completions."""


class _Entry(NamedTuple):
    panel: str
    help: str


_LOCAL_PANEL = "Local server"
_TRAIN_PANEL = "Train and serve"
_ADMIN_PANEL = "Projects and access"

_COMMANDS = {
    "up": _Entry(_LOCAL_PANEL, "Start the local server."),
    "down": _Entry(_LOCAL_PANEL, "Stop the local server."),
    "status": _Entry(_LOCAL_PANEL, "Show the server, your user and your role."),
    "open": _Entry(_LOCAL_PANEL, "Open the web console in a browser."),
    "doctor": _Entry(_LOCAL_PANEL, "Check this machine and the server, and suggest fixes."),
    "examples": _Entry(_TRAIN_PANEL, "Download example datasets and base models."),
    "dataset": _Entry(_TRAIN_PANEL, "Upload, validate and clean datasets."),
    "erasure": _Entry(_TRAIN_PANEL, "Erase data subjects from datasets, and prove it."),
    "base-model": _Entry(_TRAIN_PANEL, "Manage the base models from which jobs start."),
    "job": _Entry(_TRAIN_PANEL, "Submit and follow fine-tuning jobs."),
    "model": _Entry(_TRAIN_PANEL, "Manage registered models: versions, reports, aliases, files."),
    "endpoint": _Entry(_TRAIN_PANEL, "Serve models."),
    "predict": _Entry(_TRAIN_PANEL, "Classify texts with an endpoint."),
    "chat": _Entry(_TRAIN_PANEL, "Chat with an endpoint."),
    "project": _Entry(_ADMIN_PANEL, "Manage projects: tenants with members and quota."),
    "member": _Entry(_ADMIN_PANEL, "Manage the members of a project and their roles."),
    "quota": _Entry(_ADMIN_PANEL, "Show and set a project's quotas."),
    "pool": _Entry(_ADMIN_PANEL, "Manage pools of accelerators."),
    "login": _Entry(_ADMIN_PANEL, "Sign in at a server, or store an API key."),
    "logout": _Entry(_ADMIN_PANEL, "End the session, and remove the stored credential."),
    "session": _Entry(_ADMIN_PANEL, "List and end your sessions."),
    "key": _Entry(_ADMIN_PANEL, "Create, list, renew and revoke API keys."),
    "service-account": _Entry(_ADMIN_PANEL, "Manage the accounts of programs in a project."),
    "user": _Entry(_ADMIN_PANEL, "List, disable and enable users (platform admins)."),
    "usage": _Entry(_ADMIN_PANEL, "Show GPU time, cost, requests and tokens of a project."),
    "budget": _Entry(_ADMIN_PANEL, "Show and set what a project may use of GPUs in each month."),
    "pipeline": _Entry(_ADMIN_PANEL, "Write the compiled pipeline for Kubeflow Pipelines."),
    "audit": _Entry(_ADMIN_PANEL, "List, export and verify the audit log."),
    "completions": _Entry(_ADMIN_PANEL, "Print a shell completion script."),
}


class _Commands(TyperGroup):
    """Lists names and short helps without importing commands; imports a command when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel) for name, entry in _COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import and return the command that the first argument names."""
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


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"windlass {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune and serve models on shared GPUs.

    Start with `windlass up`, then `windlass examples fetch reviews`.
    """
    del version


def run(arguments: Sequence[str]) -> int:
    """Execute one command line and return the exit code."""
    if COMPLETION_VARIABLE in os.environ:
        completion.completion_init()  # type: ignore[attr-defined]  # typer has no public name for it
    try:
        result = typer.main.get_command(app).main(
            list(arguments), prog_name="windlass", standalone_mode=False, obj=tuple(arguments)
        )
    except WindlassError as error:
        errors.print_error(error)
        return errors.exit_code(error)
    except TimeoutError as error:
        errors.print_stderr(f"timed out: {lines(str(error))}")
        return errors.WAIT_TIMED_OUT
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return errors.INTERRUPTED
    return result if isinstance(result, int) else errors.OK


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if message:
        errors.print_stderr(f"error: {lines(message)}")
    if context is not None and message:
        errors.print_stderr(f"  hint: {context.command_path} --help")
    return errors.USAGE


def main() -> NoReturn:
    """Execute the command line of this process."""
    sys.exit(run(sys.argv[1:]))
