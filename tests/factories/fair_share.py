"""An independent check of fair share: replays what a scheduler did, and collects where it broke the rules.

The share of a project is its nominal quota; the projects are in one cohort and lend without limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Share:
    """The quota of a project; a borrowing limit of None is unlimited."""

    nominal: int
    borrowing_limit: int | None = None

    @property
    def most(self) -> float:
        """The most GPUs that the project may use."""
        return float("inf") if self.borrowing_limit is None else self.nominal + self.borrowing_limit


@dataclass(frozen=True)
class ShareJob:
    """A job; jobs of one priority queue in the order of ``number``."""

    number: int
    project: str
    gpus: int = 1


@dataclass
class FairShareReplay:
    """The use of each project and the jobs that wait, after each step of a scheduler."""

    shares: Mapping[str, Share]
    waiting: dict[int, ShareJob] = field(default_factory=dict)
    running: dict[int, ShareJob] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    most_used: dict[str, int] = field(default_factory=dict)
    """The peak use of each project."""

    @property
    def capacity(self) -> int:
        return sum(share.nominal for share in self.shares.values())

    def used(self, project: str | None = None) -> int:
        """The GPUs in use, of one project or of all."""
        return sum(job.gpus for job in self.running.values() if project in (None, job.project))

    def borrowed(self) -> dict[str, int]:
        """The GPUs that projects use beyond their shares."""
        over = {project: self.used(project) - share.nominal for project, share in self.shares.items()}
        return {project: gpus for project, gpus in over.items() if gpus > 0}

    def heads(self) -> list[ShareJob]:
        """The next job of each project."""
        first: dict[str, ShareJob] = {}
        for _, job in sorted(self.waiting.items()):
            first.setdefault(job.project, job)
        return list(first.values())

    def submit(self, job: ShareJob) -> None:
        self.waiting[job.number] = job

    def admit(self, number: int) -> None:
        """A job got its GPUs: within the quotas, and, if it borrows, not before a job within its project's share."""
        job = self.running[number] = self.waiting.pop(number)
        used = self.used(job.project)
        self.most_used[job.project] = max(used, self.most_used.get(job.project, 0))
        if used > self.shares[job.project].most or self.used() > self.capacity:
            self.violations.append(f"{job} exceeds the quotas: {self.running}")
        if used <= self.shares[job.project].nominal:
            return
        for head in self._heads_within_share():
            if self.used() + head.gpus > self.capacity:
                self.violations.append(f"{job} borrows what {head} has a right to: {self.running}")

    def release(self, number: int, *, requeue: bool = False) -> None:
        """A job has ended or was preempted; a preempted one waits at its old place."""
        job = self.running.pop(number)
        if requeue:
            self.waiting[number] = job

    def check_settled(self) -> None:
        """Check a moment at which the scheduler has nothing more to do, and no job is being stopped."""
        if (borrowed := self.borrowed()) and (owed := self._heads_within_share()):
            self.violations.append(f"{borrowed} are borrowed while {owed} wait within their shares")
        for head in self.heads():
            fits = self.used(head.project) + head.gpus <= self.shares[head.project].most
            if fits and self.used() + head.gpus <= self.capacity:
                self.violations.append(f"{head} waits although it fits: {self.running}")

    def _heads_within_share(self) -> list[ShareJob]:
        return [
            head for head in self.heads() if self.used(head.project) + head.gpus <= self.shares[head.project].nominal
        ]
