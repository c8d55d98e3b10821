"""Registered models, their versions, aliases and files."""

from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, Manifest, sha256_file
from windlass.domain.errors import ChecksumMismatchError, ConflictError, NotFoundError, StorageFullError
from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import (
    Flow,
    Listing,
    Request,
    Scope,
    Work,
    built,
    delete,
    get,
    listed,
    nothing,
    patch,
    put,
    ref,
    text,
)
from windlass.sdk._core import call as ask
from windlass.wire.models import AliasIn, ModelFileOut, ModelOut, ModelPatch, ModelVersionOut


def list_models(scope: Scope) -> Listing[ModelOut]:
    """Iterate over the project's models."""
    return listed(scope.path("models"), ModelOut)


def get_model(scope: Scope, name: str) -> Flow[ModelOut]:
    """Read a model with its aliases."""
    return get(scope.path("models", name), ModelOut)


def update_model(scope: Scope, name: str, *, description: str, if_match: int | None = None) -> Flow[ModelOut]:
    """Change the description."""
    return patch(scope.path("models", name), ModelOut, built(ModelPatch, description=description), if_match)


def delete_model(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete a model with its versions."""
    return delete(scope.path("models", name), if_match)


def list_versions(scope: Scope, name: str) -> Listing[ModelVersionOut]:
    """Iterate over a model's versions."""
    return listed(scope.path("models", name, "versions"), ModelVersionOut)


def get_version(scope: Scope, reference: str) -> Flow[ModelVersionOut]:
    """Read a version: ``name@number``, ``name@alias``, or ``name`` for the newest."""
    where = yield from _where(scope, reference)
    return (yield from get(where, ModelVersionOut))


def delete_version(scope: Scope, reference: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete a version that no alias and no endpoint uses."""
    where = yield from _where(scope, reference)
    yield from delete(where, if_match)


def get_report_html(scope: Scope, reference: str) -> Flow[str]:
    """Read the report of a version as a self-contained page."""
    where = yield from _where(scope, reference)
    return (yield from ask(Request("GET", f"{where}/report", headers={"Accept": "text/html"}), text))


def read_file(scope: Scope, reference: str, file: str) -> Flow[bytes]:
    """Read one file of a version into memory."""
    where = yield from _where(scope, reference)
    return (yield from ask(_file(where, file), lambda reply: reply.content))


def set_alias(scope: Scope, name: str, alias: str, version: int) -> Flow[ModelOut]:
    """Point an alias at a candidate version."""
    return put(scope.path("models", name, "aliases", alias), ModelOut, built(AliasIn, version=version))


def remove_alias(scope: Scope, name: str, alias: str) -> Flow[None]:
    """Remove an alias."""
    return ask(Request("DELETE", scope.path("models", name, "aliases", alias)), nothing)


def download(scope: Scope, reference: str, target: str | Path) -> Flow[Path]:
    """Fetch a version into the new folder ``target``; it appears only when every file has its announced sha256.

    A cut download goes on from the files that are complete.

    Raises:
        ConflictError: ``target`` exists.
        InvalidError: the server names a file outside of the folder.
        ChecksumMismatchError: a file differs from the manifest.
        StorageFullError: the disk is full.
    """
    version = yield from get_version(scope, reference)
    target = Path(target).absolute()
    if target.exists():
        raise ConflictError(f"{target} exists", hint="name a folder that does not exist yet")
    # A manifest with a path that leaves the folder cannot be built.
    manifest = built(
        Manifest, files={file.path: {"bytes": file.bytes, "sha256": file.sha256} for file in version.files}
    )
    if manifest.digest() != version.digest:
        raise ChecksumMismatchError(f"the file list of {version.model}@{version.number} does not match its digest")
    draft = target.with_name(f".{target.name}.{version.id}.partial")
    where = scope.path("models", version.model, "versions", str(version.number))
    for file in version.files:
        yield from _fetch(where, file, draft)
    yield Work(partial(_publish, draft, manifest, target))
    return target


def _fetch(where: str, file: ModelFileOut, draft: Path) -> Flow[None]:
    place = draft / file.path
    if (yield Work(partial(_matches, place, file))):
        return
    sink: BinaryIO = yield Work(partial(_create, place))
    try:
        yield from ask(_file(where, file.path, sink), nothing)
    except OSError as error:
        raise StorageFullError(
            f"{place} cannot be written: {error.strerror}", hint="free space and try again"
        ) from error
    finally:
        sink.close()
    if not (yield Work(partial(_matches, place, file))):
        place.unlink()
        raise ChecksumMismatchError(f"{file.path} arrived with another sha256 than announced", hint="try again")


def _file(where: str, file: str, sink: BinaryIO | None = None) -> Request:
    quoted = "/".join(quote(part, safe="") for part in file.split("/"))
    return Request("GET", f"{where}/files/{quoted}", sink=sink)


def _matches(place: Path, file: ModelFileOut) -> bool:
    return place.is_file() and sha256_file(place) == FileEntry(bytes=file.bytes, sha256=file.sha256)


def _create(place: Path) -> BinaryIO:
    place.parent.mkdir(parents=True, exist_ok=True)
    return place.open("wb")


def _publish(draft: Path, manifest: Manifest, target: Path) -> None:
    (draft / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), "utf-8")
    draft.rename(target)


def _where(scope: Scope, reference: str) -> Flow[str]:
    name, _, wanted = reference.partition("@")
    if "@" in reference and wanted.isascii() and wanted.isdigit():
        number: int | None = ref(reference)[1]
    else:
        model = yield from get(scope.path("models", name), ModelOut)
        number = model.aliases.get(wanted) if "@" in reference else model.latest
        if number is None and "@" in reference:
            known = ", ".join(sorted(model.aliases)) or "none"
            raise NotFoundError(f"model {name} has no alias {wanted!r}", hint=f"its aliases: {known}")
        if number is None:
            raise NotFoundError(f"model {name} has no version")
    return scope.path("models", name, "versions", str(number))


class Models(Resource):
    """Registered models of the project."""

    list = listing(list_models)
    get = call(get_model)
    update = call(update_model)
    delete = call(delete_model)
    versions = listing(list_versions)
    version = call(get_version)
    delete_version = call(delete_version)
    report_html = call(get_report_html)
    read_file = call(read_file)
    download = call(download)
    set_alias = call(set_alias)
    remove_alias = call(remove_alias)


class AsyncModels(AsyncResource):
    """Registered models of the project."""

    list = async_listing(list_models)
    get = async_call(get_model)
    update = async_call(update_model)
    delete = async_call(delete_model)
    versions = async_listing(list_versions)
    version = async_call(get_version)
    delete_version = async_call(delete_version)
    report_html = async_call(get_report_html)
    read_file = async_call(read_file)
    download = async_call(download)
    set_alias = async_call(set_alias)
    remove_alias = async_call(remove_alias)
