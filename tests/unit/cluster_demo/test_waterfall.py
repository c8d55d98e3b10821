"""The times of a job from its submission to the first prediction."""

from datetime import UTC, datetime, timedelta

from tests.cluster_demo.waterfall import Stage, Waterfall

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_stage_has_the_time_since_the_start_and_since_the_stage_before_it() -> None:
    waterfall = Waterfall()
    for stage, seconds in ((Stage.ACCEPTED, 0), (Stage.RUN_CREATED, 0.5), (Stage.RUNNER_RUNNING, 2.5)):
        waterfall.record(stage, after(seconds))
    assert waterfall.rows()[:3] == [
        ("job accepted", "0.0", "0.0"),
        ("run created", "0.5", "0.5"),
        ("runner pod running", "2.5", "2.0"),
    ]


def test_a_missing_stage_is_shown_and_the_next_one_counts_from_the_last_that_was_reached() -> None:
    waterfall = Waterfall()
    waterfall.record(Stage.ACCEPTED, START)
    waterfall.record(Stage.RUNNER_RUNNING, after(4))
    rows = {stage: (total, step) for stage, total, step in waterfall.rows()}
    assert len(rows) == len(Stage)
    assert rows[Stage.RUN_CREATED] == ("-", "-")
    assert rows[Stage.RUNNER_RUNNING] == ("4.0", "4.0")
    assert rows[Stage.PREDICTED] == ("-", "-")


def test_the_first_record_of_a_stage_counts() -> None:
    waterfall = Waterfall()
    waterfall.record(Stage.ACCEPTED, START)
    waterfall.record(Stage.TRAINER_STARTED, after(1))
    waterfall.record(Stage.TRAINER_STARTED, after(9))  # by the second attempt
    assert {stage: total for stage, total, _ in waterfall.rows()}[Stage.TRAINER_STARTED] == "1.0"
