"""Routes of datasets, dataset versions and uploads."""

from functools import partial
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import Split, UploadFile
from windlass.domain.projects import Permission
from windlass.domain.text import TextConstraints
from windlass.services.cascades import CascadeDeletions
from windlass.services.dataset_rows import RowFilter
from windlass.services.datasets import Datasets
from windlass.services.uploads import Uploads
from windlass.wire.base import DeletionOut, Page
from windlass.wire.datasets import (
    CleanIn,
    DatasetIn,
    DatasetOut,
    DatasetPatch,
    DatasetReportOut,
    DatasetRowsPage,
    DatasetVersionOut,
    TruncatedCellOut,
    UploadFileOut,
    UploadIn,
    UploadOut,
    UploadPartOut,
    UploadPartsOut,
)
from windlass_api import routing
from windlass_api.dependencies import CASCADE_PERMISSIONS, IdempotencyKey, IfMatch, RequestContext, require_project
from windlass_api.file_bodies import BINARY_BODY, append_body
from windlass_api.mapping import dataset_out, dataset_version_out, deletion_out, upload_out
from windlass_api.paging import paginate
from windlass_api.parameters import (
    Accept,
    Cascade,
    CursorText,
    DatasetName,
    DryRun,
    Limit,
    ProjectName,
    UploadFileName,
    UploadId,
    UploadOffset,
    VersionNumber,
)
from windlass_api.routers.v1.pages import html_page

router = routing.router(prefix="/v1/projects/{project}")

Read = Annotated[RequestContext, require_project(Permission.DATASETS_READ)]
Write = Annotated[RequestContext, require_project(Permission.DATASETS_WRITE)]
RowText = Annotated[str, TextConstraints(max_length=1000, min_length=1, multiline=True)]


@router.post("/datasets", status_code=201, operation_id="createDataset", tags=["datasets"])
def create_dataset(project: ProjectName, body: DatasetIn, response: Response, ctx: Write) -> DatasetOut:
    """Create an empty dataset; an upload adds a version."""
    purposes = tuple(sorted(set(body.purposes)))
    datasets = ctx.project_service(Datasets)
    created = datasets.create(body.name, body.task, body.description, purposes, body.consent_until)
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{created.name}"
    return dataset_out(created, None, response)


@router.get("/datasets", operation_id="listDatasets", tags=["datasets"])
def list_datasets(project: ProjectName, ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[DatasetOut]:
    """List datasets, newest first."""
    datasets = ctx.project_service(Datasets)
    return paginate(
        datasets.page, limit, cursor, lambda item: item.id, lambda item: dataset_out(item, datasets.latest(item))
    )


@router.get("/datasets/{dataset}", operation_id="getDataset", tags=["datasets"])
def get_dataset(project: ProjectName, dataset: DatasetName, response: Response, ctx: Read) -> DatasetOut:
    """Get a dataset."""
    datasets = ctx.project_service(Datasets)
    item = datasets.get(dataset)
    return dataset_out(item, datasets.latest(item), response)


@router.patch("/datasets/{dataset}", operation_id="updateDataset", tags=["datasets"])
def update_dataset(
    project: ProjectName, dataset: DatasetName, body: DatasetPatch, response: Response, version: IfMatch, ctx: Write
) -> DatasetOut:
    """Update the description, the purposes or the end of the consent of a dataset."""
    datasets = ctx.project_service(Datasets)
    changes = body.model_dump(exclude_unset=True)
    if "purposes" in changes:
        changes["purposes"] = tuple(sorted(set(body.purposes)))
    saved = datasets.update(dataset, version, changes)
    return dataset_out(saved, datasets.latest(saved), response)


@router.delete("/datasets/{dataset}", operation_id="deleteDataset", tags=["datasets"])
def delete_dataset(
    project: ProjectName,
    dataset: DatasetName,
    version: IfMatch,
    ctx: Write,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> DeletionOut:
    """Delete a dataset with all versions; a conflict while an active job uses it."""
    if cascade:
        ctx.require(*CASCADE_PERMISSIONS)
        return deletion_out(ctx.project_service(CascadeDeletions).delete_dataset(dataset, version, dry_run=dry_run))
    return deletion_out(ctx.project_service(Datasets).delete(dataset, version, dry_run=dry_run))


@router.get("/datasets/{dataset}/versions", operation_id="listDatasetVersions", tags=["datasets"])
def list_dataset_versions(
    project: ProjectName, dataset: DatasetName, ctx: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[DatasetVersionOut]:
    """List a dataset's versions, newest first."""
    datasets = ctx.project_service(Datasets)
    return paginate(
        lambda count, after: datasets.versions(dataset, count, after),
        limit,
        cursor,
        lambda version: version.id,
        lambda version: dataset_version_out(dataset, version),
    )


@router.get("/datasets/{dataset}/versions/{number}", operation_id="getDatasetVersion", tags=["datasets"])
def get_dataset_version(
    project: ProjectName, dataset: DatasetName, number: VersionNumber, response: Response, ctx: Read
) -> DatasetVersionOut:
    """Get a dataset version."""
    return dataset_version_out(dataset, ctx.project_service(Datasets).version(dataset, number), response)


@router.get(
    "/datasets/{dataset}/versions/{number}/report",
    operation_id="getDatasetReport",
    tags=["datasets"],
    responses={200: {"content": {"text/html": {}}}},
    response_model=DatasetReportOut,
)
def get_dataset_report(
    project: ProjectName, dataset: DatasetName, number: VersionNumber, ctx: Read, accept: Accept = "application/json"
) -> DatasetReportOut | HTMLResponse:
    """Get the validation report as JSON, or as HTML with ``Accept: text/html``."""
    datasets = ctx.project_service(Datasets)
    if "text/html" in accept:
        return html_page(datasets.report_html(dataset, number))
    version, report = datasets.report(dataset, number)
    return DatasetReportOut(ref=f"{dataset}@{number}", state=version.state, report=report)


def _row_filter(
    label: Annotated[RowText | None, Query(description="only rows with exactly this label")] = None,
    text: Annotated[RowText | None, Query(description="only rows with a value that contains this, in any case")] = None,
) -> RowFilter:
    return RowFilter(label, text or "")


RowFilterQuery = Annotated[RowFilter, Depends(_row_filter)]


@router.get("/datasets/{dataset}/versions/{number}/rows", operation_id="listDatasetRows", tags=["datasets"])
def list_dataset_rows(
    project: ProjectName,
    dataset: DatasetName,
    number: VersionNumber,
    ctx: Read,
    wanted: RowFilterQuery,
    split: Annotated[Split, Query(description="split of the rows")] = Split.TRAIN,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> DatasetRowsPage:
    """List the rows of a split in the internal format. A page has a maximum size; long texts are truncated.

    With a filter a page may be empty although `next_cursor` leads to more rows: a request reads a part of the rows.
    """
    page = ctx.project_service(Datasets).rows(dataset, number, split, limit, cursor, wanted)
    truncated = [
        TruncatedCellOut(item=cell.item, pointer=cell.pointer, characters=cell.characters) for cell in page.truncated
    ]
    return DatasetRowsPage(items=page.rows, next_cursor=page.next_cursor, truncated=truncated)


@router.post(
    "/datasets/{dataset}/versions/{number}:clean",
    status_code=202,
    operation_id="cleanDatasetVersion",
    tags=["datasets"],
)
def clean_dataset_version(
    project: ProjectName,
    dataset: DatasetName,
    number: VersionNumber,
    body: CleanIn,
    response: Response,
    idempotency_key: IdempotencyKey,
    ctx: Write,
) -> DatasetVersionOut:
    """Create a new version by applying cleaning steps."""
    datasets = ctx.project_service(Datasets)
    created = datasets.clean(
        dataset,
        number,
        tuple(body.steps),
        allow_overlap=body.allow_overlap,
        idempotency_key=idempotency_key,
    )
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{dataset}/versions/{created.number}"
    return dataset_version_out(dataset, created, response)


@router.delete("/datasets/{dataset}/versions/{number}", operation_id="deleteDatasetVersion", tags=["datasets"])
def delete_dataset_version(
    project: ProjectName,
    dataset: DatasetName,
    number: VersionNumber,
    version: IfMatch,
    ctx: Write,
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> DeletionOut:
    """Delete a dataset version and its files; a conflict while an active job or a new version uses it."""
    if cascade:
        ctx.require(*CASCADE_PERMISSIONS)
        deletions = ctx.project_service(CascadeDeletions)
        return deletion_out(deletions.delete_dataset_version(dataset, number, version, dry_run=dry_run))
    datasets = ctx.project_service(Datasets)
    return deletion_out(datasets.delete_version(dataset, number, version, dry_run=dry_run))


@router.post("/uploads", status_code=201, operation_id="createUpload", tags=["uploads"])
def create_upload(
    project: ProjectName, body: UploadIn, response: Response, idempotency_key: IdempotencyKey, ctx: Write
) -> UploadOut:
    """Create an upload: declare each file with length and sha256, PUT each file to its url, then commit."""
    files = tuple(
        UploadFile(name=file.name, entry=FileEntry(bytes=file.bytes, sha256=file.sha256), split=file.split)
        for file in body.files
    )
    uploads = ctx.project_service(Uploads)
    created = uploads.open(body.dataset, files, body.options, idempotency_key)
    response.headers["Location"] = f"/v1/projects/{project}/uploads/{created.id}"
    return upload_out(project, *uploads.get(created.id), takes_parts=uploads.takes_parts)


@router.get("/uploads/{upload}", operation_id="getUpload", tags=["uploads"])
def get_upload(project: ProjectName, upload: UploadId, ctx: Read) -> UploadOut:
    """Get an upload with the received bytes of each file."""
    uploads = ctx.project_service(Uploads)
    return upload_out(project, *uploads.get(upload), takes_parts=uploads.takes_parts)


@router.put(
    "/uploads/{upload}/files/{name}",
    operation_id="putUploadFile",
    tags=["uploads"],
    openapi_extra=BINARY_BODY,
)
async def put_upload_file(
    project: ProjectName,
    upload: UploadId,
    name: UploadFileName,
    request: Request,
    ctx: Write,
    offset: UploadOffset = 0,
) -> UploadFileOut:
    """Upload a file's bytes from ``Upload-Offset``. After a disconnect, get the upload and resume at ``received``."""
    uploads = ctx.project_service(Uploads)
    key, declared = await run_in_threadpool(uploads.target, upload, name)
    hint = "send the declared file, or create a new upload"
    await append_body(request, declared, offset, partial(uploads.append, upload, key, declared), hint)
    found = await run_in_threadpool(uploads.get, upload)
    stored = upload_out(project, *found, takes_parts=uploads.takes_parts)
    return next(file for file in stored.files if file.name == name)


@router.post("/uploads/{upload}/files/{name}:sign-parts", operation_id="signUploadParts", tags=["uploads"])
def sign_upload_parts(project: ProjectName, upload: UploadId, name: UploadFileName, ctx: Write) -> UploadPartsOut:
    """Get URLs that accept the next parts of a file. A conflict where the object store is not reachable for clients."""
    parts = ctx.project_service(Uploads).sign_parts(upload, name)
    return UploadPartsOut(
        parts=[
            UploadPartOut(offset=part.offset, bytes=part.bytes, url=part.put.url, headers=part.put.headers)
            for part in parts
        ]
    )


@router.post("/uploads/{upload}:commit", status_code=202, operation_id="commitUpload", tags=["uploads"])
def commit_upload(project: ProjectName, upload: UploadId, response: Response, ctx: Write) -> DatasetVersionOut:
    """Create a dataset version from the files; their sha256 and content are verified after the reply."""
    uploads = ctx.project_service(Uploads)
    created = uploads.commit(upload)
    _, dataset, _ = uploads.get(upload)
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{dataset.name}/versions/{created.number}"
    return dataset_version_out(dataset.name, created, response)


@router.delete("/uploads/{upload}", status_code=204, operation_id="abortUpload", tags=["uploads"])
def abort_upload(project: ProjectName, upload: UploadId, ctx: Write) -> None:
    """Abort an open upload and delete its data."""
    ctx.project_service(Uploads).abort(upload)
