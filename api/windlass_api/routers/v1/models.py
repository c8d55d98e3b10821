"""Routes of the registry: models, versions, files, aliases."""

from collections.abc import Iterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from windlass.domain.ids import Name, Number
from windlass.domain.models import ModelVersion
from windlass.domain.projects import Permission
from windlass.services.models import Models
from windlass.wire.base import Page
from windlass.wire.models import AliasIn, LineageOut, ModelFileOut, ModelOut, ModelPatch, ModelVersionOut
from windlass_api.dependencies import CursorText, IfMatch, Limit, Visit, inside
from windlass_api.mapping import model_out, reason_out
from windlass_api.paging import paged
from windlass_api.routers.v1.pages import html_page

router = APIRouter(prefix="/v1/projects/{project}/models", tags=["models"])

Read = Annotated[Visit, inside(Permission.MODELS_READ)]
Write = Annotated[Visit, inside(Permission.MODELS_WRITE)]
_CHUNK = 1 << 20


def _version_out(models: Models, name: str, version: ModelVersion, *, lineage: bool = False) -> ModelVersionOut:
    files = version.manifest.files
    return ModelVersionOut(
        model=name,
        decision=version.decision.value,
        reason=reason_out(version.reason),
        dataset=models.dataset_of(version),
        base_model=models.base_of(version),
        digest=version.manifest.digest(),
        bytes=version.manifest.bytes,
        files=[ModelFileOut(path=path, bytes=entry.bytes, sha256=entry.sha256) for path, entry in files.items()],
        lineage=[
            LineageOut(**edge.model_dump(exclude={"project"})) for edge in (models.lineage(version) if lineage else [])
        ],
        **version.model_dump(include={"id", "number", "evaluation", "job", "attempt", "created_at"}),
    )


@router.get("", operation_id="listModels")
def list_models(project: str, visit: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[ModelOut]:
    """List models, newest first."""
    return paged(visit.use(Models).page, limit, cursor, lambda model: model.id, model_out)


@router.get("/{model}", operation_id="getModel")
def get_model(project: str, model: str, response: Response, visit: Read) -> ModelOut:
    """Show a model."""
    return model_out(visit.use(Models).get(model), response)


@router.patch("/{model}", operation_id="updateModel")
def update_model(
    project: str, model: str, body: ModelPatch, response: Response, version: IfMatch, visit: Write
) -> ModelOut:
    """Change a model's description."""
    return model_out(visit.use(Models).update(model, version, body.description), response)


@router.delete("/{model}", status_code=204, operation_id="deleteModel")
def delete_model(project: str, model: str, version: IfMatch, visit: Write) -> None:
    """Remove a model with all versions; not while an endpoint serves one."""
    visit.use(Models).delete(model, version)


@router.get("/{model}/versions", operation_id="listModelVersions")
def list_model_versions(
    project: str, model: str, visit: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[ModelVersionOut]:
    """List a model's versions, newest first."""
    models = visit.use(Models)
    return paged(
        lambda count, after: models.versions(model, count, after),
        limit,
        cursor,
        lambda version: version.id,
        lambda version: _version_out(models, model, version),
    )


@router.get("/{model}/versions/{number}", operation_id="getModelVersion")
def get_model_version(project: str, model: str, number: Number, visit: Read) -> ModelVersionOut:
    """Show one version with its evaluation, files and lineage."""
    models = visit.use(Models)
    return _version_out(models, model, models.version(model, number), lineage=True)


@router.delete("/{model}/versions/{number}", status_code=204, operation_id="deleteModelVersion")
def delete_model_version(project: str, model: str, number: Number, visit: Write) -> None:
    """Remove a version that no alias names and no endpoint serves."""
    visit.use(Models).delete_version(model, number)


@router.get("/{model}/versions/{number}/report", operation_id="getModelReport", response_class=HTMLResponse)
def get_model_report(project: str, model: str, number: Number, visit: Read) -> HTMLResponse:
    """The training and evaluation report, a self-contained page."""
    stream, _ = visit.use(Models).open_file(model, number, "report.html")
    with stream:
        return html_page(stream.read())


@router.get(
    "/{model}/versions/{number}/files/{path:path}", operation_id="getModelFile", response_class=StreamingResponse
)
def get_model_file(project: str, model: str, number: Number, path: str, visit: Read) -> StreamingResponse:
    """The bytes of a file that the version's manifest lists."""
    stream, length = visit.use(Models).open_file(model, number, path)
    headers = {
        "Content-Length": str(length),
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_chunks(stream), media_type="application/octet-stream", headers=headers)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


@router.put("/{model}/aliases/{alias}", operation_id="putModelAlias")
def put_model_alias(
    project: str, model: str, alias: Annotated[Name, Path()], body: AliasIn, response: Response, visit: Write
) -> ModelOut:
    """Point an alias at a candidate version; endpoints that follow it roll out."""
    return model_out(visit.use(Models).put_alias(model, alias, body.version), response)


@router.delete("/{model}/aliases/{alias}", operation_id="deleteModelAlias")
def delete_model_alias(project: str, model: str, alias: str, response: Response, visit: Write) -> ModelOut:
    """Remove an alias."""
    return model_out(visit.use(Models).delete_alias(model, alias), response)
