"""Routes of erasures."""

from typing import Annotated

from fastapi import Response
from pydantic import ValidationError

from windlass.domain.erasures import Erasure, ErasureQuery
from windlass.domain.errors import InvalidError
from windlass.domain.projects import Permission
from windlass.services.erasures import Erasures
from windlass.wire.base import Page
from windlass.wire.erasures import (
    ErasureCertificateOut,
    ErasureDescendantOut,
    ErasureIn,
    ErasureOut,
    SearchedVersionOut,
)
from windlass_api import routing
from windlass_api.dependencies import CASCADE_PERMISSIONS, IfMatch, RequestContext, require_project
from windlass_api.mapping import set_etag
from windlass_api.paging import paginate
from windlass_api.parameters import CursorText, DatasetName, ErasureId, Limit, ProjectName

router = routing.router(prefix="/v1/projects/{project}", tags=["erasures"])

Read = Annotated[RequestContext, require_project(Permission.DATASETS_READ)]
Write = Annotated[RequestContext, require_project(Permission.DATASETS_WRITE)]


def erasure_out(erasure: Erasure, response: Response | None = None) -> ErasureOut:
    """Map an erasure without its query."""
    set_etag(response, erasure.version)
    searched = {"number", "rows", "matches", "files_deleted"}
    same = {"id", "state", "problem", "created_by", "created_at", "confirmed_by", "confirmed_at", "erased_at"}
    return ErasureOut(
        dataset=erasure.dataset_name,
        rows=sum(version.matches or 0 for version in erasure.versions),
        versions=[SearchedVersionOut(**version.model_dump(include=searched)) for version in erasure.versions],
        new_version=erasure.new_version.number if erasure.new_version else None,
        descendants=[ErasureDescendantOut(**each.model_dump()) for each in erasure.descendants],
        **erasure.model_dump(include={*same, "completed_at", "version"}),
    )


@router.post("/datasets/{dataset}:erase", status_code=202, operation_id="startErasure")
def start_erasure(
    project: ProjectName, dataset: DatasetName, body: ErasureIn, response: Response, ctx: Write
) -> ErasureOut:
    """Search all versions of a dataset for the rows of a data subject; nothing is erased before the confirmation."""
    try:
        query = ErasureQuery(contains=tuple(body.contains), rows=tuple(body.rows))
    except ValidationError as error:
        problem = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise InvalidError.field("/contains", problem) from error
    created = ctx.project_service(Erasures).start(dataset, query)
    response.headers["Location"] = f"/v1/projects/{project}/erasures/{created.id}"
    return erasure_out(created, response)


@router.get("/erasures", operation_id="listErasures")
def list_erasures(project: ProjectName, ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[ErasureOut]:
    """List erasures, newest first."""
    return paginate(ctx.project_service(Erasures).page, limit, cursor, lambda item: item.id, erasure_out)


@router.get("/erasures/{erasure}", operation_id="getErasure")
def get_erasure(project: ProjectName, erasure: ErasureId, response: Response, ctx: Read) -> ErasureOut:
    """Get an erasure."""
    return erasure_out(ctx.project_service(Erasures).get(erasure), response)


@router.get("/erasures/{erasure}/certificate", operation_id="getErasureCertificate")
def get_erasure_certificate(project: ProjectName, erasure: ErasureId, ctx: Read) -> ErasureCertificateOut:
    """Get the certificate of an erasure; it changes until the last descendant is gone."""
    return ErasureCertificateOut(certificate=ctx.project_service(Erasures).certificate(erasure))


@router.post("/erasures/{erasure}:confirm", status_code=202, operation_id="confirmErasure")
def confirm_erasure(
    project: ProjectName, erasure: ErasureId, response: Response, version: IfMatch, ctx: Write
) -> ErasureOut:
    """Erase the rows that were found: create a version without them, then delete all versions that have them."""
    ctx.require(*CASCADE_PERMISSIONS)
    return erasure_out(ctx.project_service(Erasures).confirm(erasure, version), response)


@router.post("/erasures/{erasure}:cancel", operation_id="cancelErasure")
def cancel_erasure(project: ProjectName, erasure: ErasureId, response: Response, ctx: Write) -> ErasureOut:
    """Cancel an erasure that has not been confirmed; its search keys are deleted."""
    return erasure_out(ctx.project_service(Erasures).cancel(erasure), response)
