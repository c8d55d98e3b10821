"""Real processes: started in sessions of their own, found again, and ended with all that they started."""

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

FAMILY = """
import os, signal, sys
hide = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]
for depth in range(3):
    if os.fork() == 0:
        if depth == 0:
            os.execve(sys.executable, hide, {})  # as programs do that overwrite their environment with their title
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
            record=processes.claim(),
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


def test_a_process_gets_a_session_a_log_of_its_own_and_only_the_given_environment(
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
def test_the_parent_reads_how_a_process_ended(start: Start, code: str, expected: int) -> None:
    record = start(code)
    deadline = time.monotonic() + 30
    while (found := processes.exit_code(record)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == expected
    assert not processes.alive(record)


def test_a_process_that_ended_is_not_alive_and_leaves_no_zombie(start: Start) -> None:
    record = start("pass")
    assert processes.wait(record, 30)
    assert not Path(f"/proc/{record.pid}").exists()


def test_everything_below_a_process_ends_with_it_also_when_it_is_gone_already(start: Start) -> None:
    record, stranger = start(FAMILY, lines=6), start("import signal; signal.pause()")
    members = processes.members(record)
    assert len(members) == 6
    os.kill(record.pid or 0, signal.SIGKILL)
    assert processes.wait(record, 30)
    assert set(processes.members(record)) == set(members) - {record.pid}
    processes.kill(record)
    assert [pid for pid in members if _runs(pid)] == []
    assert processes.alive(stranger)


def test_a_living_process_leads_to_a_child_that_hid_itself_in_a_session_of_its_own(start: Start) -> None:
    record = start(FAMILY, lines=7, HIDE="1")
    members = processes.members(record)
    assert len(members) == 7
    processes.kill(record)
    assert [pid for pid in members if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_grace_lets_a_process_finish(start: Start, tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('bye'))); print('ready'); signal.pause()"
    record = start(code, lines=1)
    processes.kill(record, grace_seconds=30)
    assert (tmp_path / "0.log").read_text() == "ready\nbye\n"


def test_a_claim_finds_the_process_that_its_starter_could_not_write_down(start: Start) -> None:
    record = start("import signal; signal.pause()")
    claim = record.model_copy(update={"pid": None, "started": None})
    assert processes.find(claim) == record


def test_a_program_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="/nonexistent/program"):
        processes.start(["/nonexistent/program"], environment={}, log=tmp_path / "log", record=processes.claim())


def test_the_lock_of_a_holder_that_was_killed_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from windlass.orchestration import processes\n"
        "with processes.exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConflictError), processes.exclusive(tmp_path):
            pass
        holder.kill()
        with processes.exclusive(tmp_path, wait_for_it=True):
            pass
