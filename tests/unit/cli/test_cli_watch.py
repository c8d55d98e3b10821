"""Following a job: the live view and the lines."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from tests.unit.sdk.stub_server import NOW, job_json

from windlass.cli.watch import LiveView, LogView
from windlass.sdk import MetricPoint
from windlass.wire.jobs import EventOut, JobDetailOut, JobOut


def _event(message: str) -> EventOut:
    return EventOut(sequence=1, time=datetime.now(UTC), code="noted", message=message, context={}, attempt=1)


def _reason(message: str) -> dict[str, object]:
    return {"code": "waiting", "message": message, "action_by": "none", "action": "Wait.", "context": {}}


def _rendered(view: LiveView, width: int = 80) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True, color_system=None).print(view.draw(width))
    return screen.getvalue()


def test_queued_job_shows_its_queue_position() -> None:
    view = LiveView(JobDetailOut(**job_json()))
    view.accept(JobOut(**job_json(reason=_reason("3rd in queue: needs 1 slot, 0 free."))))
    shown = _rendered(view)
    assert "queued" in shown
    assert "3rd in queue: needs 1 slot, 0 free. Wait." in shown
    assert "Ctrl-C detaches; the job keeps running." in shown


def test_running_job_shows_progress_curve_and_last_events() -> None:
    view = LiveView(JobDetailOut(**job_json()))
    view.accept(JobOut(**job_json(state="running", progress=0.4, attempt=2)))
    for step in range(1, 41):
        view.accept(MetricPoint("train_loss", step, 1 / step))
        view.accept(MetricPoint("learning_rate", step, None))
    for number in range(9):
        view.accept(_event(f"event {number}"))
    shown = _rendered(view)
    for expected in ("running", "attempt 2", " 40%", "step 40", "loss 0.025", "event 8", "│"):
        assert expected in shown
    assert "event 4" not in shown


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_live_view_fits_any_width_and_prints_no_control_character(width: int) -> None:
    view = LiveView(JobDetailOut(**job_json(name="x", reason=_reason("\x1b[2Jgone \u202e"))), ascii_only=True)
    view.accept(_event("\x1b]0;title\x07hello"))
    for step in range(30):
        view.accept(MetricPoint("train_loss", step, float("nan") if step == 3 else 2.0 - step / 30))
    shown = _rendered(view, width)
    assert max(map(len, shown.splitlines())) <= width
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_live_view_without_data_has_two_lines() -> None:
    assert len(_rendered(LiveView(JobDetailOut(**job_json()))).splitlines()) == 2


def test_log_view_prints_each_state_and_event_once() -> None:
    printed: list[str] = []
    follower = LogView(printed.append)
    follower.accept(JobOut(**job_json(reason=_reason("2nd in queue."))))
    follower.accept(JobOut(**job_json(reason=_reason("2nd in queue."), progress=0.1)))
    follower.accept(_event("started"))
    follower.accept(JobOut(**job_json(state="running")))
    assert printed[0] == "job job_1: queued. 2nd in queue. Wait."
    assert printed[1].endswith("started")
    assert printed[2] == "job job_1: running"
    assert len(printed) == 3


def test_log_view_prints_every_tenth_step_every_evaluation_and_the_last_step() -> None:
    printed: list[str] = []
    follower = LogView(printed.append)
    for name in ("train_loss", "learning_rate"):
        for step in range(1, 25):
            follower.accept(MetricPoint(name, step, 0.5))
    follower.accept(MetricPoint("eval_loss", 17, 0.25))
    follower.flush(last=True)
    assert printed == [
        "step 10  learning_rate=0.5  train_loss=0.5",
        "step 17  eval_loss=0.25  learning_rate=0.5  train_loss=0.5",
        "step 20  learning_rate=0.5  train_loss=0.5",
        "step 24  learning_rate=0.5  train_loss=0.5",
    ]


def test_evaluation_after_a_pause_is_printed() -> None:
    printed: list[str] = []
    now = [0.0]
    follower = LogView(printed.append, lambda: now[0])
    follower.accept(MetricPoint("train_loss", 10, 0.5))
    now[0] = 1.0
    follower.accept(MetricPoint("eval_loss", 10, 0.25))
    assert printed == ["step 10  train_loss=0.5"]
    follower.flush()
    assert printed[1:] == ["step 10  eval_loss=0.25"]


def test_points_repeated_after_a_reconnect_are_not_printed_again() -> None:
    printed: list[str] = []
    follower = LogView(printed.append)
    for _ in range(2):
        for step in range(31):
            follower.accept(MetricPoint("train_loss", step, 0.5))
        follower.accept(JobOut(**job_json(state="running", created_at=NOW)))
    assert [line.split()[1] for line in printed if line.startswith("step")] == ["0", "10", "20", "30"]
