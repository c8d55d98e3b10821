"""Routes of the model registry: models, versions, files, aliases."""

from collections.abc import Iterator, Mapping
from typing import Annotated, BinaryIO

from fastapi import Path, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from windlass.domain.ids import AliasName
from windlass.domain.models import Model, ModelVersion
from windlass.domain.projects import Permission
from windlass.domain.text import Identifier
from windlass.services.cascades import CascadeDeletions
from windlass.services.erasures import Erasures
from windlass.services.models import Models
from windlass.wire.base import DeletionOut, Page
from windlass.wire.models import AliasIn, LineageOut, ModelFileOut, ModelOut, ModelPatch, ModelVersionOut
from windlass_api import routing
from windlass_api.dependencies import CASCADE_PERMISSIONS, IfMatch, RequestContext, require_project
from windlass_api.mapping import deletion_out, model_out, reason_out, warnings_out
from windlass_api.paging import paginate
from windlass_api.parameters import (
    ArtifactPath,
    Cascade,
    CursorText,
    DryRun,
    Limit,
    ModelName,
    ProjectName,
    VersionNumber,
)
from windlass_api.routers.v1.pages import html_page

router = routing.router(prefix="/v1/projects/{project}/models", tags=["models"])

Read = Annotated[RequestContext, require_project(Permission.MODELS_READ)]
Write = Annotated[RequestContext, require_project(Permission.MODELS_WRITE)]
_CHUNK = 1 << 20


def _version_out(
    models: Models, name: str, version: ModelVersion, pending: Mapping[str, list[str]], *, detailed: bool = False
) -> ModelVersionOut:
    files, evaluation = version.manifest.files, version.evaluation
    if not detailed:  # a confusion matrix of 1000 labels has a million cells
        evaluation = {name: value for name, value in evaluation.items() if not isinstance(value, list | dict)}
    edges = models.lineage(version) if detailed else []
    names = models.lineage_names(edges) if edges else {}
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
            LineageOut(
                subject_name=names.get(edge.subject, ""),
                object_name=names.get(edge.object, ""),
                **edge.model_dump(exclude={"project"}),
            )
            for edge in edges
        ],
        purposes=list(version.purposes),
        erasure_pending=pending.get(version.id, []),
        evaluation=evaluation,
        warnings=warnings_out(version.warnings),
        **version.model_dump(include={"id", "number", "job", "attempt", "created_at"}),
    )


def _model_out(ctx: RequestContext, model: Model, response: Response) -> ModelOut:
    pending = ctx.project_service(Erasures).pending_by_model()
    return model_out(model, response, erasures=pending.get(model.id, []))


@router.get("", operation_id="listModels")
def list_models(project: ProjectName, ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[ModelOut]:
    """List models, newest first."""
    pending = ctx.project_service(Erasures).pending_by_model()
    return paginate(
        ctx.project_service(Models).page,
        limit,
        cursor,
        lambda model: model.id,
        lambda model: model_out(model, erasures=pending.get(model.id, [])),
    )


@router.get("/{model}", operation_id="getModel")
def get_model(project: ProjectName, model: ModelName, response: Response, ctx: Read) -> ModelOut:
    """Get a model."""
    return _model_out(ctx, ctx.project_service(Models).get(model), response)


@router.patch("/{model}", operation_id="updateModel")
def update_model(
    project: ProjectName, model: ModelName, body: ModelPatch, response: Response, version: IfMatch, ctx: Write
) -> ModelOut:
    """Update the description of a model."""
    return _model_out(ctx, ctx.project_service(Models).update(model, version, body.description), response)


@router.delete("/{model}", operation_id="deleteModel")
def delete_model(
    project: ProjectName,
    model: ModelName,
    version: IfMatch,
    ctx: Write,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> DeletionOut:
    """Delete a model with all versions; a conflict while an endpoint serves a version."""
    if cascade:
        ctx.require(*CASCADE_PERMISSIONS)
        return deletion_out(ctx.project_service(CascadeDeletions).delete_model(model, version, dry_run=dry_run))
    return deletion_out(ctx.project_service(Models).delete(model, version, dry_run=dry_run))


@router.get("/{model}/versions", operation_id="listModelVersions")
def list_model_versions(
    project: ProjectName, model: ModelName, ctx: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[ModelVersionOut]:
    """List a model's versions, newest first, with the single values of their evaluations and without lineage."""
    models, pending = ctx.project_service(Models), ctx.project_service(Erasures).pending_by_descendant()
    return paginate(
        lambda count, after: models.versions(model, count, after),
        limit,
        cursor,
        lambda version: version.id,
        lambda version: _version_out(models, model, version, pending),
    )


@router.get("/{model}/versions/{number}", operation_id="getModelVersion")
def get_model_version(project: ProjectName, model: ModelName, number: VersionNumber, ctx: Read) -> ModelVersionOut:
    """Get a model version with its evaluation, files and lineage."""
    models, pending = ctx.project_service(Models), ctx.project_service(Erasures).pending_by_descendant()
    return _version_out(models, model, models.version(model, number), pending, detailed=True)


@router.delete("/{model}/versions/{number}", operation_id="deleteModelVersion")
def delete_model_version(
    project: ProjectName,
    model: ModelName,
    number: VersionNumber,
    ctx: Write,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> DeletionOut:
    """Delete a version; a conflict while an alias or an endpoint uses it."""
    if cascade:
        ctx.require(*CASCADE_PERMISSIONS)
        return deletion_out(ctx.project_service(CascadeDeletions).delete_model_version(model, number, dry_run=dry_run))
    return deletion_out(ctx.project_service(Models).delete_version(model, number, dry_run=dry_run))


@router.get("/{model}/versions/{number}/report", operation_id="getModelReport", response_class=HTMLResponse)
def get_model_report(project: ProjectName, model: ModelName, number: VersionNumber, ctx: Read) -> HTMLResponse:
    """Get the training and evaluation report as a self-contained HTML page."""
    stream, _ = ctx.project_service(Models).open_file(model, number, "report.html")
    with stream:
        return html_page(stream.read())


@router.get(
    "/{model}/versions/{number}/files/{path:path}", operation_id="getModelFile", response_class=StreamingResponse
)
def get_model_file(
    project: ProjectName, model: ModelName, number: VersionNumber, path: ArtifactPath, ctx: Read
) -> StreamingResponse:
    """Download a file of the version's manifest."""
    stream, length = ctx.project_service(Models).open_file(model, number, path)
    headers = {"Content-Length": str(length), "Content-Disposition": "attachment"}
    return StreamingResponse(_chunks(stream), media_type="application/octet-stream", headers=headers)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


@router.put("/{model}/aliases/{alias}", operation_id="putModelAlias")
def put_model_alias(
    project: ProjectName,
    model: ModelName,
    alias: Annotated[AliasName, Path(description="name of the alias; not a number")],
    body: AliasIn,
    response: Response,
    ctx: Write,
) -> ModelOut:
    """Set an alias to a candidate version; endpoints that use the alias roll out."""
    return _model_out(ctx, ctx.project_service(Models).put_alias(model, alias, body.version), response)


@router.delete("/{model}/aliases/{alias}", operation_id="deleteModelAlias")
def delete_model_alias(
    project: ProjectName,
    model: ModelName,
    alias: Annotated[Identifier, Path(description="name of the alias")],
    response: Response,
    ctx: Write,
) -> ModelOut:
    """Delete an alias."""
    return _model_out(ctx, ctx.project_service(Models).delete_alias(model, alias), response)
