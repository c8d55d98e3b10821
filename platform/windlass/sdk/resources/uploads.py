"""Sends files: hashed first, streamed, gone on with after a cut from where the server stands, committed at the end."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.artifacts import FileEntry, sha256_file
from windlass.domain.datasets import IngestOptions, Split
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from windlass.domain.specs import Task
from windlass.sdk._core import (
    Failure,
    FileBody,
    Flow,
    Pause,
    Reply,
    Request,
    Scope,
    Work,
    backoff,
    built,
    get,
    nothing,
    post,
)
from windlass.sdk._core import call as ask
from windlass.sdk._problems import error_of
from windlass.wire.datasets import (
    DatasetIn,
    DatasetOut,
    DatasetVersionOut,
    UploadFileOut,
    UploadIn,
    UploadOut,
)

Progress = Callable[[str, int, int], None]
"""Told the file's name, the bytes that have gone, and the bytes in all."""

_CUTS_WITHOUT_PROGRESS = 6


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to send, and the split it holds (None: rows that stand in train until they are split)."""

    path: Path
    split: Split | None = None


def upload_files(
    scope: Scope,
    name: str,
    files: Sequence[str | Path | SourceFile],
    *,
    task: Task | str,
    options: IngestOptions | None = None,
    resume: str | None = None,
    progress: Progress | None = None,
    opened: Callable[[UploadOut], None] | None = None,
) -> Flow[DatasetVersionOut]:
    """Send files as a new version of dataset ``name``, made if it does not exist; processing has then begun.

    Args:
        scope: the project.
        name: the dataset.
        files: paths, or ``SourceFile`` to say which split a file is.
        task: what the data is for; must be the dataset's own when it exists.
        options: how to read the files.
        resume: id of an open upload of the same files to go on with.
        progress: told how far each file is.
        opened: told the upload once it exists, so that its id can be kept for ``resume``.

    Raises:
        InvalidError: no such file, the task differs, or the files are not those of ``resume``.
        ChecksumMismatchError: the bytes changed on the way or while they were read.
        UnavailableError: the connection broke again and again without a byte getting through.
    """
    sources = [file if isinstance(file, SourceFile) else SourceFile(Path(file)) for file in files]
    names = _names([source.path for source in sources])
    entries: list[FileEntry] = yield Work(lambda: [_hashed(source.path) for source in sources])
    if resume is None:
        yield from _ensure_dataset(scope, name, Task(task))
        announced = [
            {"name": given, "bytes": entry.bytes, "sha256": entry.sha256, "split": source.split}
            for given, entry, source in zip(names, entries, sources, strict=True)
        ]
        body = built(UploadIn, dataset=name, files=announced, options=(options or IngestOptions()).model_dump())
        upload = yield from post(scope.path("uploads"), UploadOut, body)
    else:
        upload = yield from get_upload(scope, resume)
        _check_same(upload, dict(zip(names, entries, strict=True)))
    if opened is not None:
        opened(upload)
    by_name = {file.name: file for file in upload.files}
    for given, source in zip(names, sources, strict=True):
        yield from _send(scope, upload.id, by_name[given], source.path, progress)
    return (yield from post(scope.path("uploads", upload.id) + ":commit", DatasetVersionOut))


def get_upload(scope: Scope, upload: str) -> Flow[UploadOut]:
    """Read an upload: what of each file has arrived."""
    return get(scope.path("uploads", upload), UploadOut)


def abort_upload(scope: Scope, upload: str) -> Flow[None]:
    """Give an upload up; the server drops its bytes."""
    return ask(Request("DELETE", scope.path("uploads", upload)), nothing)


def _send(scope: Scope, upload: str, file: UploadFileOut, path: Path, progress: Progress | None) -> Flow[None]:
    """Send the rest of one file, asking after each cut how much has arrived."""

    def heard(position: int) -> None:
        if progress is not None:
            progress(file.name, position, file.bytes)

    where = scope.path("uploads", upload, "files", file.name)
    received, cuts = file.received, 0
    heard(received)
    # An empty file is sent too, once, so that the server has it.
    while received < file.bytes or (file.bytes == 0 and cuts == 0):
        headers = {"Upload-Offset": str(received), "Content-Type": "application/octet-stream"}
        body = FileBody(path, received, file.bytes, heard)
        problem = _cut((yield Request("PUT", where, headers=headers, body=body, retry=False)))
        if problem and cuts >= _CUTS_WITHOUT_PROGRESS:
            raise UnavailableError(f"{file.name} does not get through: {problem}", hint=f"go on later: resume {upload}")
        before = received
        received = yield from _received(scope, upload, file.name)
        cuts = 0 if received > before else cuts + 1
        if problem:
            yield Pause(backoff(cuts))


def _cut(answer: Reply | Failure) -> str:
    """Return why a transfer stopped early, empty when it did not; raise what asking again would not mend."""
    if isinstance(answer, Failure):
        return answer.message
    if answer.good:
        return ""
    error = error_of(answer.status, answer.content)
    if isinstance(error, ConflictError | UnavailableError):
        return error.message
    raise error


def _received(scope: Scope, upload: str, name: str) -> Flow[int]:
    found = yield from get_upload(scope, upload)
    return next(file.received for file in found.files if file.name == name)


def _ensure_dataset(scope: Scope, name: str, task: Task) -> Flow[None]:
    try:
        dataset = yield from get(scope.path("datasets", name), DatasetOut)
    except NotFoundError:
        dataset = yield from post(scope.path("datasets"), DatasetOut, built(DatasetIn, name=name, task=task))
    if dataset.task is not task:
        raise InvalidError(
            f"dataset {name} is for {dataset.task}, not for {task}",
            hint="choose another name, or the dataset's own task",
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the names under which the server keeps the files: their own, with odd characters replaced."""
    if not paths:
        raise InvalidError("no files", hint="name at least one file")
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", path.name).lstrip("._-")[:100] or "file" for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidError(f"two files are called {twice[0]}", hint="rename one of them")
    return names


def _hashed(path: Path) -> FileEntry:
    try:
        return sha256_file(path)
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from error


def _check_same(upload: UploadOut, entries: dict[str, FileEntry]) -> None:
    announced = {file.name: (file.bytes, file.sha256) for file in upload.files}
    if announced != {name: (entry.bytes, entry.sha256) for name, entry in entries.items()}:
        raise InvalidError(
            f"upload {upload.id} was opened for other files",
            hint="give the same unchanged files, or begin a new upload",
        )
