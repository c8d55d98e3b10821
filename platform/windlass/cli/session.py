"""What every verb shares: where the server is, how to print, how Ctrl-C leaves."""

import inspect
import os
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

from windlass.cli import failures, render
from windlass.cli.render import Column, Output
from windlass.cli.safe_text import json_line, one_line

if TYPE_CHECKING:
    from windlass.sdk import Client

P = ParamSpec("P")
T = TypeVar("T", bound=BaseModel)

_PANEL = "Server and output"


class Session:
    """One call of the CLI."""

    def __init__(
        self,
        *,
        output: Output = Output.TABLE,
        project: str | None = None,
        server: str | None = None,
        key_file: Path | None = None,
    ) -> None:
        self.output = output
        self.project = project
        self.server = server
        self.key_file = key_file
        self.out = Console(highlight=False, markup=False, emoji=False)
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @cached_property
    def client(self) -> "Client":
        """The client, made when first asked for."""
        from windlass.sdk import Client  # noqa: PLC0415 - the HTTP stack doubles the time of `--help`

        return Client(url=self.server, project=self.project, key_file=self.key_file)

    def close(self) -> None:
        """Close the client's connections, if there is one."""
        if "client" in self.__dict__:
            self.client.close()

    @property
    def machine(self) -> bool:
        """Whether standard output is for a program."""
        return self.output is not Output.TABLE

    @property
    def live(self) -> bool:
        """Whether a moving display may be drawn: both streams are a terminal and nothing is read by a program."""
        return self.out.is_terminal and self.err.is_terminal and not self.machine

    def list(self, items: Iterable[T], columns: Sequence[Column[T]], name: Callable[[T], str]) -> None:
        """Print a list."""
        found = [*items]
        if self.output is Output.NAME:
            self.names(map(name, found))
        elif self.machine:
            render.document(self.output, render.plain(found))
        elif found:
            render.table(self.out, columns, found)
        else:
            self.say("nothing found")

    def show(self, item: T, columns: Sequence[Column[T]], name: Callable[[T], str]) -> None:
        """Print one object."""
        if self.output is Output.NAME:
            self.names([name(item)])
        elif self.machine:
            render.document(self.output, render.plain(item))
        else:
            render.record(self.out, columns, item)

    def document(self, data: Any) -> None:
        """Print plain data: YAML when asked for, else JSON."""
        render.document(self.output, render.plain(data))

    def lines(self, items: Iterable[Any], limit: int | None) -> None:
        """Print plain objects: JSON lines, or one document when asked for."""
        found = islice(items, limit)
        if self.output in {Output.JSON, Output.YAML}:
            self.document([*found])
            return
        for item in found:
            sys.stdout.write(json_line(item) + "\n")

    def names(self, names: Iterable[str]) -> None:
        """Print names, one a line."""
        for name in names:
            sys.stdout.write(one_line(name) + "\n")

    def write(self, text: str) -> None:
        """Print text as it is, at once: a log, an answer in pieces."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Print chatter, to standard error."""
        failures.say(text)

    @contextmanager
    def detaching(self, subject: str, command: str) -> Iterator[None]:
        """Let Ctrl-C leave what is watched alone: say how to return, exit 130."""
        try:
            yield
        except KeyboardInterrupt:
            self.say(f"\ndetached: {subject} goes on. Return with: {command}")
            raise typer.Exit(failures.INTERRUPTED) from None


_COMMON = (
    (
        "output",
        Annotated[
            Output | None,
            typer.Option("--output", "-o", help="What to print.", rich_help_panel=_PANEL, show_default="table"),
        ],
        None,
    ),
    ("json", Annotated[bool, typer.Option("--json", help="The same as -o json.", rich_help_panel=_PANEL)], False),
    (
        "project",
        Annotated[
            str | None,
            typer.Option("--project", "-p", help="The project; else WINDLASS_PROJECT.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    (
        "server",
        Annotated[
            str | None,
            typer.Option("--server", help="URL of the server; else WINDLASS_URL.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    (
        "key_file",
        Annotated[
            Path | None,
            typer.Option("--key-file", help="File with the API key; else WINDLASS_KEY.", rich_help_panel=_PANEL),
        ],
        None,
    ),
)


def verb(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Make a command of a function whose first parameter is the session: adds the options that all verbs have."""
    own = [*inspect.signature(function).parameters.values()][1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, annotation, default in _COMMON
    ]

    @wraps(function)
    def command(**values: Any) -> None:
        output, json = values.pop("output"), values.pop("json")
        if json and output not in {None, Output.JSON}:
            raise typer.BadParameter(f"--json contradicts -o {output}")
        session = Session(
            output=Output.JSON if json else output or Output.TABLE,
            project=values.pop("project"),
            server=values.pop("server"),
            key_file=values.pop("key_file"),
        )
        try:
            with closing(session):
                function(session, **values)  # type: ignore[call-arg]  # typer calls by name, as the signature below says
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has left (`| head`): nothing more to say, also not when the interpreter ends.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None

    # Typer reads the parameters from here; the original's would lack the common ones.
    del command.__wrapped__
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def noun(help_text: str) -> typer.Typer:
    """Return the group of a noun's verbs."""
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False)
