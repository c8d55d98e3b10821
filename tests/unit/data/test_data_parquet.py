"""Names of classes that Hugging Face datasets store in the metadata of Parquet files."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.data.data_requests import error_codes, ingest, only_finding, output_rows

from windlass.domain.datasets import Split


def labelled(labels: Sequence[int | str | None], metadata: Any, kind: pa.DataType | None = None) -> bytes:
    """Write a file as ``Dataset.to_parquet`` does."""
    texts = [f"text {number}" for number in range(len(labels))]
    table = pa.table({"text": texts, "label": pa.array(labels, kind or pa.int64())})
    table = table.replace_schema_metadata(
        {"huggingface": metadata if isinstance(metadata, str) else json.dumps(metadata)}
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def features(names: Any) -> dict[str, Any]:
    text = {"dtype": "string", "_type": "Value"}
    return {"info": {"features": {"text": text, "label": {"names": names, "_type": "ClassLabel"}}}}


def test_labels_are_the_names_of_their_classes(tmp_path: Path) -> None:
    content = labelled([0, 2, 1, 0, None, -1], features(["negative", "neutral", "positive"]))
    result = ingest(tmp_path, {"rows.parquet": content})
    assert result.accepted, result.report.errors
    assert [row["label"] for row in output_rows(tmp_path)] == [
        "negative",
        "positive",
        "neutral",
        "negative",
        None,
        None,
    ]
    assert result.report.splits[Split.TRAIN].missing == 2
    assert only_finding(result, "class-names").message == (
        "the integers of column label are read as the names of 3 classes"
    )


def test_an_index_without_a_name_is_rejected(tmp_path: Path) -> None:
    result = ingest(tmp_path, {"rows.parquet": labelled([0, 1, 7], features(["no", "yes"]))})
    assert error_codes(result) == {"unknown-class"}
    assert only_finding(result, "unknown-class").line == 3


@pytest.mark.parametrize(
    "metadata",
    ["not json", "[1]", "{}", {"info": None}, {"info": {"features": {"label": 1}}}, features(None), features(["a", 2])],
)
def test_metadata_of_another_form_is_ignored(tmp_path: Path, metadata: Any) -> None:
    result = ingest(tmp_path, {"rows.parquet": labelled([0, 1, 0, 1], metadata)})
    assert result.labels == ("0", "1")


def test_names_for_a_column_of_text_are_ignored(tmp_path: Path) -> None:
    content = labelled(["x", "y"], features(["a", "b"]), pa.string())
    assert ingest(tmp_path, {"rows.parquet": content}).labels == ("x", "y")
