"""Data requests, processed in the test process without resource limits."""

import json
from pathlib import Path
from typing import Any

from windlass.domain.datasets import DataRequest, DataResult, Finding, Split
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.data.processing import process


def ingest(
    folder: Path, files: dict[str, bytes | str], *, task: str = "text-classification", **request: Any
) -> DataResult:
    """Ingest files; ``validation.*`` and ``test.*`` are assigned to that split, others to none.

    No rows are held out unless ``options`` say so.
    """
    inputs = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / f"upload-{number}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        stem = name.partition(".")[0]
        inputs.append((path.as_uri(), stem if stem in ("validation", "test") else None))
    fields = request | {"options": {"validation_fraction": 0} | request.get("options", {})}
    data_request = DataRequest.model_validate(
        {
            "operation": "ingest",
            "task": task,
            "inputs": inputs,
            "names": list(files),
            "output": (folder / "out").as_uri(),
            **fields,
        }
    )
    return process(data_request, folder, FileTransfer())


def csv_rows(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def output_rows(folder: Path, split: Split = Split.TRAIN) -> list[dict[str, Any]]:
    """Return the output rows of a split."""
    path = folder / "out" / f"{split.value}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def only_finding(result: DataResult, code: str) -> Finding:
    """Return the only finding with a code."""
    (finding,) = [finding for finding in result.report.findings if finding.code == code]
    return finding


def codes(result: DataResult) -> set[str]:
    return {finding.code for finding in result.report.findings}


def error_codes(result: DataResult) -> set[str]:
    return {finding.code for finding in result.report.errors}
