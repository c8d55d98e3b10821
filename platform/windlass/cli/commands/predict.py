"""``windlass predict``: classify texts, or the texts of a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import errors, score_file
from windlass.cli.record_files import ReadOptions, open_record_file
from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.cli.text_input import TextCommand, read_stdin, reject_file_names
from windlass.cli.upload_options import parse_delimiter, parse_encoding
from windlass.domain.errors import InvalidError
from windlass.domain.specs import Task
from windlass.wire.base import Out
from windlass.wire.models import LabelScore

app = typer.Typer(add_completion=False)

_FILE = "Score a file"
_MAX_TOP_K = 100


class _Row(Out):
    text: str
    labels: list[LabelScore]
    truncated: bool = False
    model: str


_COLUMNS = (
    Column[_Row]("label", lambda row: row.labels[0].label),
    Column[_Row]("score", lambda row: row.labels[0].score),
    Column[_Row]("others", lambda row: {other.label: other.score for other in row.labels[1:]}),
    Column[_Row]("text", lambda row: row.text),
)

TopK = Annotated[
    int | None,
    typer.Option(min=1, max=_MAX_TOP_K, help="Number of labels, best first.", show_default="all; of a file: 1"),
]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="CSV, TSV, JSON or Parquet file to score.", rich_help_panel=_FILE),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--column", help="Column of the texts: text=COLUMN.", rich_help_panel=_FILE, show_default="text"),
]
OutFile = Annotated[
    str, typer.Option("--out", help="Output file; the same command continues it. -: stdout.", rich_help_panel=_FILE)
]
EscapeFormulas = Annotated[
    bool,
    typer.Option(help="In CSV, write a quote before cells that a spreadsheet would calculate.", rich_help_panel=_FILE),
]


@app.command(cls=TextCommand)
@command
def predict(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    endpoint: Annotated[str, typer.Argument()],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; default: one per line of stdin.")] = None,
    top_k: TopK = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of stdin or of the file. Default: UTF-8; of a file also UTF-16.")
    ] = None,
    file: File = None,
    column: TextColumn = None,
    out: OutFile = "-",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.", rich_help_panel=_FILE)
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Score all records again after an interruption.", rich_help_panel=_FILE)
    ] = False,
    prefix: Annotated[str, typer.Option(help="Prefix of the added columns.", rich_help_panel=_FILE)] = "prediction",
    delimiter: Annotated[
        str | None, typer.Option(help="Delimiter of a CSV or TSV file.", rich_help_panel=_FILE, show_default="detected")
    ] = None,
    escape_formulas: EscapeFormulas = True,
) -> None:
    """Classify texts with an endpoint; prints labels with their probabilities, one row per text or line.

    With --file, the records of a file are written in their order with added columns for the prediction.
    """
    if file is None:
        _print_predictions(session, endpoint, texts, top_k, encoding or "utf-8")
        return
    if texts:
        raise typer.BadParameter("give texts or --file, not both")
    if session.machine:
        raise typer.BadParameter("the output of --file has the format of the file; -o and --json do not apply")
    options = ReadOptions(
        _column(column),
        parse_encoding(encoding) if encoding else None,
        parse_delimiter(delimiter) if delimiter else None,
        escape_formulas,
    )
    added = score_file.added_fields(prefix, top_k or 1)
    target = None if out == "-" else Path(out)
    source = open_record_file(file, options, added)
    if target is not None:
        score_file.check_target(source, target, overwrite=overwrite)
    counts = score_file.check(source)
    for warning in source.warnings:
        session.message(f"warning: {warning}")
    _check_endpoint(session, endpoint)
    scorer = score_file.Scorer(session, endpoint, source, top_k or 1)
    output = (
        score_file.standard_output(source)
        if target is None
        else score_file.partial_output(source, target, restart=restart)
    )
    try:
        with output as opened:
            if opened.records:
                session.message(f"continuing after {opened.records:,} of {counts.records:,} records")
            scorer.run(opened, counts.records)
    except KeyboardInterrupt:
        again = "" if target is None else "; the same command continues"
        session.message(f"\nstopped after {scorer.scored:,} records{again}")
        raise typer.Exit(errors.INTERRUPTED) from None
    session.message(score_file.summary(counts, scorer))


def _print_predictions(
    session: Session, endpoint: str, texts: list[str] | None, top_k: int | None, encoding: str
) -> None:
    if not texts and sys.stdin.isatty():
        raise typer.BadParameter("give a text, pipe one text per line, or score a file with --file")
    reject_file_names(texts or (), "score it with --file {file}, or pipe a text of this name to stdin")
    inputs = texts or _lines(read_stdin(encoding=encoding, hint="name its encoding, for example --encoding latin-1"))
    if not inputs:
        raise typer.BadParameter("no texts")
    predictions = session.client.endpoints.predict(endpoint, inputs, top_k=top_k)
    rows = [
        _Row(text=text, labels=list(item.labels), truncated=item.truncated, model=item.model)
        for text, item in zip(inputs, predictions, strict=True)
    ]
    truncated = sum(row.truncated for row in rows)
    if truncated:
        session.message(
            f"{truncated} of {len(rows)} texts exceed the length that the model was trained on; "
            "it read only their beginnings"
        )
    session.list(rows, _COLUMNS, lambda row: row.labels[0].label)


def _check_endpoint(session: Session, name: str) -> None:
    endpoint = session.client.endpoints.get(name)
    if endpoint.task is not Task.TEXT_CLASSIFICATION:
        raise InvalidError(f"endpoint {name} has task {endpoint.task}, --file needs {Task.TEXT_CLASSIFICATION}")


def _column(option: str | None) -> str | None:
    """Return the column of ``text=COLUMN``, as in ``windlass dataset upload``, or of ``COLUMN``."""
    return None if option is None else option.removeprefix("text=")


def _lines(text: str) -> list[str]:
    """Return the lines of a text; an empty line is a text of its own."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]
