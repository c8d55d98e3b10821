"""Following a job: the moving picture and the plain lines."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from tests.unit.sdk.stand_in import NOW, a_job

from windlass.cli.watch import Lines, Picture
from windlass.sdk import MetricPoint
from windlass.wire.jobs import EventOut, JobDetailOut, JobOut


def _event(message: str) -> EventOut:
    return EventOut(sequence=1, time=datetime.now(UTC), code="noted", message=message, facts={}, attempt=1)


def _reason(message: str) -> dict[str, object]:
    return {"code": "waiting", "message": message, "owner": "nobody", "action": "Wait.", "facts": {}}


def _shown(picture: Picture, width: int = 80) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True, color_system=None).print(picture.draw(width))
    return screen.getvalue()


def test_a_waiting_job_shows_its_place_in_the_queue() -> None:
    picture = Picture(JobDetailOut(**a_job()))
    picture.accept(JobOut(**a_job(reason=_reason("3rd in queue: needs 1 slot, 0 free."))))
    shown = _shown(picture)
    assert "queued" in shown
    assert "3rd in queue: needs 1 slot, 0 free. Wait." in shown
    assert "Ctrl-C leaves; the job goes on." in shown


def test_a_running_job_shows_progress_curve_and_last_events() -> None:
    picture = Picture(JobDetailOut(**a_job()))
    picture.accept(JobOut(**a_job(state="running", progress=0.4, attempt=2)))
    for step in range(1, 41):
        picture.accept(MetricPoint("train_loss", step, 1 / step))
        picture.accept(MetricPoint("learning_rate", step, None))
    for number in range(9):
        picture.accept(_event(f"event {number}"))
    shown = _shown(picture)
    for words in ("running", "attempt 2", " 40%", "step 40", "loss 0.025", "event 8", "│"):
        assert words in shown
    assert "event 4" not in shown


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_picture_fits_any_terminal_and_hides_no_control_character(width: int) -> None:
    picture = Picture(JobDetailOut(**a_job(name="x", reason=_reason("\x1b[2Jgone \u202e"))), ascii_only=True)
    picture.accept(_event("\x1b]0;title\x07hello"))
    for step in range(30):
        picture.accept(MetricPoint("train_loss", step, float("nan") if step == 3 else 2.0 - step / 30))
    shown = _shown(picture, width)
    assert max(map(len, shown.splitlines())) <= width
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_picture_without_anything_to_draw_is_short() -> None:
    assert len(_shown(Picture(JobDetailOut(**a_job()))).splitlines()) == 2


def test_lines_say_each_state_and_event_once() -> None:
    said: list[str] = []
    follower = Lines(said.append)
    follower.accept(JobOut(**a_job(reason=_reason("2nd in queue."))))
    follower.accept(JobOut(**a_job(reason=_reason("2nd in queue."), progress=0.1)))
    follower.accept(_event("begins"))
    follower.accept(JobOut(**a_job(state="running")))
    assert said[0] == "job job_1 is queued: 2nd in queue. Wait."
    assert said[1].endswith("begins")
    assert said[2] == "job job_1 is running"
    assert len(said) == 3


def test_lines_say_every_tenth_step_every_evaluation_and_the_last() -> None:
    said: list[str] = []
    follower = Lines(said.append)
    for name in ("train_loss", "learning_rate"):
        for step in range(1, 25):
            follower.accept(MetricPoint(name, step, 0.5))
    follower.accept(MetricPoint("eval_loss", 17, 0.25))
    follower.flush(last=True)
    assert said == [
        "step 10  learning_rate=0.5  train_loss=0.5",
        "step 17  eval_loss=0.25  learning_rate=0.5  train_loss=0.5",
        "step 20  learning_rate=0.5  train_loss=0.5",
        "step 24  learning_rate=0.5  train_loss=0.5",
    ]


def test_a_pause_ends_a_batch_and_an_evaluation_that_comes_later_is_still_said() -> None:
    said: list[str] = []
    now = [0.0]
    follower = Lines(said.append, lambda: now[0])
    follower.accept(MetricPoint("train_loss", 10, 0.5))
    now[0] = 1.0
    follower.accept(MetricPoint("eval_loss", 10, 0.25))
    assert said == ["step 10  train_loss=0.5"]
    follower.flush()
    assert said[1:] == ["step 10  eval_loss=0.25"]


def test_points_that_come_again_after_a_reconnect_are_not_said_again() -> None:
    said: list[str] = []
    follower = Lines(said.append)
    for _ in range(2):
        for step in range(31):
            follower.accept(MetricPoint("train_loss", step, 0.5))
        follower.accept(JobOut(**a_job(state="running", created_at=NOW)))
    assert [line.split()[1] for line in said if line.startswith("step")] == ["0", "10", "20", "30"]
