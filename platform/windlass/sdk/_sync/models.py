# Generated from _async/models.py by docs/generate_sync_sdk.py; do not edit.
"""Registered models, their versions, aliases and files."""

from pathlib import Path
from urllib.parse import quote

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import ChecksumMismatchError, ConflictError, NotFoundError, StorageFullError
from windlass.domain.training_report import REPORT_NAME, TrainingReport, parse_report
from windlass.sdk._protocol import Request, parse_reference, validate_body
from windlass.sdk._sync.io import run_blocking
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.downloads import create_file, is_complete, publish_folder
from windlass.wire.base import DeletionOut
from windlass.wire.models import AliasIn, ModelFileOut, ModelOut, ModelPatch, ModelVersionOut


class Models(Resource):
    """Registered models of the project."""

    def list(self) -> CursorPage[ModelOut]:
        """List the project's models."""
        return self._list(self._path("models"), ModelOut)

    def get(self, name: str) -> ModelOut:
        """Get a model with its aliases."""
        return self._get(self._path("models", name), ModelOut)

    def update(self, name: str, *, description: str, if_match: int | None = None) -> ModelOut:
        """Change the description."""
        body = validate_body(ModelPatch, description=description)
        return self._patch(self._path("models", name), ModelOut, body, if_match)

    def delete(
        self, name: str, *, if_match: int | None = None, dry_run: bool = False, cascade: bool = False
    ) -> DeletionOut:
        """Delete a model and its versions; ``cascade``: the endpoints that serve one too."""
        return self._delete(self._path("models", name), if_match, dry_run=dry_run, cascade=cascade)

    def versions(self, name: str) -> CursorPage[ModelVersionOut]:
        """List a model's versions, newest first."""
        return self._list(self._path("models", name, "versions"), ModelVersionOut)

    def version(self, reference: str) -> ModelVersionOut:
        """Get a version: ``name@number``, ``name@alias``, or ``name`` for the newest version."""
        return self._get(self._version_path(reference), ModelVersionOut)

    def delete_version(
        self, reference: str, *, if_match: int | None = None, dry_run: bool = False, cascade: bool = False
    ) -> DeletionOut:
        """Delete a version that is not used by an alias or an endpoint; ``cascade``: delete those endpoints too."""
        return self._delete(self._version_path(reference), if_match, dry_run=dry_run, cascade=cascade)

    def report(self, reference: str) -> TrainingReport:
        """Get the data of the report of a version: its ``report.json``.

        Raises:
            NotFoundError: the version has no report; its warnings name the reason.
            InvalidError: the report has another format than this client reads.
        """
        return parse_report(self.read_file(reference, REPORT_NAME))

    def report_html(self, reference: str) -> str:
        """Get the report of a version as a self-contained HTML page."""
        return self._get_html(f"{self._version_path(reference)}/report")

    def read_file(self, reference: str, file: str) -> bytes:
        """Read a file of a version into memory."""
        request = Request("GET", _file_url(self._version_path(reference), file))
        return (self._transport.send(request)).content

    def set_alias(self, name: str, alias: str, version: int) -> ModelOut:
        """Set an alias to a candidate version."""
        url = self._path("models", name, "aliases", alias)
        return self._put(url, ModelOut, validate_body(AliasIn, version=version))

    def remove_alias(self, name: str, alias: str) -> None:
        """Delete an alias."""
        self._delete_without_result(self._path("models", name, "aliases", alias))

    def download(self, reference: str, target: str | Path) -> Path:
        """Download a version into the new folder ``target``, which is created after all checksums have been verified.

        An interrupted download resumes after the last complete file.

        Raises:
            ConflictError: ``target`` exists.
            InvalidError: a file path of the manifest is outside of the folder.
            ChecksumMismatchError: a file differs from the manifest.
            StorageFullError: the disk is full.
        """
        version = self.version(reference)
        folder = run_blocking(Path(target).absolute)
        if run_blocking(folder.exists):
            raise ConflictError(f"{folder} already exists", hint="choose a folder that does not exist")
        # Manifest validation rejects paths outside of the folder.
        manifest = validate_body(
            Manifest, files={file.path: {"bytes": file.bytes, "sha256": file.sha256} for file in version.files}
        )
        if manifest.digest() != version.digest:
            raise ChecksumMismatchError(f"the file list of {version.model}@{version.number} does not match its digest")
        draft = folder.with_name(f".{folder.name}.{version.id}.partial")
        url = self._path("models", version.model, "versions", str(version.number))
        for file in version.files:
            self._download_file(url, file, draft)
        run_blocking(publish_folder, draft, manifest, folder)
        return folder

    def _download_file(self, url: str, file: ModelFileOut, draft: Path) -> None:
        path = draft / file.path
        if run_blocking(is_complete, path, file):
            return
        sink = run_blocking(create_file, path)
        try:
            self._transport.send(Request("GET", _file_url(url, file.path), sink=sink))
        except OSError as error:
            raise StorageFullError(
                f"cannot write {path}: {error.strerror}", hint="free disk space and try again"
            ) from error
        finally:
            sink.close()
        if not run_blocking(is_complete, path, file):
            run_blocking(path.unlink)
            raise ChecksumMismatchError(f"the sha256 of {file.path} does not match the manifest", hint="try again")

    def _version_path(self, reference: str) -> str:
        name, _, selector = reference.partition("@")
        if "@" in reference and selector.isascii() and selector.isdigit():
            number: int | None = parse_reference(reference)[1]
        else:
            model = self.get(name)
            number = model.aliases.get(selector) if "@" in reference else model.latest
            if number is None and "@" in reference:
                known = ", ".join(sorted(model.aliases)) or "none"
                raise NotFoundError(f"model {name} has no alias {selector!r}", hint=f"existing aliases: {known}")
            if number is None:
                raise NotFoundError(f"model {name} has no version")
        return self._path("models", name, "versions", str(number))


def _file_url(url: str, file: str) -> str:
    return f"{url}/files/" + "/".join(quote(part, safe="") for part in file.split("/"))
