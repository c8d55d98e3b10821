"""``windlass predict``: classify texts."""

import sys
from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, verb
from windlass.wire.base import Out
from windlass.wire.models import LabelScore

app = typer.Typer(add_completion=False)

_MOST = 1024


class _Line(Out):
    text: str
    labels: list[LabelScore]


_COLUMNS = (
    Column[_Line]("label", lambda line: line.labels[0].label if line.labels else None),
    Column[_Line]("score", lambda line: line.labels[0].score if line.labels else None),
    Column[_Line]("others", lambda line: {other.label: other.score for other in line.labels[1:]}),
    Column[_Line]("text", lambda line: line.text),
)


@app.command()
@verb
def predict(
    session: Session,
    endpoint: Annotated[str, typer.Argument()],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, one per line of stdin.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the best labels.")] = None,
) -> None:
    """Classify texts with an endpoint: labels with their probabilities."""
    if not texts and sys.stdin.isatty():
        raise typer.BadParameter("give a text, or pipe one text per line")
    inputs = texts or [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if not inputs:
        raise typer.BadParameter("no text")
    lines: list[_Line] = []
    for start in range(0, len(inputs), _MOST):
        batch = inputs[start : start + _MOST]
        answer = session.client.endpoints.predict(endpoint, batch, top_k=top_k)
        lines += [_Line(text=text, labels=labels) for text, labels in zip(batch, answer.predictions, strict=True)]
    session.list(lines, _COLUMNS, lambda line: line.labels[0].label if line.labels else "")
