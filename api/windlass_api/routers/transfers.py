"""Routes by which the processes of runs, data tasks, imports and model servers get presigned requests for their files.

The same operations on two paths: with the token of a run, and with a transfer token.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from windlass.domain.errors import NotFoundError
from windlass.domain.transfers import (
    CompleteRequest,
    EmptyReply,
    FileReply,
    FileRequest,
    FileUploadReply,
    FolderReply,
    FolderRequest,
    PartsReply,
    PartsRequest,
    TransferGrant,
    UriRequest,
    UrisReply,
)
from windlass.services.transfers import Transfers, run_grant
from windlass.wire.runs import RUNS_PATH, TRANSFERS_PATH
from windlass_api import routing
from windlass_api.dependencies import get_app_context

router = routing.router(include_in_schema=False)


def get_transfers_service(request: Request) -> Transfers:
    """Return the service of the token that was authenticated.

    Raises:
        NotFoundError: the request was authenticated otherwise.
    """
    deps = get_app_context(request).deps
    run, grant = request.scope.get("windlass.run"), request.scope.get("windlass.transfer_grant")
    if isinstance(grant, TransferGrant):
        return Transfers(deps, grant)
    if isinstance(run, str) and run == request.path_params.get("run"):
        return Transfers(deps, run_grant(deps, run))
    raise NotFoundError("these routes need the token of a run, or a transfer token")


Service = Annotated[Transfers, Depends(get_transfers_service)]


def open_folder(body: UriRequest, transfers: Service) -> FolderReply:
    """Read a published folder."""
    return transfers.open_folder(body.uri)


def open_file(body: UriRequest, transfers: Service) -> FileReply:
    """Read one file."""
    return transfers.open_file(body.uri)


def list_folders(body: UriRequest, transfers: Service) -> UrisReply:
    """List the folders that are published below a URI."""
    return UrisReply(uris=transfers.published(body.uri))


def delete(body: UriRequest, transfers: Service) -> EmptyReply:
    """Delete all files at and below a URI."""
    transfers.delete(body.uri)
    return EmptyReply()


def begin(body: UriRequest, transfers: Service) -> EmptyReply:
    """Check that a folder may be published."""
    transfers.begin(body.uri)
    return EmptyReply()


def write_file(body: FileRequest, transfers: Service) -> FileUploadReply:
    """Store a file of a folder."""
    return transfers.write_file(body.uri, body.file)


def write_parts(body: PartsRequest, transfers: Service) -> PartsReply:
    """Store parts of a file."""
    return PartsReply(parts=transfers.write_parts(body.uri, body.file, body.upload, body.numbers))


def complete_file(body: CompleteRequest, transfers: Service) -> EmptyReply:
    """Store a file from its parts."""
    transfers.complete_file(body.uri, body.file, body.upload, body.etags)
    return EmptyReply()


def commit(body: FolderRequest, transfers: Service) -> EmptyReply:
    """Publish a folder whose files are stored."""
    transfers.commit(body.uri, body.manifest)
    return EmptyReply()


_OPERATIONS: dict[str, Callable[..., object]] = {
    "open-folder": open_folder,
    "open-file": open_file,
    "list": list_folders,
    "delete": delete,
    "begin": begin,
    "write-file": write_file,
    "write-parts": write_parts,
    "complete-file": complete_file,
    "commit": commit,
}
for _prefix in (TRANSFERS_PATH, f"{RUNS_PATH}/{{run}}/transfers"):
    for _operation, _route in _OPERATIONS.items():
        # without defaults, since pods of an earlier version refuse fields that they do not know
        router.add_api_route(f"{_prefix}:{_operation}", _route, methods=["POST"], response_model_exclude_defaults=True)
