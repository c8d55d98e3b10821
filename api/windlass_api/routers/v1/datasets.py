"""Routes of datasets, their versions and uploads."""

import io
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import Split, UploadFile
from windlass.domain.errors import BadRequestError
from windlass.domain.ids import Number
from windlass.domain.projects import Permission
from windlass.services.datasets import Datasets
from windlass.services.uploads import Uploads
from windlass.wire.base import Page
from windlass.wire.datasets import (
    CleanIn,
    DatasetIn,
    DatasetOut,
    DatasetPatch,
    DatasetReportOut,
    DatasetVersionOut,
    UploadFileOut,
    UploadIn,
    UploadOut,
)
from windlass_api.dependencies import CursorText, IfMatch, Limit, Once, Visit, inside
from windlass_api.mapping import dataset_out, dataset_version_out, upload_out
from windlass_api.paging import paged
from windlass_api.routers.v1.pages import html_page

router = APIRouter(prefix="/v1/projects/{project}")

_PIECE = 4 << 20
"""Bytes of an upload that are stored, and synced to disk, at a time."""

Read = Annotated[Visit, inside(Permission.DATASETS_READ)]
Write = Annotated[Visit, inside(Permission.DATASETS_WRITE)]


@router.post("/datasets", status_code=201, operation_id="createDataset", tags=["datasets"])
def create_dataset(project: str, body: DatasetIn, response: Response, visit: Write) -> DatasetOut:
    """Create an empty dataset; versions come by upload."""
    made = visit.use(Datasets).create(body.name, body.task, body.description)
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{made.name}"
    return dataset_out(made, None, response)


@router.get("/datasets", operation_id="listDatasets", tags=["datasets"])
def list_datasets(project: str, visit: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[DatasetOut]:
    """List datasets, newest first."""
    datasets = visit.use(Datasets)
    return paged(datasets.page, limit, cursor, lambda one: one.id, lambda one: dataset_out(one, datasets.latest(one)))


@router.get("/datasets/{dataset}", operation_id="getDataset", tags=["datasets"])
def get_dataset(project: str, dataset: str, response: Response, visit: Read) -> DatasetOut:
    """Show a dataset."""
    datasets = visit.use(Datasets)
    found = datasets.get(dataset)
    return dataset_out(found, datasets.latest(found), response)


@router.patch("/datasets/{dataset}", operation_id="updateDataset", tags=["datasets"])
def update_dataset(
    project: str, dataset: str, body: DatasetPatch, response: Response, version: IfMatch, visit: Write
) -> DatasetOut:
    """Change a dataset's description."""
    datasets = visit.use(Datasets)
    saved = datasets.update(dataset, version, body.description)
    return dataset_out(saved, datasets.latest(saved), response)


@router.delete("/datasets/{dataset}", status_code=204, operation_id="deleteDataset", tags=["datasets"])
def delete_dataset(project: str, dataset: str, version: IfMatch, visit: Write) -> None:
    """Remove a dataset with all versions; not while a live job trains on one."""
    visit.use(Datasets).delete(dataset, version)


@router.get("/datasets/{dataset}/versions", operation_id="listDatasetVersions", tags=["datasets"])
def list_dataset_versions(
    project: str, dataset: str, visit: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[DatasetVersionOut]:
    """List a dataset's versions, newest first."""
    datasets = visit.use(Datasets)
    return paged(
        lambda count, after: datasets.versions(dataset, count, after),
        limit,
        cursor,
        lambda version: version.id,
        lambda version: dataset_version_out(dataset, version),
    )


@router.get("/datasets/{dataset}/versions/{number}", operation_id="getDatasetVersion", tags=["datasets"])
def get_dataset_version(
    project: str, dataset: str, number: Number, response: Response, visit: Read
) -> DatasetVersionOut:
    """Show one version."""
    return dataset_version_out(dataset, visit.use(Datasets).version(dataset, number), response)


@router.get(
    "/datasets/{dataset}/versions/{number}/report",
    operation_id="getDatasetReport",
    tags=["datasets"],
    responses={200: {"content": {"text/html": {}}}},
    response_model=DatasetReportOut,
)
def get_dataset_report(
    project: str, dataset: str, number: Number, visit: Read, accept: Annotated[str, Header()] = "application/json"
) -> DatasetReportOut | HTMLResponse:
    """The validation report: JSON, or a page for people with ``Accept: text/html``."""
    version, report = visit.use(Datasets).report(dataset, number)
    if "text/html" in accept:
        with visit.backing.store.open(f"{version.prefix}/report.html") as stream:
            return html_page(stream.read())
    return DatasetReportOut(ref=f"{dataset}@{number}", state=version.state, report=report)


@router.get("/datasets/{dataset}/versions/{number}/rows", operation_id="listDatasetRows", tags=["datasets"])
def list_dataset_rows(
    project: str,
    dataset: str,
    number: Number,
    visit: Read,
    split: Split = Split.TRAIN,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[dict[str, Any]]:
    """Rows of a split in the internal form."""
    rows, following = visit.use(Datasets).rows(dataset, number, split, limit, cursor)
    return Page(items=rows, next_cursor=following)


@router.post(
    "/datasets/{dataset}/versions/{number}:clean",
    status_code=202,
    operation_id="cleanDatasetVersion",
    tags=["datasets"],
)
def clean_dataset_version(
    project: str, dataset: str, number: Number, body: CleanIn, response: Response, once: Once, visit: Write
) -> DatasetVersionOut:
    """Make a new version by recorded cleaning steps."""
    datasets = visit.use(Datasets)
    made = datasets.clean(
        dataset,
        number,
        tuple(body.steps),
        allow_overlap=body.allow_overlap,
        once=once,
        unfinished=visit.wiring.limits.unfinished_versions,
    )
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{dataset}/versions/{made.number}"
    return dataset_version_out(dataset, made, response)


@router.delete(
    "/datasets/{dataset}/versions/{number}", status_code=204, operation_id="deleteDatasetVersion", tags=["datasets"]
)
def delete_dataset_version(project: str, dataset: str, number: Number, version: IfMatch, visit: Write) -> None:
    """Remove a version and its files."""
    visit.use(Datasets).delete_version(dataset, number, version)


def _uploads(visit: Visit) -> Uploads:
    limits = visit.wiring.limits
    return visit.use(
        Uploads,
        largest=limits.upload_bytes,
        kept=timedelta(hours=limits.upload_hours),
        unfinished=limits.unfinished_versions,
    )


@router.post("/uploads", status_code=201, operation_id="createUpload", tags=["uploads"])
def create_upload(project: str, body: UploadIn, response: Response, once: Once, visit: Write) -> UploadOut:
    """Open an upload: announce every file with its length and sha256, then PUT each to its url, then commit."""
    files = tuple(
        UploadFile(name=file.name, entry=FileEntry(bytes=file.bytes, sha256=file.sha256), split=file.split)
        for file in body.files
    )
    uploads = _uploads(visit)
    made = uploads.open(body.dataset, files, body.options, once)
    response.headers["Location"] = f"/v1/projects/{project}/uploads/{made.id}"
    return upload_out(project, *uploads.get(made.id))


@router.get("/uploads/{upload}", operation_id="getUpload", tags=["uploads"])
def get_upload(project: str, upload: str, visit: Read) -> UploadOut:
    """Show an upload with how much of each file has arrived."""
    return upload_out(project, *_uploads(visit).get(upload))


@router.put(
    "/uploads/{upload}/files/{name}",
    operation_id="putUploadFile",
    tags=["uploads"],
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def put_upload_file(
    project: str,
    upload: str,
    name: str,
    request: Request,
    visit: Write,
    offset: Annotated[int, Header(alias="Upload-Offset", ge=0, le=1 << 40)] = 0,
) -> UploadFileOut:
    """Send a file's bytes from ``Upload-Offset`` on. What arrives before a cut is kept: ask, and go on from there."""
    uploads = _uploads(visit)
    key, due = await run_in_threadpool(uploads.target, upload, name)
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and offset + int(announced) > due.bytes:
        raise BadRequestError(
            f"{offset} + {announced} bytes are more than the {due.bytes} that were announced",
            hint="send the file as announced, or open a new upload",
        )
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= _PIECE:
            offset = await run_in_threadpool(uploads.append, upload, key, due, offset, io.BytesIO(bytes(piece)))
            piece.clear()
    if piece:
        offset = await run_in_threadpool(uploads.append, upload, key, due, offset, io.BytesIO(bytes(piece)))
    found, dataset, made = await run_in_threadpool(uploads.get, upload)
    return next(file for file in upload_out(project, found, dataset, made).files if file.name == name)


@router.post("/uploads/{upload}:commit", status_code=202, operation_id="commitUpload", tags=["uploads"])
def commit_upload(project: str, upload: str, response: Response, visit: Write) -> DatasetVersionOut:
    """Check length and sha256 of every file and make a dataset version, which is validated next."""
    uploads = _uploads(visit)
    made = uploads.commit(upload)
    _, dataset, _ = uploads.get(upload)
    response.headers["Location"] = f"/v1/projects/{project}/datasets/{dataset.name}/versions/{made.number}"
    return dataset_version_out(dataset.name, made, response)


@router.delete("/uploads/{upload}", status_code=204, operation_id="abortUpload", tags=["uploads"])
def abort_upload(project: str, upload: str, visit: Write) -> None:
    """Close an open upload and drop its bytes."""
    _uploads(visit).abort(upload)
