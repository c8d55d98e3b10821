"""Predicted and observed result of one setup in one round, and the counts of agreement."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from tests.unit.quota.scenarios import START, Scenario

from windlass.domain.quota import ResourceDemand, Snapshot, simulate


@dataclass(frozen=True)
class SchedulingOutcome:
    """``verdict`` of the submitted job: starts, preempts, waits or never; empty if none was submitted.

    ``running`` are the jobs with GPUs at the end of the round, ``preempted`` pairs of a job and its preemptor.
    """

    verdict: str
    running: frozenset[str]
    preempted: frozenset[tuple[str, str]]


def predict(
    snapshot: Snapshot, submitted: ResourceDemand | None, ended: str | None, now: datetime
) -> SchedulingOutcome:
    """Run the domain's scheduler until nothing changes, with evicted jobs stopping immediately."""
    verdict = ""
    if submitted is not None:
        simulation = simulate(snapshot, submitted)
        verdict = "preempts" if simulation.would_preempt else simulation.verdict
    scenario = Scenario(list(snapshot.quotas), cohorts=dict(snapshot.cohorts), pools=snapshot.pools)
    scenario.clock = int((now - START).total_seconds())
    scenario.demands = {
        demand.job: demand for demand in (*snapshot.demands, *([submitted] if submitted else [])) if demand.job != ended
    }
    decisions = scenario.run_until_stable()
    stopped = frozenset((each.job, each.by) for step in decisions for each in step.preempt)
    return SchedulingOutcome(verdict, frozenset(scenario.running), stopped)


@dataclass
class Tally:
    """Agreement by question, with a text for each disagreement."""

    requested: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    setups: set[str] = field(default_factory=set)
    disagreeing_setups: set[str] = field(default_factory=set)
    disagreements: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)

    def compare(
        self, setup: str, about: str, predicted: SchedulingOutcome, observed: SchedulingOutcome, *, evaluated: bool
    ) -> None:
        """Count one round. Until Kueue has ``evaluated`` a job, its status cannot show that the job can never start."""
        expected = "waits" if predicted.verdict == "never" and not evaluated else predicted.verdict
        questions = {
            "fate of the submitted job": (expected, observed.verdict),
            "running jobs": (predicted.running, observed.running),
            "preempted jobs and preemptors": (predicted.preempted, observed.preempted),
        }
        self.setups.add(setup)
        self.verdicts[observed.verdict or ("a quota changes" if "quota of" in about else "a job ends")] += 1
        for question, (ours, theirs) in questions.items():
            if question == "fate of the submitted job" and not expected:
                continue
            self.requested[question] += 1
            if ours == theirs:
                self.agreed[question] += 1
            else:
                self.disagreeing_setups.add(setup)
                self.disagreements.append(
                    f"{setup}, {about}: {question}: Windlass {_text(ours)}, Kueue {_text(theirs)}"
                )

    @property
    def share(self) -> float:
        """The share of setups in which every answer agrees."""
        return 1 - len(self.disagreeing_setups) / len(self.setups)

    def __str__(self) -> str:
        rows = [f"{question}: {self.agreed[question]} of {self.requested[question]}" for question in self.requested]
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.verdicts.items()))
        full = f"setups without a disagreement: {len(self.setups) - len(self.disagreeing_setups)} of {len(self.setups)}"
        return "\n".join([*self.disagreements, *rows, full, f"rounds: {kinds}"])


def _text(value: object) -> str:
    return str(sorted(value)) if isinstance(value, frozenset) else str(value)
