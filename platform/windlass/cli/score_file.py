"""Scores a file: reads texts, classifies them in batches, and writes the records with their predictions.

The output is written to ``NAME.partial`` and renamed at the end. The same command continues a partial output: its
records are compared with the input, and an incomplete last one is written again.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from windlass.cli.output_files import require_folder
from windlass.cli.record_files import FileRecord, RecordFile
from windlass.cli.session import Session
from windlass.domain.endpoints import MAX_INPUTS
from windlass.domain.errors import ConflictError, InvalidError, StorageFullError, WindlassError
from windlass.kit.backoff import Backoff
from windlass.kit.files import sync_folder
from windlass.kit.numbers import count

if TYPE_CHECKING:
    from windlass.sdk import Prediction

_MAX_UNAVAILABLE_SECONDS = 300.0
_BACKOFF = Backoff(1.0, 15.0)


def added_fields(prefix: str, top_k: int) -> list[str]:
    """Return the names of the fields that the output adds to the input."""
    names = []
    for rank in range(1, top_k + 1):
        number = "" if rank == 1 else f"_{rank}"
        names += [f"{prefix}_label{number}", f"{prefix}_score{number}"]
    return [*names, f"{prefix}_truncated", f"{prefix}_model"]


class Counts(NamedTuple):
    """Numbers of records of a file."""

    records: int
    without_text: int


def check(source: RecordFile) -> Counts:
    """Read the whole file, so that an invalid record is reported before anything is scored.

    Raises:
        InvalidError: the file or a record is invalid.
    """
    records = without_text = 0
    for record in source.records():
        records += 1
        without_text += record.text is None
    return Counts(records, without_text)


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """An open partial output, positioned after its last complete record."""

    stream: BinaryIO
    records: int
    model: str | None
    """Name of the model that scored its last record with a text."""


@contextmanager
def partial_output(source: RecordFile, target: Path, *, restart: bool) -> Iterator[PartialOutput]:
    """Open ``TARGET.partial``; rename it to ``target`` at the end of the block, and keep it if the block fails.

    Raises:
        ConflictError: another process writes it, or it is not the beginning of this output.
    """
    path = target.with_name(f"{target.name}.partial")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as stream:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process writes {path}", hint="choose another --out") from None
        if restart:
            stream.truncate()
        yield _resume(source, stream, path)
        stream.write(source.footer())
        stream.flush()
        os.fsync(descriptor)
        path.replace(target)
    sync_folder(target.absolute().parent)


def _resume(source: RecordFile, stream: BinaryIO, path: Path) -> PartialOutput:
    """Compare a partial output with the input, and truncate it after its last complete record."""

    def differs(where: str) -> ConflictError:
        return ConflictError(
            f"{path} is the output of another file or of other options: {where} differs",
            hint="delete it or add --restart to score from the beginning",
        )

    header = source.header()
    written = stream.read(len(header))
    if not header.startswith(written):
        raise differs("its header")
    if written != header:
        stream.seek(0)
        stream.truncate()
        stream.write(header)
        return PartialOutput(stream, 0, None)
    records, end, model = 0, len(header), None
    for record in source.records():
        prefix = stream.read(len(record.prefix))
        suffix = source.read_suffix(stream) if prefix == record.prefix else None
        if suffix is None:
            if stream.read(1) or not record.prefix.startswith(prefix):
                raise differs(record.place)
            break
        records, end = records + 1, stream.tell()
        model = _model_name(suffix) or model
    stream.seek(end)
    stream.truncate()
    return PartialOutput(stream, records, model)


def _model_name(values: Sequence[Any]) -> str:
    return str(values[-1] or "").rpartition("@")[0] if values else ""


@dataclass(slots=True)
class Scorer:
    """Scores the records of a file with an endpoint; waits while the endpoint is busy or restarts."""

    session: Session
    endpoint: str
    source: RecordFile
    top_k: int
    truncated: int = 0
    scored: int = 0

    def run(self, output: PartialOutput, total: int) -> None:
        """Write the output of all records after those that ``output`` has.

        Raises:
            ConflictError: another model scored the existing records.
            WindlassError: the endpoint failed, or was unavailable for five minutes.
            StorageFullError: the output cannot be written.
        """
        records = islice(self.source.records(), output.records, None)
        model = output.model
        with self._progress(output.records, total) as progress:
            while batch := [*islice(records, MAX_INPUTS)]:
                predictions = self._predict([record.text for record in batch if record.text is not None])
                if predictions:
                    model = _check_model(model, predictions[0])
                self._write(output.stream, batch, iter(predictions))
                self.scored += len(batch)
                if progress is not None:
                    progress.advance(progress.task_ids[0], len(batch))

    def _write(self, stream: BinaryIO, batch: Sequence[FileRecord], predictions: "Iterator[Prediction]") -> None:
        lines = []
        for record in batch:
            values = self._values(None if record.text is None else next(predictions))
            lines.append(self.source.output(record, values))
        try:
            stream.write(b"".join(lines))
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageFullError(
                f"cannot write the output: {error.strerror}", hint="free disk space and run the same command again"
            ) from error

    def _values(self, prediction: "Prediction | None") -> list[Any]:
        if prediction is None:
            return [None] * (2 * self.top_k + 2)
        self.truncated += prediction.truncated
        values: list[Any] = []
        for rank in range(self.top_k):
            best = prediction.labels[rank] if rank < len(prediction.labels) else None
            values += [best.label, best.score] if best else [None, None]
        return [*values, prediction.truncated, prediction.model]

    def _predict(self, texts: list[str]) -> "list[Prediction]":
        failures, deadline = 0, 0.0
        while True:
            try:
                return self.session.client.endpoints.predict(self.endpoint, texts, top_k=self.top_k)
            except WindlassError as error:
                deadline = deadline or time.monotonic() + _MAX_UNAVAILABLE_SECONDS
                if not error.retryable or time.monotonic() > deadline:
                    raise
                if not failures:
                    self.session.message(f"waiting for endpoint {self.endpoint}: {error.message}")
                failures += 1
                time.sleep(_BACKOFF.delay(failures))

    def _progress(self, done: int, total: int) -> "Progress | nullcontext[None]":
        if not self.session.err.is_terminal:
            return nullcontext()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("records"), TimeRemainingColumn())
        progress = Progress(*columns, console=self.session.err, transient=True)
        progress.add_task("", total=total, completed=done)
        return progress


def _check_model(expected: str | None, prediction: "Prediction") -> str:
    """Return the name of the model; refuse to continue the output of another model."""
    name = prediction.model.rpartition("@")[0]
    if expected is not None and name != expected:
        raise ConflictError(
            f"the existing records were scored by model {expected}, this endpoint serves {name}",
            hint="add --restart to score all records again",
        )
    return name


@contextmanager
def standard_output(source: RecordFile) -> Iterator[PartialOutput]:
    """Write to standard output, which cannot be continued later."""
    stream = sys.stdout.buffer
    stream.write(source.header())
    yield PartialOutput(stream, 0, None)
    stream.write(source.footer())
    stream.flush()


def check_target(source: RecordFile, target: Path, *, overwrite: bool) -> None:
    """Check the path of an output.

    Raises:
        InvalidError: it is the input, or a file of another format, or its folder does not exist.
        ConflictError: it exists.
    """
    suffix = source.output_suffix
    if target.suffix.lower() != suffix.lower():
        raise InvalidError(f"--out {target}: the output has another format", hint=f"end its name with {suffix}")
    require_folder(target)
    if target.exists() and target.samefile(source.path):
        raise InvalidError(f"--out {target} is the input", hint="choose another path")
    if target.exists() and not overwrite:
        raise ConflictError(f"{target} already exists", hint="choose another --out, or add --overwrite")


def summary(counts: Counts, scorer: Scorer) -> str:
    """Return the sentence that reports a finished output."""
    parts = [f"scored {count(counts.records, 'record')}"]
    if counts.without_text:
        parts.append(f"{count(counts.without_text, 'record')} without a text got no prediction")
    if scorer.truncated:
        parts.append(f"{count(scorer.truncated, 'text')} exceeded the model's length; it read only their beginnings")
    return "; ".join(parts)
