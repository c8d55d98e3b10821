"""``windlass dataset upload``: options, and errors that are found before anything is sent."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Windlass

from windlass.cli.session import Session
from windlass.cli.upload_options import UploadOptions, as_flags
from windlass.domain.errors import InvalidError
from windlass.domain.ingest import FileFormat, Quoting
from windlass.domain.specs import Task

DEFAULTS: dict[str, Any] = {
    "name": "tickets",
    "files": ("a.csv",),
    "task": None,
    "column": (),
    "file_format": None,
    "encoding": None,
    "delimiter": None,
    "quoting": None,
    "no_header": False,
    "row_format": None,
    "allow_overlap": False,
    "skip_unsupported": False,
    "validation_fraction": None,
    "resume": None,
}


def upload_options(**changes: Any) -> UploadOptions:
    return UploadOptions(**{**DEFAULTS, **changes})


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "my tickets.csv"
    path.write_text("ticket id;Text;queue\n" + "".join(f"{n};body {n};queue {n % 2}\n" for n in range(20)))
    return path


def test_missing_columns_are_an_error_with_the_complete_command(cli: Windlass, tickets: Path) -> None:
    sent = cli("dataset", "upload", "tickets", str(tickets), "--task", "text-classification", "-p", "default")
    assert sent.code == 2
    assert "no columns text (for text), label (for label); it has: ticket id, Text, queue" in sent.err
    hint = sent.err.partition("map the fields to columns: ")[2]
    assert shlex.split(hint) == [
        *("windlass", "dataset", "upload", "tickets", str(tickets), "--task", "text-classification"),
        *("--project", "default", "--column", "text=Text", "--column", "label=COLUMN"),
    ]
    assert cli("dataset", "list", "-o", "name").out.split() == ["reviews"]
    again = cli(*(word.replace("COLUMN", "queue") for word in shlex.split(hint)[1:]), "--no-wait", "-o", "name")
    assert (again.code, again.out) == (0, "tickets@1\n"), again.err


def test_a_wrong_column_is_replaced_in_the_command(cli: Windlass, tickets: Path) -> None:
    columns = ("--column", "text=Text", "--column", "label=Queue")
    sent = cli("dataset", "upload", "tickets", str(tickets), "--task", "text-classification", *columns)
    assert sent.err.rstrip().endswith("--column text=Text --column label=COLUMN")


def test_the_hint_fits_the_cause(cli: Windlass, tmp_path: Path) -> None:
    contents = {
        "headless.csv": "great phone,good\nawful,bad\nfine,good\n",
        "other.tsv": "text;label\na;b\n",
        "export.json": '[{"annotations": [], "data": {}}]',
        "sheet.xlsx": "PK",
    }
    hints = {}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        sent = cli("dataset", "upload", "tickets", str(tmp_path / name), "--task", "text-classification")
        hints[name] = sent.err.partition("hint: ")[2].strip()
    assert hints["headless.csv"].startswith(
        "write the column names in the first row, or map the fields to the numbers of columns (from 1): windlass"
    )
    assert hints["headless.csv"].endswith("--no-header --column text=COLUMN --column label=COLUMN")
    assert hints["other.tsv"] == "the header seems to be delimited by ';': set --delimiter"
    assert hints["export.json"].endswith("export it as JSON-MIN or CSV")
    assert hints["sheet.xlsx"] == "save the sheet as CSV"


def test_the_task_of_an_existing_dataset_is_the_default(cli: Windlass, tickets: Path) -> None:
    columns = ("--column", "text=Text", "--column", "label=queue")
    new = cli("dataset", "upload", "tickets", str(tickets), *columns)
    assert (new.code, "dataset tickets does not exist" in new.err) == (2, True)
    assert cli("dataset", "create", "tickets", "--task", "text-classification").code == 0
    sent = cli("dataset", "upload", "tickets", str(tickets), *columns, "--no-wait", "-o", "name")
    assert (sent.code, sent.out) == (0, "tickets@1\n"), sent.err


def test_an_encoding_error_names_the_flag(cli: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("text,label\ncaf\xe9,a\nb,b\n".encode("cp1252"))
    arguments = ("dataset", "upload", "cafe", str(file), "--task", "text-classification", "--no-wait")
    sent = cli(*arguments)
    assert sent.code == 2
    assert "a.csv, line 2: byte 4 of the line is not valid UTF-8" in sent.err
    assert "or set --encoding, for example to windows-1252" in sent.err
    assert cli(*arguments, "--encoding", "cp1252").code == 0
    shown = cli("dataset", "show", "cafe@1")
    assert "encoding=windows-1252" in shown.out


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("semicolon", ";"), ("Tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("|", "|"), ("\u00a6", "\u00a6")],
)
def test_delimiters_have_names(text: str, delimiter: str) -> None:
    assert upload_options(delimiter=text).ingest_options().delimiter == delimiter


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"delimiter": text}, "--delimiter") for text in ("", ";;", "a", "7", '"', " ", "\n", ";\n", "\x00")),
        *(({"encoding": text}, "--encoding") for text in ("", "utf-9", "rot13", "\0")),
        *(({"column": (text,)}, "--column") for text in ("text", "=a", "text=", "Text=a", "a b=c")),
    ],
)
def test_an_invalid_option_names_its_flag(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        upload_options(**changes).ingest_options()


def test_a_prefix_sets_the_split_unless_only_the_whole_path_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train=2026/part.csv", "split=train/part.csv", "part.csv", "both.csv", "test=both.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    names = ("train=2026/part.csv", "split=train/part.csv", "train=part.csv", "test=both.csv", "test=missing.csv")
    sources = upload_options(files=names).sources()
    assert [(str(source.path), source.split) for source in sources] == [
        ("train=2026/part.csv", None),
        ("split=train/part.csv", None),
        ("part.csv", "train"),
        ("both.csv", "test"),
        ("missing.csv", "test"),
    ]


def test_the_command_contains_every_option() -> None:
    options = upload_options(
        files=("a b.csv",),
        task=Task.CHAT,
        column=("prompt=q",),
        file_format=FileFormat.CSV,
        encoding="latin-1",
        delimiter=";",
        quoting=Quoting.NONE,
        allow_overlap=True,
        resume="up_1",
    )
    assert options.command(Session(project="team-a", server="http://localhost:1"), "--no-wait") == (
        "windlass dataset upload tickets 'a b.csv' --task chat --column prompt=q --file-format csv --encoding latin-1"
        " --delimiter ';' --quoting none --allow-overlap --resume up_1 --project team-a --server http://localhost:1"
        " --no-wait"
    )


def test_options_of_the_api_are_shown_as_flags() -> None:
    assert as_flags("or set the option header to false") == "or set --no-header"
    assert as_flags("set the option file_format, or leave out the option encoding") == (
        "set --file-format, or leave out --encoding"
    )


@pytest.mark.parametrize(("fraction", "sent"), [(None, 0.2), (0.0, 0.0), (0.3, 0.3)])
def test_the_fraction_to_hold_out_is_sent(fraction: float | None, sent: float) -> None:
    options = upload_options(validation_fraction=fraction)
    assert options.ingest_options().validation_fraction == sent
