"""What Windlass foresees for one set-up in one round, what Kueue did, and the count of where they agree."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from tests.unit.quota.worlds import START, World

from windlass.domain.quota import Claim, Snapshot, simulate


@dataclass(frozen=True)
class Outcome:
    """``verdict``: what becomes of the job that came: starts, preempts, waits, never; empty when none came.

    ``running`` are the jobs that hold GPUs when nothing changes any more, ``preempted`` who was stopped for whom.
    """

    verdict: str
    running: frozenset[str]
    preempted: frozenset[tuple[str, str]]


def foresee(snapshot: Snapshot, came: Claim | None, ended: str | None, now: datetime) -> Outcome:
    """Let the domain's scheduler work until nothing changes, as if who must stop were gone at once."""
    verdict = ""
    if came is not None:
        simulation = simulate(snapshot, came)
        verdict = "preempts" if simulation.would_preempt else simulation.verdict
    world = World(list(snapshot.quotas), cohorts=dict(snapshot.cohorts), pools=snapshot.pools)
    world.clock = int((now - START).total_seconds())
    world.claims = {claim.job: claim for claim in (*snapshot.claims, *([came] if came else [])) if claim.job != ended}
    decisions = world.settle()
    stopped = frozenset((each.job, each.by) for step in decisions for each in step.preempt)
    return Outcome(verdict, frozenset(world.running), stopped)


@dataclass
class Tally:
    """Agreement, by question; every disagreement is kept in words."""

    asked: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    setups: set[str] = field(default_factory=set)
    disagreeing: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)

    def compare(self, setup: str, about: str, foreseen: Outcome, seen: Outcome, *, looked_at: bool) -> None:
        """Count one round. Of a job that Kueue has not ``looked_at`` it cannot say that it will never start."""
        expected = "waits" if foreseen.verdict == "never" and not looked_at else foreseen.verdict
        questions = {
            "what becomes of the job": (expected, seen.verdict),
            "who runs": (foreseen.running, seen.running),
            "who is preempted, for whom": (foreseen.preempted, seen.preempted),
        }
        self.setups.add(setup)
        self.verdicts[seen.verdict or ("a quota changes" if "quota of" in about else "a job goes")] += 1
        for question, (ours, theirs) in questions.items():
            if question == "what becomes of the job" and not expected:
                continue
            self.asked[question] += 1
            if ours == theirs:
                self.agreed[question] += 1
            else:
                self.disagreeing.add(setup)
                self.told.append(f"{setup}, {about}: {question}: Windlass {_words(ours)}, Kueue {_words(theirs)}")

    @property
    def share(self) -> float:
        """The share of set-ups in which every answer agrees."""
        return 1 - len(self.disagreeing) / len(self.setups)

    def __str__(self) -> str:
        rows = [f"{question}: {self.agreed[question]} of {self.asked[question]}" for question in self.asked]
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.verdicts.items()))
        whole = f"set-ups that agree in everything: {len(self.setups) - len(self.disagreeing)} of {len(self.setups)}"
        return "\n".join([*self.told, *rows, whole, f"rounds: {kinds}"])


def _words(value: object) -> str:
    return str(sorted(value)) if isinstance(value, frozenset) else str(value)
