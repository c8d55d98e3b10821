"""Routes of the catalogue of base models, and of the upload of their files."""

from functools import partial
from typing import Annotated

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from windlass.domain.artifacts import FileEntry
from windlass.domain.models import CatalogueModel, DeclaredFile
from windlass.domain.projects import Permission
from windlass.services.base_models import BaseModels
from windlass.wire.base import DeletionOut, Page
from windlass.wire.jobs import BaseModelIn, BaseModelOut
from windlass_api import routing
from windlass_api.dependencies import RequestContext, require_global
from windlass_api.file_bodies import BINARY_BODY, append_body
from windlass_api.mapping import base_model_out, deletion_out
from windlass_api.paging import paginate
from windlass_api.parameters import BaseModelFilePath, BaseModelName, CursorText, DryRun, Limit, UploadOffset

router = routing.router(prefix="/v1/base-models", tags=["base models"])
Read = Annotated[RequestContext, require_global(Permission.BASE_MODELS_READ)]
Write = Annotated[RequestContext, require_global(Permission.BASE_MODELS_WRITE)]


def _out(models: BaseModels, entry: CatalogueModel) -> BaseModelOut:
    return base_model_out(entry, models.received(entry))


@router.get("", operation_id="listBaseModels")
def list_base_models(ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[BaseModelOut]:
    """List the base models."""
    models = ctx.service(BaseModels)
    return paginate(models.page, limit, cursor, lambda entry: entry.id, lambda entry: _out(models, entry))


@router.get("/{name}", operation_id="getBaseModel")
def get_base_model(name: BaseModelName, ctx: Read) -> BaseModelOut:
    """Get a base model; with the received bytes of each file while it is uploaded."""
    models = ctx.service(BaseModels)
    return _out(models, models.get(name))


@router.post("", status_code=202, operation_id="createBaseModel")
def create_base_model(body: BaseModelIn, response: Response, ctx: Write) -> BaseModelOut:
    """Add a base model; only safetensors and GGUF weights are accepted.

    With ``path`` it is imported from the server's disk. With ``files``: PUT each file to its url, then import.
    """
    models = ctx.service(BaseModels)
    files = [DeclaredFile(path=file.path, entry=FileEntry(bytes=file.bytes, sha256=file.sha256)) for file in body.files]
    created = models.add(body.name, body.licence, body.source, path=body.path or "", files=files)
    response.headers["Location"] = f"/v1/base-models/{created.name}"
    return _out(models, created)


@router.put(
    "/{name}/files/{path:path}",
    operation_id="putBaseModelFile",
    openapi_extra=BINARY_BODY,
)
async def put_base_model_file(
    name: BaseModelName, path: BaseModelFilePath, request: Request, ctx: Write, offset: UploadOffset = 0
) -> BaseModelOut:
    """Upload a file's bytes from ``Upload-Offset``. After a disconnect, get the model and resume at ``received``."""
    models = ctx.service(BaseModels)
    key, declared = await run_in_threadpool(models.target, name, path)
    hint = "send the declared file, or delete the model and add it again"
    await append_body(request, declared, offset, partial(models.append, key, declared), hint)
    return await run_in_threadpool(lambda: _out(models, models.get(name)))


@router.post("/{name}:import", status_code=202, operation_id="importBaseModel")
def import_base_model(name: BaseModelName, ctx: Write) -> BaseModelOut:
    """Import a model whose files were uploaded; their sha256 and content are verified after the reply."""
    models = ctx.service(BaseModels)
    return _out(models, models.commit(name))


@router.delete("/{name}", operation_id="deleteBaseModel")
def delete_base_model(name: BaseModelName, ctx: Write, dry_run: DryRun = False) -> DeletionOut:
    """Delete a base model from the catalogue; a conflict while an active job uses it."""
    return deletion_out(ctx.service(BaseModels).delete(name, dry_run=dry_run))
