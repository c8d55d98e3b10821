# Generated from _async/base_models.py by docs/generate_sync_sdk.py; do not edit.
"""The catalogue of base models for fine-tuning."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from windlass.domain.capabilities import Capability
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.sdk._protocol import FileBody, path, validate_body
from windlass.sdk._sync.file_sender import FileSender
from windlass.sdk._sync.io import run_blocking
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk.source_files import FileToSend, Progress, SourceFile, hash_files, model_files
from windlass.wire.base import DeletionOut, ServerOut
from windlass.wire.jobs import BaseModelFileOut, BaseModelIn, BaseModelOut


class BaseModels(FileSender):
    """The catalogue of base models."""

    def list(self) -> CursorPage[BaseModelOut]:
        """List the base models."""
        return self._list(path("base-models"), BaseModelOut)

    def get(self, name: str) -> BaseModelOut:
        """Get a base model."""
        return self._get(path("base-models", name), BaseModelOut)

    def add(
        self,
        name: str,
        folder: str | Path,
        *,
        licence: str = "unknown",
        source: str = "",
        progress: Progress | None = None,
    ) -> BaseModelOut:
        """Import a model from a folder, or from a GGUF file; only safetensors and GGUF weights are accepted.

        A server on one machine reads the path on its own disk. A server in a cluster gets the files by an upload, which
        a second call with the same files resumes; a path that is not on this machine is one of its volume of models.

        Args:
            name: the model's name.
            folder: the path.
            licence: the licence of the weights.
            source: where the weights come from.
            progress: called after each chunk of an upload.

        Raises:
            InvalidError: there are no files, or an upload of other files under this name is open.
            UnavailableError: repeated failures without progress.
        """
        server = self._get("/v1", ServerOut)
        if Capability.LOCAL_MODELS in server.capabilities or not run_blocking(Path(folder).exists):
            body = validate_body(BaseModelIn, name=name, path=str(folder), licence=licence, source=source)
            return self._post(path("base-models"), BaseModelOut, body)
        paths = run_blocking(model_files, Path(folder))
        entries = run_blocking(hash_files, [SourceFile(path) for path in paths.values()])
        declared = [
            {"path": relative, "bytes": entry.bytes, "sha256": entry.sha256}
            for relative, entry in zip(paths, entries, strict=True)
        ]
        model = self._open_upload(name, declared, licence, source)
        for file in model.files:
            self._send_model_file(name, file, paths[file.path], progress)
        return self._post(path("base-models", name) + ":import", BaseModelOut)

    def _send_model_file(self, name: str, file: BaseModelFileOut, local: Path, progress: Progress | None) -> None:
        def received() -> int:
            model = self.get(name)
            return next(each.received for each in model.files if each.path == file.path)

        def send(body: FileBody) -> str:
            return self._send_rest(file.url, body)

        to_send = FileToSend(file.path, local, file.received, file.bytes)
        self._send_file(to_send, send, received, progress, "run the same command again to resume it")

    def _open_upload(self, name: str, declared: Sequence[dict[str, Any]], licence: str, source: str) -> BaseModelOut:
        open_model: BaseModelOut | None = None
        with suppress(NotFoundError):
            open_model = self.get(name)
        if open_model is not None and open_model.state == "uploading":
            if [(file.path, file.bytes) for file in open_model.files] != [(d["path"], d["bytes"]) for d in declared]:
                raise InvalidError(
                    f"an upload of other files for base model {name} is open",
                    hint=f"delete it first: `windlass base-model delete {name}`",
                )
            return open_model
        body = validate_body(BaseModelIn, name=name, files=declared, licence=licence, source=source)
        return self._post(path("base-models"), BaseModelOut, body)

    def wait(self, name: str, *, timeout: float | None = None) -> BaseModelOut:
        """Wait until an import has succeeded or failed: see ``state`` and ``problem``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the import continues.
        """
        return self._poll(
            lambda: self.get(name),
            lambda model: model.state != "importing",
            timeout,
            f"the import of base model {name}",
        )

    def delete(self, name: str, *, if_match: int | None = None, dry_run: bool = False) -> DeletionOut:
        """Delete a base model from the catalogue."""
        return self._delete(path("base-models", name), if_match, dry_run=dry_run)
