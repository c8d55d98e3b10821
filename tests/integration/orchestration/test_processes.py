"""Real processes: started in their own sessions, located again, and killed with their process trees."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass.domain.errors import ConflictError, UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord

pytestmark = pytest.mark.processes
Start = Callable[..., ProcessRecord]

PROCESS_TREE = """
import os, signal, sys
hide = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]
for depth in range(3):
    if os.fork() == 0:
        if depth == 0:
            os.execve(sys.executable, hide, {})  # like programs that overwrite their environment with their title
        os.setsid()
        os.fork()
        print("ready", flush=True)
        signal.pause()
if os.environ.get("HIDE") and os.fork() == 0:
    os.setsid()
    os.execve(sys.executable, hide, {})
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[ProcessRecord] = []

    def run(code: str, *, lines: int = 0, **environment: str) -> ProcessRecord:
        log = tmp_path / f"{len(started)}.log"
        record = processes.start(
            [sys.executable, "-c", code],
            environment=processes.clean_environment(environment),
            log=log,
            record=processes.new_record(),
        )
        started.append(record)
        deadline = time.monotonic() + 30
        while log.read_bytes().count(b"\n") < lines:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        return record

    yield run
    for record in started:
        processes.kill(record)


def test_a_process_gets_its_own_session_and_log_and_only_the_given_environment(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    record = start("import os, sys; print(os.getsid(0), sorted(os.environ), file=sys.stderr)", lines=1, GIVEN="1")
    text = (tmp_path / "0.log").read_text()
    assert text.startswith(f"{record.pid} ")
    assert "'GIVEN'" in text
    assert "AWS_SECRET_ACCESS_KEY" not in text
    assert (tmp_path / "0.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("code", "expected"), [("exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_the_parent_reads_the_exit_code(start: Start, code: str, expected: int) -> None:
    record = start(code)
    deadline = time.monotonic() + 30
    while (result := processes.exit_code(record)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert result == expected
    assert not processes.is_alive(record)


def test_an_exited_process_is_not_alive_and_leaves_no_zombie(start: Start) -> None:
    record = start("pass")
    assert processes.wait(record, 30)
    assert not Path(f"/proc/{record.pid}").exists()


def test_kill_ends_the_process_tree_even_after_its_root_has_exited(start: Start) -> None:
    record, unrelated = start(PROCESS_TREE, lines=6), start("import signal; signal.pause()")
    pids = processes.pids(record)
    assert len(pids) == 6
    os.kill(record.pid or 0, signal.SIGKILL)
    assert processes.wait(record, 30)
    assert set(processes.pids(record)) == set(pids) - {record.pid}
    processes.kill(record)
    assert [pid for pid in pids if _runs(pid)] == []
    assert processes.is_alive(unrelated)


def test_a_child_without_the_tree_id_in_another_session_is_located(start: Start) -> None:
    record = start(PROCESS_TREE, lines=7, HIDE="1")
    pids = processes.pids(record)
    assert len(pids) == 7
    processes.kill(record)
    assert [pid for pid in pids if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_grace_period_lets_a_process_finish(start: Start, tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('bye'))); print('ready'); signal.pause()"
    record = start(code, lines=1)
    processes.kill(record, grace_seconds=30)
    assert (tmp_path / "0.log").read_text() == "ready\nbye\n"


def test_a_pending_record_is_completed_with_its_process(start: Start) -> None:
    record = start("import signal; signal.pause()")
    pending = record.model_copy(update={"pid": None, "started": None})
    assert processes.locate(pending) == record


def test_a_missing_program_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="/nonexistent/program"):
        processes.start(["/nonexistent/program"], environment={}, log=tmp_path / "log", record=processes.new_record())


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from windlass.orchestration import processes\n"
        "with processes.lock_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConflictError), processes.lock_folder(tmp_path):
            pass
        holder.kill()
        with processes.lock_folder(tmp_path, blocking=True):
            pass
