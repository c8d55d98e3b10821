"""The embedded data processor with real child processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.factories.processes import record_of

from windlass.domain.datasets import DataRequest, DataResult, Split
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.ports import TaskFailedError

pytestmark = pytest.mark.processes
NAME = "dsv_01"


def request(folder: Path, content: bytes = b"text,label\nx,a\ny,b\n", *, waiting: bool = False) -> DataRequest:
    """A request for ``content``; with ``waiting``, it blocks until ``folder/tokenizer`` is written."""
    (folder / "upload").write_bytes(content)
    if waiting:
        os.mkfifo(folder / "tokenizer")
    return DataRequest(
        operation="ingest",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=(((folder / "upload").as_uri(), None),),
        names=("rows.csv",),
        output=(folder / "out").as_uri(),
        tokenizer=(folder / "tokenizer").as_uri() if waiting else None,
    )


def result_of(processor: EmbeddedDataProcessor, name: str = NAME) -> DataResult:
    deadline = time.monotonic() + 120
    while (result := processor.poll(name)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def pid_of(root: Path) -> int:
    return record_of(root / NAME).pid or 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "processes"


@pytest.fixture
def processor(root: Path) -> Iterator[EmbeddedDataProcessor]:
    embedded = EmbeddedDataProcessor(root)
    yield embedded
    embedded.delete(NAME)


def test_a_request_is_processed_and_deleted(tmp_path: Path, root: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path))
    result = result_of(processor)
    assert result.accepted
    assert result.rows == {Split.TRAIN: 2}
    processor.delete(NAME)
    assert list(root.iterdir()) == []
    assert (tmp_path / "out" / "train.jsonl").exists()
    with pytest.raises(NotFoundError):
        processor.poll(NAME)


def test_rejected_data_is_a_normal_result(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path, b""))
    result = result_of(processor)
    assert not result.accepted
    assert result.report.errors[0].code == "empty-file"


def test_starting_twice_starts_one_process_across_servers(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    data_request = request(tmp_path, waiting=True)
    processor.start(NAME, data_request)
    first = pid_of(root)
    processor.start(NAME, data_request)
    EmbeddedDataProcessor(root).start(NAME, data_request)
    assert pid_of(root) == first
    path = str(root / NAME / "request.json")
    running = [process.pid for process in psutil.process_iter(["cmdline"]) if path in (process.info["cmdline"] or [])]
    assert set(running) <= {first}  # it may have exited by now


def test_another_server_can_kill_a_process_it_did_not_start(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    processor.start(NAME, request(tmp_path, waiting=True))
    pid = pid_of(root)
    EmbeddedDataProcessor(root).delete(NAME)
    assert not (root / NAME).exists()
    assert not psutil.pid_exists(pid)


def test_a_process_whose_server_was_killed_before_it_stored_the_pid_is_located(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    data_request = request(tmp_path, waiting=True)
    processor.start(NAME, data_request)
    started = record_of(root / NAME)
    started.model_copy(update={"pid": None, "started": None}).save(root / NAME / "process.json")
    later = EmbeddedDataProcessor(root)
    later.start(NAME, data_request)
    assert later.poll(NAME) is None
    assert record_of(root / NAME) == started


SERVER = """
import os, signal, sys
from pathlib import Path
from windlass.domain.datasets import DataRequest
from windlass.orchestration.data_process import EmbeddedDataProcessor

os.posix_spawn = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
EmbeddedDataProcessor(Path(sys.argv[1])).start(sys.argv[2], DataRequest.model_validate_json(sys.argv[3]))
"""


def test_a_request_whose_server_was_killed_before_the_start_has_not_begun(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    data_request = request(tmp_path)
    argv = [sys.executable, "-c", SERVER, str(root), NAME, data_request.model_dump_json()]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    assert record_of(root / NAME).pid is None
    with pytest.raises(NotFoundError):
        processor.poll(NAME)
    processor.start(NAME, data_request)
    assert result_of(processor).accepted


def test_a_poll_sees_no_process_that_is_about_to_start(
    tmp_path: Path, processor: EmbeddedDataProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll between the record and the process would take the process for a dead one."""
    spawn, answers = os.posix_spawn, []

    def poll() -> None:
        answers.append(processor.poll(NAME))

    def spawn_slowly(*args: Any, **kwargs: Any) -> int:
        poller.start()
        poller.join(0.2)
        assert answers == []
        return spawn(*args, **kwargs)

    poller = threading.Thread(target=poll)
    monkeypatch.setattr(os, "posix_spawn", spawn_slowly)
    processor.start(NAME, request(tmp_path, waiting=True))
    poller.join(30)
    assert answers == [None]


def test_a_reused_pid_is_not_killed(tmp_path: Path, root: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    reused = {"pid": os.getpid(), "started": 1, "exit_code": None}
    record_of(root / NAME).model_copy(update=reused).save(root / NAME / "process.json")
    processor.delete(NAME)
    assert not (root / NAME).exists()


def test_the_child_gets_no_secrets_and_its_own_process_group(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_KEY", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    processor.start(NAME, request(tmp_path, waiting=True))
    child = psutil.Process(pid_of(root))
    assert "canary" not in str(child.environ())
    names = {name for name in child.environ() if not name.startswith("WINDLASS_PROCESS_TREE_")}
    assert names <= {"PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "LANG", "LC_CTYPE", "PYTHONSAFEPATH"}
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    deadline = time.monotonic() + 30
    while child.cwd() != str(root / NAME):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stale_result_is_not_returned_for_a_new_request(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path))
    assert result_of(processor).accepted
    processor.delete(NAME)
    processor.start(NAME, request(tmp_path, waiting=True))
    assert processor.poll(NAME) is None


def test_a_missing_input_is_named(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    data_request = request(tmp_path)
    (tmp_path / "upload").unlink()
    processor.start(NAME, data_request)
    with pytest.raises(TaskFailedError, match=r"status 74: cannot read or write: there is no file file:///.*/upload"):
        result_of(processor)


@pytest.mark.parametrize("name", ["", "../up", "/etc", "a\\b"])
def test_a_name_cannot_escape_the_folder(tmp_path: Path, root: Path, name: str) -> None:
    with pytest.raises(InvalidError):
        EmbeddedDataProcessor(root).start(name, request(tmp_path))
    assert not root.exists()


@pytest.mark.parametrize("left", [b"{", b'{"accepted": "perhaps"}', b'{"accepted": true, "colour": "red"}'])
def test_an_invalid_result_is_a_failure(
    processor: EmbeddedDataProcessor, tmp_path: Path, root: Path, left: bytes
) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    (root / NAME / "result.json").write_bytes(left)
    with pytest.raises(TaskFailedError, match="cannot be read"):
        processor.poll(NAME)


def test_a_folder_with_extra_files_is_deleted(processor: EmbeddedDataProcessor, root: Path, tmp_path: Path) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    (root / NAME / "litter").mkdir()
    processor.delete(NAME)
    assert not (root / NAME).exists()
