"""File uploads: hash, stream, resume at the server's offset after a disconnect, commit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.domain.artifacts import FileEntry
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.sdk._async.file_sender import AsyncFileSender
from windlass.sdk._async.io import run_blocking
from windlass.sdk._protocol import FileBody, Request, TransportFailure, validate_body
from windlass.sdk.arguments import as_body
from windlass.sdk.source_files import (
    FileToSend,
    Progress,
    SourceFile,
    check_content,
    hash_files,
    source_files,
    upload_names,
)
from windlass.wire.datasets import (
    DatasetIn,
    DatasetOut,
    DatasetVersionOut,
    UploadFileOut,
    UploadIn,
    UploadOut,
    UploadPartsOut,
)


class AsyncFileUploads(AsyncFileSender):
    """Uploads of files."""

    async def upload(
        self,
        name: str,
        files: Sequence[str | Path | SourceFile | Mapping[str, Any]],
        *,
        task: Task | str | None = None,
        options: IngestOptions | Mapping[str, Any] | None = None,
        resume: str | None = None,
        progress: Progress | None = None,
        on_created: Callable[[UploadOut], None] | None = None,
    ) -> DatasetVersionOut:
        """Upload files as a new version of dataset ``name``, which is created if needed. Processing starts afterwards.

        The first rows of each file are read before anything is created or sent.

        Args:
            name: the dataset's name.
            files: paths, or ``SourceFile`` to set the split of a file.
            task: the task of the dataset; required for a new one, and must match that of an existing one.
            options: parsing options.
            resume: id of an open upload of the same files.
            progress: called after each chunk.
            on_created: called with the upload; its id allows to ``resume``.

        Raises:
            InvalidError: a file is missing or would be rejected, the task differs, or the files differ from those of
                ``resume``. If columns are missing, the context of the error has ``columns`` and ``missing``.
            ChecksumMismatchError: the content changed in transit or during the upload.
            UnavailableError: repeated failures without progress.
        """
        sources = source_files(files)
        names = upload_names([source.path for source in sources])
        ingest = as_body(IngestOptions, options or {})
        existing, dataset_task = await self._find_dataset(name, None if task is None else Task(task))
        await run_blocking(check_content, sources, names, dataset_task, ingest)
        entries = await run_blocking(hash_files, sources)
        if resume is None:
            if not existing:
                new_dataset = validate_body(DatasetIn, name=name, task=dataset_task)
                await self._post(self._path("datasets"), DatasetOut, new_dataset)
            declared = [
                {"name": file_name, "bytes": entry.bytes, "sha256": entry.sha256, "split": source.split}
                for file_name, entry, source in zip(names, entries, sources, strict=True)
            ]
            body = validate_body(UploadIn, dataset=name, files=declared, options=ingest.model_dump())
            upload = await self._post(self._path("uploads"), UploadOut, body)
        else:
            upload = await self.get_upload(resume)
            _check_same_files(upload, dict(zip(names, entries, strict=True)))
        if on_created is not None:
            on_created(upload)
        by_name = {file.name: file for file in upload.files}
        for file_name, source in zip(names, sources, strict=True):
            await self._send(upload.id, by_name[file_name], source.path, progress)
        return await self._post(self._path("uploads", upload.id) + ":commit", DatasetVersionOut)

    async def get_upload(self, upload: str) -> UploadOut:
        """Get an upload with the received bytes of each file."""
        return await self._get(self._path("uploads", upload), UploadOut)

    async def abort_upload(self, upload: str) -> None:
        """Abort an upload; the server deletes its data."""
        await self._delete_without_result(self._path("uploads", upload))

    async def _send(self, upload: str, file: UploadFileOut, local: Path, progress: Progress | None) -> None:
        url = self._path("uploads", upload, "files", file.name)

        async def send(body: FileBody) -> str:
            return await (self._send_rest(url, body) if file.parts_url is None else self._send_parts(url, body))

        async def received() -> int:
            state = await self.get_upload(upload)
            return next(each.received for each in state.files if each.name == file.name)

        to_send = FileToSend(file.name, local, file.received, file.bytes)
        await self._send_file(to_send, send, received, progress, f"resume it later with upload id {upload}")

    async def _send_parts(self, url: str, body: FileBody) -> str:
        """Send the next parts of a file to the object store; return the reason of a retryable failure."""
        signed = await self._post(f"{url}:sign-parts", UploadPartsOut, read_only=True)
        for part in signed.parts:
            content = FileBody(body.path, part.offset, part.offset + part.bytes, body.progress)
            request = Request("PUT", part.url, headers=part.headers, body=content)
            response = await self._transport.send_presigned(request)
            if isinstance(response, TransportFailure):
                return response.message
            if not response.is_success:  # the URL has expired, another process sent the part, or the store is busy
                return f"the object store replied with status {response.status}"
        return ""

    async def _find_dataset(self, name: str, task: Task | None) -> tuple[bool, Task]:
        """Return whether the dataset exists, and its task."""
        try:
            dataset = await self._get(self._path("datasets", name), DatasetOut)
        except NotFoundError:
            if task is None:
                raise InvalidError(
                    f"dataset {name} does not exist", hint=f"set its task to create it: {' or '.join(Task)}"
                ) from None
            return False, task
        if task is not None and dataset.task is not task:
            raise InvalidError(
                f"dataset {name} is for {dataset.task}, not for {task}",
                hint="choose another name, or the task of the dataset",
            )
        return True, dataset.task


def _check_same_files(upload: UploadOut, entries: dict[str, FileEntry]) -> None:
    declared = {file.name: (file.bytes, file.sha256) for file in upload.files}
    if declared != {name: (entry.bytes, entry.sha256) for name, entry in entries.items()}:
        raise InvalidError(
            f"the files differ from those of upload {upload.id}",
            hint="pass the same unchanged files, or start a new upload",
        )
