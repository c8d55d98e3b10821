"""Datasets and their versions; how bytes get there is in ``uploads``."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from windlass.domain.datasets import CleaningStep, Split, VersionState
from windlass.domain.errors import NotFoundError
from windlass.domain.specs import Task
from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import (
    Flow,
    Listing,
    Request,
    Scope,
    built,
    delete,
    get,
    listed,
    patch,
    poll,
    post,
    ref,
    rows,
    text,
)
from windlass.sdk._core import call as ask
from windlass.sdk.resources.uploads import abort_upload, get_upload, upload_files
from windlass.wire.datasets import (
    CleanIn,
    DatasetIn,
    DatasetOut,
    DatasetPatch,
    DatasetReportOut,
    DatasetVersionOut,
)


def create_dataset(scope: Scope, name: str, task: Task | str, *, description: str = "") -> Flow[DatasetOut]:
    """Create a named dataset without a version."""
    return post(scope.path("datasets"), DatasetOut, built(DatasetIn, name=name, task=task, description=description))


def list_datasets(scope: Scope) -> Listing[DatasetOut]:
    """Iterate over the project's datasets."""
    return listed(scope.path("datasets"), DatasetOut)


def get_dataset(scope: Scope, name: str) -> Flow[DatasetOut]:
    """Read a dataset."""
    return get(scope.path("datasets", name), DatasetOut)


def update_dataset(scope: Scope, name: str, *, description: str, if_match: int | None = None) -> Flow[DatasetOut]:
    """Change the description."""
    return patch(scope.path("datasets", name), DatasetOut, built(DatasetPatch, description=description), if_match)


def delete_dataset(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete a dataset with its versions."""
    return delete(scope.path("datasets", name), if_match)


def list_versions(scope: Scope, name: str) -> Listing[DatasetVersionOut]:
    """Iterate over a dataset's versions."""
    return listed(scope.path("datasets", name, "versions"), DatasetVersionOut)


def get_version(scope: Scope, reference: str) -> Flow[DatasetVersionOut]:
    """Read a version: ``name@number``, or ``name`` for the newest in any state."""
    name, number = ref(reference)
    if number is None:
        return (yield from _newest(scope, name))
    return (yield from get(scope.path("datasets", name, "versions", str(number)), DatasetVersionOut))


def delete_version(scope: Scope, reference: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete one version, named ``name@number``."""
    where = yield from _where(scope, reference)
    yield from delete(where, if_match)


def get_report(scope: Scope, reference: str) -> Flow[DatasetReportOut]:
    """Read the validation report of a version; of the newest without a number."""
    where = yield from _where(scope, reference)
    return (yield from get(f"{where}/report", DatasetReportOut))


def get_report_html(scope: Scope, reference: str) -> Flow[str]:
    """Read the validation report as a page."""
    where = yield from _where(scope, reference)
    return (yield from ask(Request("GET", f"{where}/report", headers={"Accept": "text/html"}), text))


def list_rows(scope: Scope, reference: str, *, split: Split | str = Split.TRAIN) -> Listing[dict[str, Any]]:
    """Iterate over the rows of one split of a version, named ``name@number``."""
    name, number = ref(reference)
    if number is None:
        raise NotFoundError(f"{reference}: which version?", hint=f"write {name}@NUMBER")
    return rows(scope.path("datasets", name, "versions", str(number), "rows"), {"split": Split(split).value})


def clean_dataset(
    scope: Scope,
    reference: str,
    steps: Sequence[CleaningStep | Mapping[str, Any]],
    *,
    allow_overlap: bool = False,
) -> Flow[DatasetVersionOut]:
    """Make a new version from one (the newest ready one without a number) by steps carried out in order."""
    name, number = ref(reference)
    if number is None:
        number = (yield from get_dataset(scope, name)).latest
    if number is None:
        raise NotFoundError(f"dataset {name} has no ready version", hint=f"look at `windlass dataset report {name}`")
    plain = [step.model_dump() if isinstance(step, BaseModel) else dict(step) for step in steps]
    where = scope.path("datasets", name, "versions", str(number)) + ":clean"
    return (yield from post(where, DatasetVersionOut, built(CleanIn, steps=plain, allow_overlap=allow_overlap)))


def wait_dataset(scope: Scope, reference: str, *, timeout: float | None = None) -> Flow[DatasetVersionOut]:
    """Wait until a version is processed; look at its ``state``.

    Raises:
        WaitTimeoutError: after ``timeout`` seconds.
    """
    version = yield from get_version(scope, reference)
    return (
        yield from poll(
            lambda: get_version(scope, version.ref),
            lambda seen: seen.state is not VersionState.PROCESSING,
            timeout,
            f"dataset version {version.ref}",
        )
    )


def _where(scope: Scope, reference: str) -> Flow[str]:
    name, number = ref(reference)
    if number is None:
        number = (yield from _newest(scope, name)).number
    return scope.path("datasets", name, "versions", str(number))


def _newest(scope: Scope, name: str) -> Flow[DatasetVersionOut]:
    versions = yield from list_versions(scope, name).all()
    if not versions:
        raise NotFoundError(
            f"dataset {name} has no version", hint=f"send files with `windlass dataset upload {name} FILE`"
        )
    return max(versions, key=lambda version: version.number)


class Datasets(Resource):
    """Datasets of the project."""

    create = call(create_dataset)
    list = listing(list_datasets)
    get = call(get_dataset)
    update = call(update_dataset)
    delete = call(delete_dataset)
    versions = listing(list_versions)
    version = call(get_version)
    delete_version = call(delete_version)
    report = call(get_report)
    report_html = call(get_report_html)
    rows = listing(list_rows)
    clean = call(clean_dataset)
    wait = call(wait_dataset)
    upload = call(upload_files)
    get_upload = call(get_upload)
    abort_upload = call(abort_upload)


class AsyncDatasets(AsyncResource):
    """Datasets of the project."""

    create = async_call(create_dataset)
    list = async_listing(list_datasets)
    get = async_call(get_dataset)
    update = async_call(update_dataset)
    delete = async_call(delete_dataset)
    versions = async_listing(list_versions)
    version = async_call(get_version)
    delete_version = async_call(delete_version)
    report = async_call(get_report)
    report_html = async_call(get_report_html)
    rows = async_listing(list_rows)
    clean = async_call(clean_dataset)
    wait = async_call(wait_dataset)
    upload = async_call(upload_files)
    get_upload = async_call(get_upload)
    abort_upload = async_call(abort_upload)
