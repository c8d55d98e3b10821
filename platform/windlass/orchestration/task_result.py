"""The result of a task: a JSON file that its program writes before it exits.

In a pod the program also publishes it as a folder of the object store. The first result that is published stands:
Kubernetes may replace a pod whose program has ended already.
"""

import shutil
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from windlass.domain.datasets import DataResult
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError
from windlass.domain.models import ImportedModel
from windlass.ports import FolderTransfer, TaskFailedError

RESULT_NAME: Final = "result.json"
_MAX_BYTES: Final = 64 << 20


class RefusedImport(BaseModel):
    """The result of an import whose source is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    refused: str
    """The reason."""


_ImportResult = TypeAdapter[ImportedModel | RefusedImport](ImportedModel | RefusedImport)


def is_published(uri: str, work: Path, transfer: FolderTransfer) -> bool:
    """Return whether a process of the same task has published its result. ``work`` is for temporary files."""
    try:
        transfer.fetch(uri, work / "earlier-result")
    except NotFoundError:
        return False
    return True


def publish_result(work: Path, uri: str, transfer: FolderTransfer) -> None:
    """Publish ``work/result.json``, unless a process of the same task has published its result."""
    folder = work / "published-result"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(work / RESULT_NAME, folder / RESULT_NAME)
    try:
        transfer.publish(folder, uri)
    except ConflictError:
        if not is_published(uri, work, transfer):  # another file of the folder is in the way
            raise


def read_result(stream: BinaryIO) -> bytes:
    """Read a result. The program has parsed untrusted input, so its output is untrusted too.

    Raises:
        TaskFailedError: it is too large.
    """
    content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise TaskFailedError(f"the task wrote a result larger than {_MAX_BYTES:,} bytes")
    return content


def parse_data_result(content: bytes) -> DataResult:
    """Parse the result of a data task.

    Raises:
        TaskFailedError: it is not valid.
    """
    try:
        return DataResult.model_validate_json(content)
    except ValidationError as error:
        raise TaskFailedError("the data task wrote a result that cannot be read") from error


def parse_import_result(content: bytes) -> ImportedModel:
    """Parse the result of an import.

    Raises:
        InvalidError: the source is refused.
        TaskFailedError: it is not valid.
    """
    try:
        result = _ImportResult.validate_json(content)
    except ValidationError as error:
        raise TaskFailedError("the import wrote a result that cannot be read") from error
    if isinstance(result, RefusedImport):
        raise InvalidError(result.refused)
    return result
