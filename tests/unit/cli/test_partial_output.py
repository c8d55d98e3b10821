"""An output that ends at any byte is continued to the same bytes as one that was never interrupted."""

import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from windlass.cli.record_files import ReadOptions, open_record_file
from windlass.cli.score_file import added_fields, partial_output

ADDED = added_fields("prediction", 1)
CELLS = st.text(st.sampled_from("ab,;\"'\n =-{}[]\\é€😀"), max_size=12)
LABELS = st.text(st.sampled_from('ab,"\n}]='), min_size=1, max_size=4)


def write(folder: Path, suffix: str, rows: list[tuple[str, str]]) -> Path:
    path = folder / f"in{suffix}"
    if suffix == ".csv":
        lines = [",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in rows]
        path.write_text("\n".join(["text,other", *lines, ""]), "utf-8")
    elif suffix == ".tsv":
        lines = ["\t".join(cell.replace("\n", " ") for cell in row) for row in rows]
        path.write_text("\n".join(["text\tother", *lines, ""]), "utf-8")
    elif suffix == ".jsonl":
        lines = [json.dumps({"text": text, "other": other}) if text else "" for text, other in rows]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    else:
        path.write_text(json.dumps([{"text": text, "other": other} for text, other in rows]), "utf-8")
    return path


def score(source: Path, target: Path, label: str) -> int:
    """Write the output without an endpoint; return the number of records that it had before."""
    records = open_record_file(source, ReadOptions(), ADDED)
    with partial_output(records, target, restart=False) as output:
        for record in islice(records.records(), output.records, None):
            values: list[Any] = [None] * 4 if record.text is None else [label, 0.5, False, "m@1"]
            output.stream.write(records.output(record, values))
    return output.records


@settings(deadline=None)  # tests must pass on a slow machine
@given(
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]),
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=5),
    label=LABELS,
    cut=st.floats(0, 1),
)
@example(suffix=".csv", rows=[("a", "b")], label="\n", cut=0.85)  # the line break of a quoted field is the last byte
@example(suffix=".json", rows=[("a", "b"), ("c", "d")], label="a,", cut=0.5)
def test_an_output_that_ends_at_any_byte_is_continued(
    suffix: str, rows: list[tuple[str, str]], label: str, cut: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write(folder, suffix, rows)
        whole, target = folder / f"whole{suffix}", folder / f"out{suffix}"
        assert score(source, whole, label) == 0
        content = whole.read_bytes()
        partial = folder / f"out{suffix}.partial"
        partial.write_bytes(content[: round(cut * len(content))])
        assert score(source, target, label) <= len(rows)
        assert target.read_bytes() == content, (suffix, rows, label, cut)
        assert not partial.exists()


def test_a_whole_record_is_not_scored_again(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl", ".json"):
        source = write(tmp_path, suffix, [('a"\n', "x"), ("b", "y"), ("c", "z")])
        whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
        score(source, whole, "a\nb")
        content = whole.read_bytes()
        (tmp_path / f"out{suffix}.partial").write_bytes(content[: content.index(b"m@1", content.index(b"m@1") + 1) + 6])
        assert score(source, target, "a\nb") == 2
