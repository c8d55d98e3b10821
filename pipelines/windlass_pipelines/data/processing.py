"""One data request from inputs to result: read, clean step by step, measure, judge, keep the splits.

A file that cannot be read leaves nothing but findings: ``rows`` is empty and ``digest`` null. Rows that were read are
kept, and have a digest, also when they are judged unfit (an overlap, one label): cleaning may start from them.
"""

import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from windlass.domain.artifacts import MANIFEST_NAME, Manifest, sha256_file
from windlass.domain.datasets import CopySplit, DataRequest, DataResult, Split, SplitReport, SplitRows, ValidationReport
from windlass_pipelines.data.cleaning import apply_step
from windlass_pipelines.data.findings import Findings
from windlass_pipelines.data.judging import exact_duplicates, judge
from windlass_pipelines.data.keys import ranks
from windlass_pipelines.data.lengths import histogram, token_counter
from windlass_pipelines.data.limits import CpuTimeError, limited_by_disk, reading_limits
from windlass_pipelines.data.measuring import SplitFacts, measure
from windlass_pipelines.data.reading import read_inputs
from windlass_pipelines.data.rowset import RowSet
from windlass_pipelines.report.dataset import render_dataset

RESULT_NAME = "result.json"
REPORT_NAME = "report.html"
_WORK, _KEPT = ".work", "kept"


def process(request: DataRequest) -> DataResult:
    """Carry out a request in ``request.output``; ``result.json`` appears there last, whole.

    Raises:
        OSError: the disk is full, an input cannot be opened.
    """
    output = Path(request.output)
    work = output / _WORK
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULT_NAME).unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    findings = Findings()
    try:
        result = _Processing(request, work, findings).run()
    except MemoryError:
        result = _stopped(findings, "needs-too-much-memory", "the data needs more memory than is allowed")
    except CpuTimeError:
        result = _stopped(findings, "needs-too-much-time", "the data needs more computing time than is allowed")
    except OSError as error:
        if error.errno != errno.EFBIG or limited_by_disk(request.max_bytes):
            raise
        result = _stopped(findings, "too-large", "the data becomes larger than is allowed")
    if (work / _KEPT).exists():
        result = result.model_copy(update={"digest": _publish(work / _KEPT, output, result).digest()})
    shutil.rmtree(work)
    _write(output / REPORT_NAME, render_dataset(result.report, request.title))
    _write(output / RESULT_NAME, result.model_dump_json())
    return result


class _Processing:
    def __init__(self, request: DataRequest, work: Path, findings: Findings) -> None:
        self._request, self._work, self._findings = request, work, findings
        self._steps: list[dict[str, Any]] = []

    def run(self) -> DataResult:
        # What stands in a parent's rows is in its own report; this one is about what the steps leave.
        reading = self._findings if self._request.operation == "ingest" else Findings()
        with reading_limits():
            rows = read_inputs(self._request, self._work / "0", reading)
        if reading.rejected:
            read = {split: SplitReport(rows=count) for split, count in rows.counts.items()}
            return _result(reading, read).model_copy(update={"rows": {}})
        for number, step in enumerate(self._request.steps, start=1):
            before = rows
            rows, record = apply_step(step, before, self._work / str(number), self._findings)
            self._steps.append(record)
            before.remove()
        return self._report(rows)

    def _report(self, rows: RowSet) -> DataResult:
        named, count = token_counter(self._request.tokenizer, self._findings)
        facts = measure(rows, count, self._findings)
        overlap = judge(facts, self._request.task, self._overlap_allowed(), self._findings)
        personal: Counter[str] = sum((found.personal for found in facts.values()), Counter())
        result = _result(
            self._findings,
            {split: _split_report(found) for split, found in facts.items()},
            personal_data=dict(personal),
            overlap=overlap,
            tokenizer=named,
            steps=tuple(self._steps),
        )
        if rows.counts:
            rows.folder.rename(self._work / _KEPT)
        return result

    def _overlap_allowed(self) -> frozenset[Split]:
        if self._request.options.allow_overlap:
            return frozenset(Split)
        allowed: set[Split] = set()
        for step in self._request.steps:
            if isinstance(step, CopySplit):
                allowed.add(step.target)
            elif isinstance(step, SplitRows):
                allowed.clear()
        return frozenset(allowed)


def _split_report(found: SplitFacts) -> SplitReport:
    return SplitReport(
        rows=found.rows,
        labels={} if found.too_many_labels else dict(sorted(found.labels.items())),
        missing=found.missing,
        exact_duplicates=exact_duplicates(found),
        near_duplicates=found.near_duplicates,
        groups=ranks(found.group_keys)[1] if len(found.group_keys) else None,
        tokens=histogram(found.lengths),
        tokens_mean=round(float(found.lengths.mean()), 2),
        tokens_max=int(found.lengths.max()),
    )


def _result(findings: Findings, splits: dict[Split, SplitReport], **more: Any) -> DataResult:
    labels = sorted({label for report in splits.values() for label in report.labels})
    return DataResult(
        accepted=not findings.rejected,
        report=ValidationReport(findings=findings.collect(), splits=splits, **more),
        rows={split: report.rows for split, report in splits.items()},
        labels=tuple(labels),
    )


def _stopped(findings: Findings, code: str, message: str) -> DataResult:
    findings.add("error", code, message, action="upload less data, or smaller rows")
    return _result(findings, {})


def _publish(kept: Path, output: Path, result: DataResult) -> Manifest:
    """Move the kept splits into ``output``, durably, and write their manifest beside them."""
    for split in Split:
        target = output / f"{split.value}.jsonl"
        target.unlink(missing_ok=True)
        if split in result.rows:
            source = kept / target.name
            _sync(source)
            source.replace(target)
    names = [f"{split.value}.jsonl" for split in result.rows]
    manifest = Manifest(files={name: sha256_file(output / name) for name in names})
    _write(output / MANIFEST_NAME, manifest.model_dump_json())
    return manifest


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
