"""The embedded data processor with real child processes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from windlass.domain.datasets import DataRequest, DataResult, IngestOptions, Split
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.specs import Task
from windlass.orchestration.data_process import EmbeddedDataProcessor

pytestmark = pytest.mark.processes
NAME = "dsv_01"


def request(folder: Path, content: bytes = b"text,label\nx,a\ny,b\n", *, waiting: bool = False) -> DataRequest:
    """A request over ``content``; a waiting one goes on when something is written to ``folder/tokenizer``."""
    (folder / "upload").write_bytes(content)
    if waiting:
        os.mkfifo(folder / "tokenizer")
    return DataRequest(
        operation="ingest",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=((str(folder / "upload"), None),),
        names=("rows.csv",),
        output=str(folder / "out"),
        tokenizer=str(folder / "tokenizer") if waiting else None,
    )


def result_of(processor: EmbeddedDataProcessor, name: str = NAME) -> DataResult:
    deadline = time.monotonic() + 120
    while (result := processor.poll(name)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def pid_of(root: Path) -> int:
    return int(json.loads((root / NAME / "process.json").read_bytes())["pid"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "processes"


@pytest.fixture
def processor(root: Path) -> Iterator[EmbeddedDataProcessor]:
    made = EmbeddedDataProcessor(root)
    yield made
    made.forget(NAME)


def test_a_request_is_carried_out_and_forgotten(tmp_path: Path, root: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path))
    result = result_of(processor)
    assert result.accepted
    assert result.rows == {Split.TRAIN: 2}
    processor.forget(NAME)
    assert list(root.iterdir()) == []
    assert (tmp_path / "out" / "train.jsonl").exists()
    with pytest.raises(NotFoundError):
        processor.poll(NAME)


def test_rejected_data_is_a_normal_end(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path, b""))
    result = result_of(processor)
    assert not result.accepted
    assert result.report.errors[0].code == "empty-file"


def test_a_killed_process_is_reported_and_can_be_begun_again(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    asked = request(tmp_path, waiting=True)
    processor.start(NAME, asked)
    assert processor.poll(NAME) is None
    os.kill(pid_of(root), signal.SIGKILL)
    with pytest.raises(UnavailableError, match="ended by signal 9"):
        result_of(processor)
    processor.start(NAME, asked)  # begun before: nothing happens until it is forgotten
    with pytest.raises(UnavailableError):
        processor.poll(NAME)
    processor.forget(NAME)
    processor.start(NAME, asked)
    (tmp_path / "tokenizer").write_text("none")
    assert result_of(processor).accepted


def test_starting_twice_is_one_process_for_all_servers(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    asked = request(tmp_path, waiting=True)
    processor.start(NAME, asked)
    first = pid_of(root)
    processor.start(NAME, asked)
    EmbeddedDataProcessor(root).start(NAME, asked)
    assert pid_of(root) == first
    path = str(root / NAME / "request.json")
    running = [process.pid for process in psutil.process_iter(["cmdline"]) if path in (process.info["cmdline"] or [])]
    assert set(running) <= {first}  # it may have ended by now


def test_another_server_adopts_what_runs(tmp_path: Path, root: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path, waiting=True))
    adopter = EmbeddedDataProcessor(root)
    assert adopter.poll(NAME) is None
    (tmp_path / "tokenizer").write_text("none")
    assert result_of(adopter).accepted


def test_another_server_sees_and_ends_what_it_did_not_start(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    processor.start(NAME, request(tmp_path, waiting=True))
    child = psutil.Process(pid_of(root))
    EmbeddedDataProcessor(root).forget(NAME)
    assert not (root / NAME).exists()
    assert child.status() == psutil.STATUS_ZOMBIE  # dead; its parent, this test, has not asked for its status yet


def test_a_process_whose_record_was_never_written_is_found(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    """The server may die between the start of the child and the record of its pid."""
    asked = request(tmp_path, waiting=True)
    processor.start(NAME, asked)
    pid = pid_of(root)
    (root / NAME / "process.json").unlink()
    later = EmbeddedDataProcessor(root)
    later.start(NAME, asked)
    assert not (root / NAME / "process.json").exists()  # the lock tells that one lives, so none was started
    assert later.poll(NAME) is None
    later.forget(NAME)
    assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_pid_that_belongs_to_somebody_else_is_not_killed(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor
) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    (root / NAME / "process.json").write_text(json.dumps({"pid": os.getpid(), "started": 1.0}))
    processor.forget(NAME)
    assert not (root / NAME).exists()


def test_the_child_gets_no_secret_and_a_group_of_its_own(
    tmp_path: Path, root: Path, processor: EmbeddedDataProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_KEY", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    processor.start(NAME, request(tmp_path, waiting=True))
    child = psutil.Process(pid_of(root))
    assert "canary" not in str(child.environ())
    assert set(child.environ()) <= {"PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "LANG", "LC_CTYPE"}
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    assert child.cwd() == str(root / NAME)


def test_a_stale_result_is_not_taken_for_the_new_one(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    processor.start(NAME, request(tmp_path))
    assert result_of(processor).accepted
    processor.forget(NAME)
    processor.start(NAME, request(tmp_path, waiting=True))
    assert processor.poll(NAME) is None


def test_an_input_that_is_gone_ends_with_the_systems_words(tmp_path: Path, processor: EmbeddedDataProcessor) -> None:
    asked = request(tmp_path)
    (tmp_path / "upload").unlink()
    processor.start(NAME, asked)
    with pytest.raises(UnavailableError, match="status 74: cannot read or write: No such file"):
        result_of(processor)


@pytest.mark.parametrize("name", ["", "../up", "/etc", "a\\b"])
def test_a_name_is_no_way_out_of_the_folder(tmp_path: Path, root: Path, name: str) -> None:
    with pytest.raises(InvalidError):
        EmbeddedDataProcessor(root).start(name, request(tmp_path))
    assert not root.exists()


@pytest.mark.parametrize("left", [b"{", b'{"accepted": "perhaps"}', b'{"accepted": true, "colour": "red"}'])
def test_a_result_that_makes_no_sense_ends_its_own_process_and_nothing_else(
    processor: EmbeddedDataProcessor, tmp_path: Path, left: bytes
) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    (tmp_path / "out" / "result.json").write_bytes(left)
    with pytest.raises(UnavailableError, match="cannot be read"):
        processor.poll(NAME)


def test_a_folder_that_the_child_has_littered_goes(
    processor: EmbeddedDataProcessor, root: Path, tmp_path: Path
) -> None:
    processor.start(NAME, request(tmp_path))
    result_of(processor)
    (root / NAME / "litter").mkdir()
    processor.forget(NAME)
    assert not (root / NAME).exists()
