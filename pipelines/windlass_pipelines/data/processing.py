"""Processes a data request: fetch, read, clean, compute statistics, validate, publish the splits and the report.

After a read error the result contains only findings: ``rows`` is empty and ``digest`` null. Rows that fail validation
(an overlap, a single label) are still written and have a digest, so that cleaning steps can be applied to them.
"""

import errno
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from windlass.dataset_files.findings import Findings
from windlass.domain.artifacts import Manifest
from windlass.domain.datasets import (
    CleaningStep,
    CopySplit,
    DataRequest,
    DataResult,
    Split,
    SplitReport,
    SplitRows,
    ValidationReport,
)
from windlass.domain.errors import NotFoundError
from windlass.domain.ingest import FileReport
from windlass.kit.files import write_atomic
from windlass.orchestration.task_result import RESULT_NAME
from windlass.ports import FolderTransfer
from windlass_pipelines.data.cleaning import apply_step
from windlass_pipelines.data.erasing import count_matches, erase_rows
from windlass_pipelines.data.hashing import factorize
from windlass_pipelines.data.holdout import hold_out
from windlass_pipelines.data.limits import CpuTimeError, limited_by_disk, reading_limits
from windlass_pipelines.data.reading import read_inputs
from windlass_pipelines.data.row_store import RowStore
from windlass_pipelines.data.statistics import SplitStatistics, compute_statistics
from windlass_pipelines.data.token_lengths import histogram, token_counter
from windlass_pipelines.data.validation import exact_duplicates, validate
from windlass_pipelines.report.dataset import render_dataset

REPORT_NAME = "report.html"
_WORK, _OUTPUT = "work", "output"


def process(request: DataRequest, folder: Path, transfer: FolderTransfer) -> DataResult:
    """Process a request: publish the version, then write ``result.json`` to ``folder``, which is on the local disk.

    Raises:
        OSError: the disk is full, or an input cannot be opened.
        NotFoundError: an input does not exist.
    """
    work, output = folder / _WORK, folder / _OUTPUT
    for path in (work, output):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    findings = Findings()
    if request.operation == "search":
        return _search(request, folder, transfer)
    try:
        result = _Pipeline(_fetched(request, work, transfer), work, output, findings).run()
    except MemoryError:
        result = _rejected(findings, "needs-too-much-memory", "the data needs more memory than allowed")
    except CpuTimeError:
        result = _rejected(findings, "needs-too-much-time", "the data needs more CPU time than allowed")
    except OSError as error:
        if error.errno != errno.EFBIG or limited_by_disk(request.max_bytes):
            raise
        result = _rejected(findings, "too-large", "the converted data exceeds the size limit")
    if not result.rows:
        shutil.rmtree(output)
        output.mkdir()
    (output / REPORT_NAME).write_text(render_dataset(result.report, request.title), encoding="utf-8")
    transfer.delete(request.output)  # an earlier process may have published, and died before it wrote its result
    manifest = transfer.publish(output, request.output)
    if result.rows:
        rows = {name: entry for name, entry in manifest.files.items() if name != REPORT_NAME}
        result = result.model_copy(update={"digest": Manifest(files=rows).digest()})
    shutil.rmtree(work)
    write_atomic(folder / RESULT_NAME, result.model_dump_json())
    return result


def _search(request: DataRequest, folder: Path, transfer: FolderTransfer) -> DataResult:
    """Count the rows of a data subject; nothing is published."""
    work, findings = folder / _WORK, Findings()

    def read(part: DataRequest, target: Path) -> RowStore:
        with reading_limits():
            return read_inputs(part, target, findings)[0]

    matches: tuple[int, ...] = ()
    try:
        matches = count_matches(_fetched(request, work, transfer), read, work)
    except (MemoryError, CpuTimeError):
        findings.add("error", "needs-too-much-memory", "the data needs more memory or CPU time than allowed")
    result = _result(findings, {}).model_copy(update={"matches": () if findings.rejected else matches})
    shutil.rmtree(work)
    write_atomic(folder / RESULT_NAME, result.model_dump_json())
    return result


def _fetched(request: DataRequest, work: Path, transfer: FolderTransfer) -> DataRequest:
    """Return the request with local paths in place of the URIs of the files to read."""
    inputs = tuple(
        (str(transfer.fetch_file(uri, work / f"input-{number}")), split)
        for number, (uri, split) in enumerate(request.inputs)
    )
    names = request.names or tuple(PurePosixPath(uri).name for uri, _ in request.inputs)
    tokenizer = None
    if request.tokenizer is not None:
        with suppress(NotFoundError):  # the base model was deleted after the request was made
            tokenizer = str(transfer.fetch_file(request.tokenizer, work / "tokenizer.json"))
    return request.model_copy(update={"inputs": inputs, "names": names, "tokenizer": tokenizer})


class _Pipeline:
    def __init__(self, request: DataRequest, work: Path, output: Path, findings: Findings) -> None:
        self._request, self._work, self._output, self._findings = request, work, output, findings
        self._steps: list[dict[str, Any]] = []
        self._automatic: list[CleaningStep] = []
        self._files: tuple[FileReport, ...] = ()

    def run(self) -> DataResult:
        # Findings about the rows of a parent version are in its own report.
        reading = self._findings if self._request.operation == "ingest" else Findings()
        with reading_limits():
            rows, files = read_inputs(self._request, self._work / "0", reading)
        self._files = files if self._request.operation == "ingest" else ()
        if reading.rejected:
            read = {split: SplitReport(rows=count) for split, count in rows.counts.items()}
            return _result(reading, read, files=self._files).model_copy(update={"rows": {}})
        if self._request.erase is not None:
            before = rows
            rows, record = erase_rows(self._request.erase, before, self._work / "erased")
            self._steps.append(record)
            before.remove()
        for number, step in enumerate(self._request.steps, start=1):
            before = rows
            rows, record = apply_step(step, before, self._work / str(number), self._findings)
            self._steps.append(record)
            before.remove()
        fraction = self._request.options.validation_fraction
        is_divisible = Split.TRAIN in rows.counts and Split.VALIDATION not in rows.counts
        if self._request.operation == "ingest" and fraction and is_divisible:
            rows, self._automatic, records = hold_out(rows, fraction, self._work / "held-out", self._findings)
            self._steps += records
        return self._report(rows)

    def _report(self, rows: RowStore) -> DataResult:
        tokenizer_name, count = token_counter(self._request.tokenizer, self._findings)
        statistics = compute_statistics(rows, count, self._request.max_labels, self._findings)
        steps = [*self._request.steps, *self._automatic]
        split_step = next((step for step in reversed(steps) if isinstance(step, SplitRows)), None)
        overlap = validate(statistics, self._request.task, split_step, self._overlap_allowed(), self._findings)
        personal: Counter[str] = sum((stats.personal for stats in statistics.values()), Counter())
        result = _result(
            self._findings,
            {split: _split_report(stats) for split, stats in statistics.items()},
            files=self._files,
            personal_data=dict(personal),
            overlap=overlap,
            tokenizer=tokenizer_name,
            steps=tuple(self._steps),
        ).model_copy(update={"automatic_steps": tuple(self._automatic)})
        if rows.counts:
            self._output.rmdir()
            rows.folder.rename(self._output)
        return result

    def _overlap_allowed(self) -> frozenset[Split]:
        if self._request.options.allow_overlap:
            return frozenset(Split)
        allowed: set[Split] = set()
        for step in self._request.steps:
            if isinstance(step, CopySplit):
                allowed.add(step.target)
            elif isinstance(step, SplitRows) and step.source is None:
                allowed.clear()
        return frozenset(allowed)


def _split_report(stats: SplitStatistics) -> SplitReport:
    return SplitReport(
        rows=stats.rows,
        labels={} if stats.too_many_labels else dict(sorted(stats.labels.items())),
        missing=stats.missing,
        exact_duplicates=exact_duplicates(stats),
        near_duplicates=stats.near_duplicates,
        groups=factorize(stats.group_hashes)[1] if len(stats.group_hashes) else None,
        tokens=histogram(stats.lengths),
        tokens_mean=round(float(stats.lengths.mean()), 2),
        tokens_max=int(stats.lengths.max()),
    )


def _result(findings: Findings, splits: dict[Split, SplitReport], **more: Any) -> DataResult:
    labels = sorted({label for report in splits.values() for label in report.labels})
    return DataResult(
        accepted=not findings.rejected,
        report=ValidationReport(findings=findings.collect(), splits=splits, **more),
        rows={split: report.rows for split, report in splits.items()},
        labels=tuple(labels),
    )


def _rejected(findings: Findings, code: str, message: str) -> DataResult:
    findings.add("error", code, message, action="upload less data, or smaller rows")
    return _result(findings, {})
