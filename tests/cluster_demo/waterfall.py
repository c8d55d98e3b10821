"""The times of one job, from its submission to the first prediction."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum


class Stage(StrEnum):
    """What has happened, in the expected order."""

    ACCEPTED = "job accepted"
    RUN_CREATED = "run created"
    RUNNER_RUNNING = "runner pod running"
    RAY_JOB_CREATED = "RayJob created"
    ADMITTED = "RayJob admitted by Kueue"
    HEAD_READY = "Ray head ready"
    TRAINER_STARTED = "trainer started"
    TRAINING_STARTED = "training started"
    FIRST_STEP = "first optimizer step reported"
    TRAINING_FINISHED = "training finished"
    REGISTERED = "version registered"
    ENDPOINT_READY = "endpoint ready"
    PREDICTED = "first prediction"


EVENTS = {
    "job_accepted": Stage.ACCEPTED,
    "attempt_started": Stage.TRAINER_STARTED,
    "training_started": Stage.TRAINING_STARTED,
    "training_finished": Stage.TRAINING_FINISHED,
    "model_registered": Stage.REGISTERED,
}
"""Events of the job by code."""


class Waterfall:
    """The time of each stage; the first record of a stage counts."""

    def __init__(self) -> None:
        self._times: dict[Stage, datetime] = {}

    def record(self, stage: Stage, time: datetime) -> None:
        """Record that a stage was reached, unless it is recorded already."""
        self._times.setdefault(stage, time)

    def has(self, stage: Stage) -> bool:
        """Whether the stage was reached."""
        return stage in self._times

    def seconds_to(self, stage: Stage) -> float:
        """Return the seconds from the first stage to another; both are recorded."""
        return (self._times[stage] - self._times[Stage.ACCEPTED]).total_seconds()

    def rows(self) -> Sequence[tuple[str, str, str]]:
        """Each stage with the seconds since the first one and since the one before it; ``-`` where it is missing."""
        rows: list[tuple[str, str, str]] = []
        first = previous = self._times.get(Stage.ACCEPTED)
        for stage in Stage:
            time = self._times.get(stage)
            if time is None or first is None or previous is None:
                rows.append((stage, "-", "-"))
                continue
            rows.append((stage, _seconds(first, time), _seconds(previous, time)))
            previous = time
        return rows


def _seconds(start: datetime, end: datetime) -> str:
    return f"{(end - start).total_seconds():.1f}"
