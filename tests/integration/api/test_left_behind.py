"""What a run reported while nobody listened, handed over by the server that finds the run dead."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes.house import House

from windlass.domain.errors import FencedError, UnavailableError
from windlass.domain.reports import ReportBatch, ReportReply
from windlass.ports import BackendState
from windlass.runtime.draining import drain_ended
from windlass.runtime.spool import Journal, folder_of
from windlass.services.runs import Runs

POINT = '{{"type":"metric","name":"train_loss","step":{step},"value":1.0,"time":"2026-01-01T12:00:00Z"}}'


def leave(workspace: Path, name: str, *items: str) -> None:
    journal = Journal(folder_of(workspace) / f"{name}.jsonl")
    for item in items:
        journal.put(item)
    journal.close()


def committed(house: House, run_name: str, step: int) -> str:
    """Commit a checkpoint of a run's first attempt, and return the item that reports it."""
    prefix = f"{house.pipelines.contexts[run_name].checkpoint_prefix}/1/{step}"
    manifest = house.artifact(prefix).model_dump_json()
    where = f'"prefix":"{prefix}","manifest":{manifest}'
    return f'{{"type":"checkpoint","step":{step},{where},"time":"2026-01-01T12:00:00Z"}}'


def left(workspace: Path) -> list[str]:
    return sorted(path.name for path in folder_of(workspace).iterdir())


def test_a_dead_run_s_reports_are_taken_before_it_is_closed(ready: House, tmp_path: Path) -> None:
    job = ready.submit("ours", key="one")
    ready.turn(2)
    run = ready.run_of(job)
    assert run.claim().status_code == 200
    checkpoint = committed(ready, run.name, 2)
    leave(tmp_path, "1-rank0", POINT.format(step=1), POINT.format(step=2), checkpoint)
    leave(tmp_path, "1-driver", '{"type":"log","text":"a last word\\n","time":"2026-01-01T12:00:00Z"}')

    report = Runs(ready.backing, run.run, timedelta(seconds=30), ready.clock.now()).report
    assert drain_ended(tmp_path, report)
    assert left(tmp_path) == []
    base = f"/v1/projects/ours/jobs/{job['id']}"
    assert [item["step"] for item in ready.client.get(f"{base}/checkpoints").json()["items"]] == [2]
    assert "a last word" in ready.client.get(f"{base}/logs").text
    assert drain_ended(tmp_path, report), "a second time there is nothing to do"


def test_the_next_attempt_of_a_lost_run_goes_on_from_a_checkpoint_that_was_never_reported(ready: House) -> None:
    job = ready.submit("ours", key="one")
    ready.turn(2)
    run = ready.run_of(job)
    assert run.claim().status_code == 200
    checkpoint = committed(ready, run.name, 7)
    leave(ready.home / "runs" / run.name, "1-rank0", POINT.format(step=7), checkpoint)
    ready.pipelines.end(run.name, BackendState.LOST, "the machine went down")
    ready.turn(2)
    reply = ready.run_of(job).claim("t2").json()
    assert (reply["attempt"], reply["resume"]["step"]) == (2, 7)


def refuse(_attempt: int, _batch: ReportBatch) -> ReportReply:
    raise UnavailableError("the database does not answer")


def fence(_attempt: int, _batch: ReportBatch) -> ReportReply:
    raise FencedError("attempt 1 is lost")


def test_what_cannot_be_taken_now_stays_and_what_is_fenced_goes(tmp_path: Path) -> None:
    leave(tmp_path, "1-rank0", POINT.format(step=1))
    assert not drain_ended(tmp_path, refuse)
    assert left(tmp_path) == ["1-rank0.jsonl"]
    assert drain_ended(tmp_path, fence)
    assert left(tmp_path) == []


@pytest.mark.parametrize("line", ["{cut\n", '{"item": {}}\nnot json\n{"cut": 1}\n'])
def test_a_damaged_journal_is_put_aside_and_does_not_block_the_others(tmp_path: Path, line: str) -> None:
    leave(tmp_path, "1-rank0", POINT.format(step=1))
    (folder_of(tmp_path) / "0-rank0.jsonl").write_text(line)
    assert drain_ended(tmp_path, fence)
    assert left(tmp_path) == ["0-rank0.damaged"]
