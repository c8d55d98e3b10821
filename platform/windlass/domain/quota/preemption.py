"""Whom to stop so that a job can start: Kueue's classical preemption for one level of cohort."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from windlass.domain.quota.book import Book
from windlass.domain.quota.model import Claim


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """An admitted job as a candidate for preemption. ``rank`` grows with the time of admission."""

    claim: Claim
    rank: int

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key of candidates: lower priority first, then admitted more recently."""
        return self.claim.priority, -self.rank, self.claim.rank


class Victim(NamedTuple):
    """A job to stop, and why it may be."""

    holder: Holder
    reason: Literal["reclaim", "priority"]


def choose_victims(claim: Claim, book: Book, holders: Sequence[Holder]) -> tuple[Victim, ...]:
    """Return a small set of holders whose leaving makes room for ``claim``; empty when there is none.

    ``holders`` are in candidate order and ``book`` has them booked; it is left as it was. Candidates are removed in
    order until the claim fits, then put back in reverse where it still fits. Candidates from other projects come
    first, count only while their project borrows, and only if the claimant's project ends within its nominal quota.
    """
    project, nominal = claim.project, book.terms(claim.project).nominal
    if claim.gpus > nominal:
        return ()
    own = [
        Victim(each, "priority")
        for each in holders
        if each.claim.project == project and each.claim.priority < claim.priority
    ]
    own_gpus = sum(each.holder.claim.gpus for each in own)
    if book.used[project] < nominal and book.used[project] - own_gpus + claim.gpus <= nominal:
        reclaimable = _reclaimable(claim, book, holders)
        first = next(reclaimable, None)
        if first is not None:
            victims = _remove_until_fit(claim, book, chain((first,), reclaimable, own), borrow=False)
            if victims:
                return victims
    if book.available(project) + own_gpus >= claim.gpus:
        return _remove_until_fit(claim, book, own, borrow=True)
    return ()


def _reclaimable(claim: Claim, book: Book, holders: Sequence[Holder]) -> Iterator[Victim]:
    """Yield holders of other projects that borrow. The book changes meanwhile, so it is asked when one is due."""
    cohort = book.terms(claim.project).cohort
    if cohort is None:
        return
    for each in holders:
        other = book.terms(each.claim.project)
        if other.project == claim.project or other.cohort != cohort or other.stopped:
            continue
        if book.borrowing(other.project):
            yield Victim(each, "reclaim")


def _remove_until_fit(claim: Claim, book: Book, candidates: Iterable[Victim], *, borrow: bool) -> tuple[Victim, ...]:
    removed: list[Victim] = []
    kept: tuple[Victim, ...] = ()
    for victim in candidates:
        book.add(victim.holder.claim.project, -victim.holder.claim.gpus)
        removed.append(victim)
        if _fits(claim, book, borrow=borrow):
            kept = _put_back(claim, book, removed, borrow=borrow)
            break
    for victim in kept or removed:
        book.add(victim.holder.claim.project, victim.holder.claim.gpus)
    return kept


def _put_back(claim: Claim, book: Book, removed: Sequence[Victim], *, borrow: bool) -> tuple[Victim, ...]:
    kept = [removed[-1]]
    for victim in reversed(removed[:-1]):
        book.add(victim.holder.claim.project, victim.holder.claim.gpus)
        if not _fits(claim, book, borrow=borrow):
            book.add(victim.holder.claim.project, -victim.holder.claim.gpus)
            kept.append(victim)
    return tuple(reversed(kept))


def _fits(claim: Claim, book: Book, *, borrow: bool) -> bool:
    if not borrow and book.borrowing(claim.project, claim.gpus):
        return False
    return claim.gpus <= book.available(claim.project)
