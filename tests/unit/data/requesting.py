"""Requests to the data package, carried out in the test's own process and without limits."""

import json
from pathlib import Path
from typing import Any

from windlass.domain.datasets import DataRequest, DataResult, Finding, Split
from windlass_pipelines.data.processing import process


def ingest(
    folder: Path, files: dict[str, bytes | str], *, task: str = "text-classification", **request: Any
) -> DataResult:
    """Ingest files; one called ``validation.*`` or ``test.*`` belongs to that split, others to none."""
    inputs = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / f"upload-{number}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        stem = name.partition(".")[0]
        inputs.append((str(path), stem if stem in ("validation", "test") else None))
    fields = {"options": {}, **request}
    made = DataRequest.model_validate(
        {
            "operation": "ingest",
            "task": task,
            "inputs": inputs,
            "names": list(files),
            "output": str(folder / "out"),
            **fields,
        }
    )
    return process(made)


def csv_rows(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def kept(folder: Path, split: Split = Split.TRAIN) -> list[dict[str, Any]]:
    """The rows of an accepted version."""
    path = folder / "out" / f"{split.value}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def only(result: DataResult, code: str) -> Finding:
    """The single finding of a code."""
    (found,) = [finding for finding in result.report.findings if finding.code == code]
    return found


def codes(result: DataResult) -> set[str]:
    return {finding.code for finding in result.report.findings}


def error_codes(result: DataResult) -> set[str]:
    return {finding.code for finding in result.report.errors}
