"""Results of tasks: the first one that is published stands, and what cannot be read is a failure."""

from io import BytesIO
from pathlib import Path

import pytest

from windlass.domain.errors import ConflictError, InvalidError
from windlass.orchestration.task_result import (
    RESULT_NAME,
    is_published,
    parse_data_result,
    parse_import_result,
    publish_result,
    read_result,
)
from windlass.ports import TaskFailedError
from windlass.storage.file_transfer import FileTransfer


def publish(folder: Path, content: str, uri: str) -> None:
    """Publish a result as a process with this folder does."""
    folder.mkdir(exist_ok=True)
    (folder / RESULT_NAME).write_text(content)
    publish_result(folder, uri, FileTransfer())


def test_the_first_published_result_stands(tmp_path: Path) -> None:
    published, transfer = tmp_path / "published", FileTransfer()
    assert not is_published(published.as_uri(), tmp_path, transfer)
    publish(tmp_path / "first", "1", published.as_uri())
    assert is_published(published.as_uri(), tmp_path, transfer)
    publish(tmp_path / "second", "2", published.as_uri())
    publish(tmp_path / "first", "3", published.as_uri())
    assert (published / RESULT_NAME).read_text() == "1"


def test_a_result_is_not_lost_without_notice_where_other_files_are(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published/other").touch()
    with pytest.raises(ConflictError):
        publish(tmp_path / "first", "1", (tmp_path / "published").as_uri())


def test_a_result_beyond_the_limit_is_a_failure_and_is_not_read_whole() -> None:
    stream = BytesIO(bytes((64 << 20) + 10))
    with pytest.raises(TaskFailedError, match="larger than 67,108,864 bytes"):
        read_result(stream)
    assert stream.tell() == (64 << 20) + 1
    assert len(read_result(BytesIO(bytes(12 << 20)))) == 12 << 20


@pytest.mark.parametrize("content", [b"", b"{", b'{"accepted": "perhaps"}', b'{"refused": "no", "more": 1}', b"[]"])
def test_an_invalid_result_is_a_failure(content: bytes) -> None:
    for parse in (parse_data_result, parse_import_result):
        with pytest.raises(TaskFailedError, match="cannot be read"):
            parse(content)


def test_a_refused_source_is_invalid_with_the_reason() -> None:
    with pytest.raises(InvalidError, match="it can contain code"):
        parse_import_result(b'{"refused": "it can contain code"}')
