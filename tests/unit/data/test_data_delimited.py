"""Delimited files are read as they were written: encoding, line ends, delimiter and quotes."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.data_requests import codes, error_codes, ingest, only_finding, output_rows

from windlass.dataset_files.dialects import detect_dialect
from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.opening import TextFile
from windlass.dataset_files.streams import Budget
from windlass.domain.ingest import Encoding, FileFormat, IngestOptions, Quoting

ROWS = [("first, sentence", "a"), ("zweiter \u20ac Satz", "b"), ("third one", "a")]
INTERNAL = [{"text": text, "label": label} for text, label in ROWS]


def lines(delimiter: str, *, quote: bool = True) -> list[str]:
    texts = [(f'"{text}"' if quote and delimiter in text else text, label) for text, label in ROWS]
    return [delimiter.join(pair) for pair in [("text", "label"), *texts]]


def text_of(delimiter: str = ",", end: str = "\n") -> str:
    return "".join(line + end for line in lines(delimiter))


READABLE: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "CR": ("rows.csv", text_of(end="\r").encode(), {}),
    "CR with LF in a quoted field": ("rows.csv", b'text,label\r"two\nlines",a\rsecond,b\rthird,a\r', {}),
    "UTF-16 with BOM": ("rows.csv", text_of(end="\r\n").encode("utf-16"), {}),
    "UTF-16LE": ("rows.csv", text_of().encode("utf-16-le"), {}),
    "UTF-16BE": ("rows.csv", text_of().encode("utf-16-be"), {}),
    "UTF-16 with option": ("rows.csv", text_of().encode("utf-16"), {"encoding": "utf-16"}),
    "UTF-16BE with option": ("rows.csv", text_of().encode("utf-16-be"), {"encoding": "utf-16"}),
    "UTF-16 of Excel": ("rows.tsv", text_of("\t", end="\r\n").encode("utf-16"), {}),
    "windows-1252": ("rows.csv", text_of().encode("cp1252"), {"encoding": "windows-1252"}),
    "alias of an encoding": ("rows.csv", text_of().encode("iso-8859-15"), {"encoding": "latin9"}),
    "UTF-8 BOM and option": ("rows.csv", text_of().encode("utf-8-sig"), {"encoding": "utf-8"}),
    "semicolon": ("rows.csv", text_of(";").encode(), {}),
    "semicolon of Excel": ("rows.csv", text_of(";", end="\r\n").encode("utf-8-sig"), {}),
    "sep line": ("rows.csv", ("sep=;\r\n" + text_of(";", end="\r\n")).encode(), {}),
    "sep line of a rare delimiter": ("rows.csv", ("sep=^\n" + text_of("^")).encode(), {}),
    "tab in .csv": ("rows.csv", text_of("\t").encode(), {}),
    "pipe": ("rows.csv", text_of("|").encode(), {}),
    "delimiter option": ("rows.csv", text_of("~").encode(), {"delimiter": "~"}),
    "delimiter option in .tsv": ("rows.tsv", text_of(";").encode(), {"delimiter": ";"}),
}


@pytest.mark.parametrize("case", READABLE)
def test_a_file_is_read_as_it_was_written(tmp_path: Path, case: str) -> None:
    name, content, options = READABLE[case]
    result = ingest(tmp_path, {name: content}, options=options)
    assert result.accepted, result.report.errors
    if case == "CR with LF in a quoted field":
        assert [row["text"] for row in output_rows(tmp_path)] == ["two\nlines", "second", "third"]
    else:
        assert output_rows(tmp_path) == INTERNAL


def test_the_report_states_how_each_file_was_read(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.csv": text_of(";").encode("utf-16"),
        "b.tsv": 'text\tlabel\nan \u201copen\u201d "quote\tc\n',
    }
    first, second = ingest(tmp_path, files).report.files
    assert (first.name, first.format, first.encoding, first.delimiter, first.quoting, first.rows) == (
        ("a.csv", FileFormat.CSV, Encoding.UTF_16LE, ";", Quoting.MINIMAL, 3)
    )
    assert (second.format, second.encoding, second.delimiter, second.quoting, second.rows) == (
        (FileFormat.TSV, Encoding.UTF_8, "\t", Quoting.NONE, 1)
    )


def test_quotes_are_ordinary_characters_in_tsv(tmp_path: Path) -> None:
    texts = ['"Cheap and nasty, says my aunt', "Crisp picture", 'The screen is only 40"', '"Never again" is all I say']
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in zip(texts, "abab", strict=True))
    result = ingest(tmp_path, {"rows.tsv": content})
    assert result.accepted, result.report.errors
    assert [row["text"] for row in output_rows(tmp_path)] == texts


QUOTED_TSV = {
    "pandas": ('text\tlabel\n"a ""quoted"" text"\tx\nplain\ty\n', 'a "quoted" text'),
    "line break": ('text\tlabel\n"two\nlines"\tx\nplain\ty\n', "two\nlines"),
    "quoted header": ('"text"\t"label"\n"plain"\t"x"\n"other"\t"y"\n', "plain"),
    "Excel": ('text\tlabel\n"one, two"\tx\nplain\ty\n', "one, two"),
}


@pytest.mark.parametrize("case", QUOTED_TSV)
def test_quotes_count_in_tsv_that_was_written_with_quotes(tmp_path: Path, case: str) -> None:
    content, text = QUOTED_TSV[case]
    result = ingest(tmp_path, {"rows.tsv": content})
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path)[0] == {"text": text, "label": "x"}
    assert result.report.files[0].quoting is Quoting.MINIMAL


def test_the_option_quoting_overrides_the_detection(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a ""b"""\tx\nplain\ty\n'
    ingest(tmp_path, {"rows.tsv": content}, options={"quoting": "none"})
    assert output_rows(tmp_path)[0]["text"] == '"a ""b"""'
    ingest(tmp_path, {"rows.csv": 'text,label\n"open,x\nplain"s,y\n'}, options={"quoting": "none"})
    assert [row["text"] for row in output_rows(tmp_path)] == ['"open', 'plain"s']


def test_rows_that_span_lines_are_counted(tmp_path: Path) -> None:
    content = 'text,label\nplain,a\n"two\nlines",b\n"three\nshort\nlines",b\n"one, two\nthree",a\n'
    result = ingest(tmp_path, {"rows.csv": content})
    assert result.accepted
    finding = only_finding(result, "multi-line-rows")
    assert (finding.severity, finding.line, finding.count) == ("info", 3, 3)
    assert "merged-lines" not in codes(result)


MERGED = {
    "three rows": ('text,label\nplain,a\n"Cheap and nasty,b\nCrisp picture,a\nonly 40",b\nlast,b\n', 3),
    "two rows": ('text,label\nplain,a\n"Cheap and nasty,a\nonly 40",b\nlast,b\n', 2),
    "with commas": ('text,label\nplain,a\nother,b\n"Cheap, nasty,b\n""So, so"",a\nonly 40",b\n', 3),
    "labels first": ('label,text\na,plain\nb,"Cheap\na,only 40"\nb,last\n', 2),
}


@pytest.mark.parametrize("case", MERGED)
def test_lines_that_an_open_quote_merges_are_a_warning(tmp_path: Path, case: str) -> None:
    content, lines = MERGED[case]
    result = ingest(tmp_path, {"rows.csv": content})
    finding = only_finding(result, "merged-lines")
    opened = next(number for number, line in enumerate(content.splitlines(), 1) if '"' in line)
    assert (finding.severity, finding.line) == ("warning", opened)
    assert finding.message.startswith(f"{lines} lines were read as one row")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b'text,label\na,x\n"b"c,y\n', "broken-quotes", "a quoted field is followed by other characters"),
        (b'text,label\na,x\n"never closed,y\n', "broken-quotes", "the file ends inside a quoted field"),
        (b'text,label\na,x\n"never closed,y', "truncated-file", "the file ends inside a quoted field"),
        (b"text,label\na,x\nb\rc,y\n", "stray-carriage-return", "the row contains a carriage return outside of quotes"),
    ],
)
def test_a_parse_error_names_its_cause(tmp_path: Path, content: bytes, code: str, message: str) -> None:
    finding = only_finding(ingest(tmp_path, {"rows.csv": content}), code)
    assert finding.message.startswith(message)
    assert finding.line == 3


def test_bytes_that_are_not_in_the_encoding_are_reported_by_line(tmp_path: Path) -> None:
    finding = only_finding(ingest(tmp_path, {"rows.csv": b"text,label\ncaf\xe9,a\nb,b\n"}), "not-utf-8")
    assert (finding.line, finding.message) == (2, "byte 4 of the line is not valid UTF-8")
    assert "windows-1252" in finding.action
    content = b"text,label\na \x81,a\nb,b\n"
    finding = only_finding(ingest(tmp_path, {"rows.csv": content}, options={"encoding": "cp1252"}), "wrong-encoding")
    assert (finding.line, finding.message) == (2, "byte 3 of the line is not valid WINDOWS-1252")


def test_half_of_a_surrogate_pair_in_utf_16_is_reported_by_line(tmp_path: Path) -> None:
    content = b"\xff\xfe" + "text,label\n".encode("utf-16-le") + b"\x3d\xd8" + ",a\nb,b\n".encode("utf-16-le")
    assert only_finding(ingest(tmp_path, {"rows.csv": content}), "wrong-encoding").line == 2
    assert error_codes(ingest(tmp_path, {"rows.csv": text_of().encode("utf-16")[:-1]})) == {"truncated-file"}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("UTF-8", Encoding.UTF_8),
        ("utf8", Encoding.UTF_8),
        ("utf-8-sig", Encoding.UTF_8),
        ("UTF-16LE", Encoding.UTF_16LE),
        ("utf_16_be", Encoding.UTF_16BE),
        ("latin-1", Encoding.ISO_8859_1),
        ("ISO 8859-1", Encoding.ISO_8859_1),
        ("latin9", Encoding.ISO_8859_15),
        ("cp1252", Encoding.WINDOWS_1252),
        ("mac-roman", Encoding.MACINTOSH),
        ("sjis", Encoding.SHIFT_JIS),
    ],
)
def test_encodings_have_other_names(name: str, encoding: Encoding) -> None:
    assert Encoding(name) is encoding


@pytest.mark.parametrize("encoding", Encoding)
def test_every_encoding_decodes(encoding: Encoding) -> None:
    assert "text,label\n".encode(encoding).decode(encoding) == "text,label\n"


@pytest.mark.parametrize("name", ["", "utf-9", "rot13", "zlib_codec", "\0", "../idna", "undefined"])
def test_an_unknown_encoding_is_rejected_without_a_search(name: str) -> None:
    modules = {*sys.modules}
    with pytest.raises(ValueError, match="is not a valid Encoding"):
        Encoding(name)
    assert {*sys.modules} == modules


def test_an_encoding_that_contradicts_the_byte_order_mark_is_rejected(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": text_of().encode("utf-8-sig")}, options={"encoding": "cp1252"})
    assert only_finding(result, "wrong-encoding").message == (
        "the file begins with the byte order mark of utf-8, the option encoding is windows-1252"
    )


@pytest.mark.parametrize(
    ("sample", "delimiter"),
    [
        ("text,label\nwith; one,a\nwith; two,b\n", ","),
        ("text;label\n1,5 and 2,5;a\n3,5 and 4,5;b\n", ";"),
        ('id;"text, as typed";label\n1;one, two;a\n2;three;b\n', ";"),
        ("text|label\na, b|x\nc|y\n", "|"),
        ("text\na; b\nc, d\n", ","),
        ("text;note,label\n", ","),
        ("", ","),
    ],
)
def test_the_delimiter_is_the_one_that_gives_every_row_the_same_width(sample: str, delimiter: str) -> None:
    assert detect_dialect(sample, IngestOptions(), complete=True, default=None).delimiter == delimiter


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    str.strip
)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(fields, fields), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|", "~"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    quote_all=st.booleans(),
)
def test_what_a_csv_writer_wrote_is_read_again(
    rows: list[tuple[str, str]], delimiter: str, end: str, encoding: str, *, quote_all: bool
) -> None:
    if not quote_all:  # the writer does not quote a lone CR
        rows = [(text.replace("\r", "-"), label.replace("\r", "-")) for text, label in rows]
    written = io.StringIO(newline="")
    writer = csv.writer(
        written,
        delimiter=delimiter,
        lineterminator=end,
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    )
    writer.writerows([("text", "label"), *rows])
    options = IngestOptions(delimiter=delimiter, quoting=Quoting.MINIMAL)
    stream = io.BytesIO(written.getvalue().encode(encoding))
    findings = Findings()
    file = TextFile("rows.csv", stream, options, Budget(1 << 20, 1000, 1 << 20))
    table = file.open(FileFormat.CSV, FileFindings(findings, "rows.csv"))
    read = [(record["text"], record["label"]) for _, record in table.read(frozenset())]
    assert not findings.rejected
    assert read == rows


def test_a_cut_sample_ends_with_its_last_whole_line() -> None:
    sample = "text;label,x\na;b,c\nd;e,f\ng"
    assert detect_dialect(sample, IngestOptions(), complete=False, default=None).delimiter == ","


@pytest.mark.parametrize(
    "content",
    ["great phone,good\nbad one,bad\nok,good\n", "a sentence of seven words or more,good\nsecond,bad\n"],
)
def test_a_file_without_header_is_rejected_without_its_content(tmp_path: Path, content: str) -> None:
    result = ingest(tmp_path, {"rows.csv": content})
    finding = only_finding(result, "no-header")
    assert finding.message == (
        "the file has no columns text (for text), label (for label); its first row looks like data"
    )
    assert "good" not in result.model_dump_json()
    chat = ingest(tmp_path, {"rows.csv": content}, task="chat")
    assert error_codes(chat) == {"no-header"}


def test_a_file_without_header_is_read_by_the_numbers_of_its_columns(tmp_path: Path) -> None:
    options = {"header": False, "columns": {"text": "2", "label": "1"}}
    result = ingest(tmp_path, {"rows.tsv": "a\tfirst\nb\tsecond\n"}, options=options)
    assert result.accepted, result.report.errors
    assert output_rows(tmp_path) == [{"text": "first", "label": "a"}, {"text": "second", "label": "b"}]
    unmapped = ingest(tmp_path, {"rows.tsv": "a\tfirst\nb\tsecond\n"}, options={"header": False})
    assert only_finding(unmapped, "unknown-column").message.endswith("it has: 1, 2")


def test_all_missing_columns_are_reported_at_once(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": "id,body,queue\n1,x,y\n"})
    assert only_finding(result, "unknown-column").message == (
        "the file has no columns text (for text), label (for label); it has: id, body, queue"
    )


def test_a_column_name_with_a_comma_is_shown_in_quotes(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": 'id,"text, as typed",label\n0,x,a\n'})
    assert only_finding(result, "unknown-column").message.endswith('it has: id, "text, as typed", label')


def test_a_column_without_a_name_is_shown(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.csv": ",text,label\n0,x,a\n1,y,b\n"})
    assert only_finding(result, "columns-ignored").message == "unused columns: (no name)"
