"""What all commands share: the connection, the output format, detaching on Ctrl-C."""

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property, wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console

from windlass.cli import api_errors, errors, render
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column, Output
from windlass.cli.safe_text import json_line, one_line
from windlass.domain.errors import UnavailableError, WindlassError

if TYPE_CHECKING:
    from windlass.sdk import Client

P = ParamSpec("P")
T = TypeVar("T", bound=BaseModel)

_PANEL = "Server and output"


class Session:
    """One invocation of the CLI."""

    def __init__(
        self,
        *,
        output: Output = Output.TABLE,
        project: str | None = None,
        server: str | None = None,
        key_file: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.output = output
        self.arguments = tuple(arguments)
        self._attach = ""
        self.project = project
        self.server = server
        self.key_file = key_file
        self.out = Console(highlight=False, markup=False, emoji=False)
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @cached_property
    def client(self) -> "Client":
        """The SDK client, created on first use."""
        from windlass.sdk import Client  # noqa: PLC0415 - the HTTP stack doubles the time of `--help`

        return Client(url=self.server, project=self.project, key_file=self.key_file)

    def explain_dead_server(self, error: UnavailableError) -> None:
        """Rewrite the error when the server of this machine, which wrote its URL into its folder, does not run."""
        from windlass.cli import local_server  # noqa: PLC0415 - needed on errors only
        from windlass.sdk.connection import default_home  # noqa: PLC0415 - as above

        connected = self.__dict__.get("client")
        if connected is None or connected.connection.source != "data directory" or error.request_id:
            return
        if local_server.read(default_home()) is None:
            error.message = f"no server runs: the one that used {default_home()} ended without `windlass down`"
            error.hint = "start it again: `windlass up --detach`" + (f"; {self._attach}" if self._attach else "")

    def close(self) -> None:
        """Close the client if it was created."""
        if "client" in self.__dict__:
            self.client.close()

    def command_line(self, *more: str) -> str:
        """Return the command of this invocation with more arguments, for a shell."""
        return shlex.join(["windlass", *self.arguments, *more])

    @property
    def connection_flags(self) -> str:
        """The flags of this invocation that select the project, the server and the key, for a shell."""
        flags = {"--project": self.project, "--server": self.server, "--key-file": self.key_file}
        return shlex.join(word for flag, value in flags.items() if value is not None for word in (flag, str(value)))

    def suggestion(self, command: str) -> str:
        """Return a command that acts on the same project, server and user as this invocation."""
        return f"{command} {self.connection_flags}".rstrip()

    @property
    def machine(self) -> bool:
        """Whether the output format is machine-readable."""
        return self.output not in {Output.TABLE, Output.WIDE}

    @property
    def live(self) -> bool:
        """Whether a live display can be drawn: both streams are terminals and the format is ``table``."""
        return self.out.is_terminal and self.err.is_terminal and not self.machine

    def list(self, items: Iterable[T], columns: Sequence[Column[T]], name: Callable[[T], str]) -> None:
        """Print a list of objects."""
        listed = [*items]
        if self.output is Output.NAME:
            self.names(map(name, listed))
        elif self.machine:
            render.document(self.output, render.plain(listed))
        elif listed:
            hidden = render.table(self.out, columns, listed, wide=self.output is Output.WIDE)
            if hidden:
                self.message(f"more columns with -o wide: {', '.join(hidden).lower()}")
        else:
            self.message("no results")

    def show(self, item: T, columns: Sequence[Column[T]], name: Callable[[T], str]) -> None:
        """Print one object."""
        if self.output is Output.NAME:
            self.names([name(item)])
        elif self.machine:
            render.document(self.output, render.plain(item))
        else:
            render.record(self.out, columns, item)

    def document(self, data: Any) -> None:
        """Print data as YAML with ``-o yaml``, else as JSON."""
        render.document(self.output, render.plain(data))

    def lines(self, items: Iterable[Any], limit: int | None) -> None:
        """Print objects as one document with ``-o json`` or ``-o yaml``, else as JSON lines."""
        limited = islice(items, limit)
        if self.output in {Output.JSON, Output.YAML}:
            self.document([*limited])
            return
        for item in limited:
            sys.stdout.write(json_line(item) + "\n")

    def names(self, names: Iterable[str]) -> None:
        """Print names, one per line."""
        for name in names:
            sys.stdout.write(one_line(name) + "\n")

    def write(self, text: str) -> None:
        """Print text unchanged and flush: a log, a streamed answer."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def message(self, text: str) -> None:
        """Print a message to standard error."""
        errors.print_stderr(text)

    @contextmanager
    def detach_on_interrupt(self, subject: str, command: str) -> Iterator[None]:
        """On Ctrl-C print the command that attaches again and exit 130; ``subject`` keeps running.

        When the server does not answer any more, the error has this command too.
        """
        try:
            yield
        except UnavailableError as error:
            if not error.request_id:  # nothing answered
                again = f"{subject} does not depend on this command; attach again with"
                error.hint = f"{again} `{command}`"
                self._attach = f"{again} `{self.suggestion(command)}`"
            raise
        except KeyboardInterrupt:
            self.message(f"\ndetached: {subject} keeps running. Attach again with: {self.suggestion(command)}")
            raise typer.Exit(errors.INTERRUPTED) from None


_COMMON = (
    (
        "output",
        Annotated[
            Output | None,
            typer.Option("--output", "-o", help="Output format.", rich_help_panel=_PANEL, show_default="table"),
        ],
        None,
    ),
    ("json", Annotated[bool, typer.Option("--json", help="Short for -o json.", rich_help_panel=_PANEL)], False),
    (
        "project",
        Annotated[
            str | None,
            typer.Option(
                "--project",
                "-p",
                help="Project; default: WINDLASS_PROJECT.",
                rich_help_panel=_PANEL,
                autocompletion=names_of("project"),
            ),
        ],
        None,
    ),
    (
        "server",
        Annotated[
            str | None,
            typer.Option("--server", help="URL of the server; default: WINDLASS_URL.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    (
        "key_file",
        Annotated[
            Path | None,
            typer.Option("--key-file", help="File with the API key; default: WINDLASS_KEY.", rich_help_panel=_PANEL),
        ],
        None,
    ),
)


def command(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Turn a function whose first parameter is the session into a command with the common options."""
    own = [*inspect.signature(function).parameters.values()][1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, annotation, default in _COMMON
    ]

    @wraps(function)
    def invoke(**values: Any) -> None:
        context: typer.Context = values.pop("context")
        output, json = values.pop("output"), values.pop("json")
        if json and output not in {None, Output.JSON}:
            raise typer.BadParameter(f"--json contradicts -o {output}")
        session = Session(
            output=Output.JSON if json else output or Output.TABLE,
            project=values.pop("project"),
            server=values.pop("server"),
            key_file=values.pop("key_file"),
            arguments=context.obj or (),
        )
        try:
            with closing(session):
                function(session, **values)  # type: ignore[call-arg]  # typer calls by name, see the signature below
            sys.stdout.flush()
        except WindlassError as error:
            api_errors.translate(error, context, session.connection_flags)
            if isinstance(error, UnavailableError):
                session.explain_dead_server(error)
            raise
        except BrokenPipeError:
            # The reader closed the pipe (`| head`). Redirect stdout, or the interpreter's final flush fails too.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None

    # Typer reads the parameters from __signature__; the function's own signature lacks the common options.
    del invoke.__wrapped__
    first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [first, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    invoke.__annotations__ = {p.name: p.annotation for p in parameters}
    return invoke


def command_group(help_text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False)
