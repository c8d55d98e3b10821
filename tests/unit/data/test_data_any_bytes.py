"""Any content of a file gives rows, findings or an ``UnreadableError``, within the limits."""

import gzip
import io
import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.opening import TextFile
from windlass.dataset_files.schema_detection import detect_schema
from windlass.dataset_files.streams import Budget, UnreadableError
from windlass.domain.ingest import Encoding, FileFormat, IngestOptions, Quoting
from windlass.domain.specs import Task

ROWS = [{"text": f'a "quoted" text, {number}', "label": "ab"[number % 2]} for number in range(4)]
SAMPLES = [
    json.dumps(ROWS).encode(),
    json.dumps(ROWS, indent=1).encode("utf-16"),
    "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    b'text,label\n"a ""b""\nc",x\nplain,y\n',
    b"sep=;\r\ntext;label\r\na;b\r\n",
    b'text\tlabel\r"open\ta\rb"\tc\r',
    gzip.compress(b"text|label\na|b\n"),
]
fragments = st.sampled_from(
    [b'"', b"\r", b"\n", b"\t", b";", b",", b"|", b"\0", b"\xff", b"\\", b"{", b"]", b"\xef\xbb\xbf"]
)
edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), fragments), max_size=4)


def edited(content: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for position, deleted, inserted in changes:
        content = content[:position] + inserted + content[position + deleted :]
    return content


@settings(max_examples=300, deadline=None)
@given(
    content=st.builds(edited, st.sampled_from(SAMPLES), edits) | st.binary(max_size=60),
    suffix=st.sampled_from(["", ".gz"]),
    file_format=st.sampled_from([FileFormat.CSV, FileFormat.TSV, FileFormat.JSON, FileFormat.JSONL]),
    options=st.builds(
        IngestOptions,
        encoding=st.none() | st.sampled_from(Encoding),
        quoting=st.none() | st.sampled_from(Quoting),
        delimiter=st.none() | st.sampled_from([";", "\t", "\u00a6"]),
    ),
    task=st.sampled_from(Task),
)
def test_any_content_is_read_or_reported(
    content: bytes, suffix: str, file_format: FileFormat, options: IngestOptions, task: Task
) -> None:
    findings = Findings()
    file = TextFile(f"rows{suffix}", io.BytesIO(content), options, Budget(10_000, 1000, 500))
    lines: list[int] = []
    with suppress(UnreadableError):
        table = file.open(file_format, FileFindings(findings, "rows"))
        lines += (line for line, _ in table.read(frozenset(table.columns)))
        detect_schema(task, options.row_format, options.columns, table)
    assert lines == sorted(lines)
