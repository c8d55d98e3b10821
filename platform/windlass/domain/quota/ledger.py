"""Who uses, lends and borrows how much in each pool, and what is odd about the quotas."""

from collections.abc import Iterator, Mapping

from windlass.domain.quota.book import Book, Terms, by_pool, terms_by_project
from windlass.domain.quota.model import Claim, LedgerRow, PoolState, Problem, Quota, Snapshot


def ledger(snapshot: Snapshot) -> tuple[LedgerRow, ...]:
    """Return one row for each quota and each holder without one, by pool and project name.

    Nothing records whose GPU a borrower holds; all borrowing of a cohort comes out of one pot. The rows attribute it:
    the lenders give in proportion to what each could lend now (idle, and within its lending limit), rounded by largest
    remainder, and their shares are dealt to the borrowers in order of name. So over a cohort borrowed minus unbacked
    is exactly lent.
    """
    quotas, claims = by_pool(snapshot.quotas), by_pool(snapshot.claims)
    rows: list[LedgerRow] = []
    for pool in sorted(snapshot.pools, key=lambda each: each.name):
        here = claims.get(pool.name, [])
        rows += _pool_rows(pool, terms_by_project(quotas.get(pool.name, []), here, snapshot.cohorts), here)
    return tuple(rows)


def _pool_rows(pool: PoolState, terms: Mapping[str, Terms], claims: list[Claim]) -> Iterator[LedgerRow]:
    book = Book(pool.capacity, terms.values())
    pending = dict.fromkeys(terms, 0)
    for claim in claims:
        if claim.admitted_at is not None:
            book.add(claim.project, claim.gpus)
        elif claim.project in pending:
            pending[claim.project] += 1
    loans: dict[tuple[str, str], int] = {}
    for cohort in sorted({each.cohort for each in terms.values() if each.cohort is not None}):
        loans |= _loans(book, [each for each in terms.values() if each.cohort == cohort])
    for project in sorted(terms):
        nominal, used, free = terms[project].nominal, book.used[project], max(0, book.available(project))
        borrowed_from = {lender: n for (borrower, lender), n in loans.items() if borrower == project}
        lent_to = {borrower: n for (borrower, lender), n in loans.items() if lender == project}
        lent, borrowed = sum(lent_to.values()), max(0, used - nominal)
        yield LedgerRow(
            pool=pool.name,
            project=project,
            nominal=nominal,
            used=used,
            borrowed=borrowed,
            borrowed_from=borrowed_from,
            unbacked=borrowed - sum(borrowed_from.values()),
            lent=lent,
            lent_to=lent_to,
            reclaimable=min(lent, max(0, nominal - used - free)),
            free=free,
            pending=pending[project],
        )


def _loans(book: Book, members: list[Terms]) -> dict[tuple[str, str], int]:
    """Return GPUs by (borrower, lender) in one cohort."""
    members = sorted(members, key=lambda each: each.project)
    owing = {each.project: max(0, book.used[each.project] - each.nominal) for each in members}
    idle = {
        each.project: max(0, min(each.nominal - book.used[each.project], each.nominal - each.withheld))
        for each in members
    }
    shares = _in_proportion(min(sum(owing.values()), sum(idle.values())), idle)
    loans: dict[tuple[str, str], int] = {}
    for borrower, owed in owing.items():
        left = owed
        for lender, share in shares.items():
            if given := min(left, share):
                loans[borrower, lender] = given
                shares[lender] -= given
                left -= given
    return loans


def _in_proportion(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split ``amount`` (at most the sum of the weights) by largest remainder; no share exceeds its weight."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    shares = {name: amount * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(amount * weights[name] % total), name))
    for name in by_remainder[: amount - sum(shares.values())]:
        shares[name] += 1
    return shares


def check_quotas(snapshot: Snapshot) -> tuple[Problem, ...]:
    """Return what is wrong or doubtful, errors first."""
    pools = {pool.name: pool for pool in snapshot.pools}
    found = [problem for quota in snapshot.quotas for problem in _check(quota, snapshot.cohorts, pools)]
    quotas = by_pool(snapshot.quotas)
    for pool in snapshot.pools:
        nominal = sum(quota.nominal for quota in quotas.get(pool.name, []))
        if pool.capacity is not None and nominal > pool.capacity:
            message = (
                f"pool {pool.name}: the nominal quotas add up to {nominal} of {pool.capacity}: "
                "a project can find its own quota taken, and reclaim nothing"
            )
            found.append(Problem(code="overcommitted", severity="warning", message=message, pool=pool.name))
        elif pool.capacity is not None and nominal < pool.capacity:
            message = (
                f"pool {pool.name}: the nominal quotas add up to {nominal} of {pool.capacity}: "
                f"{pool.capacity - nominal} can never be used"
            )
            found.append(Problem(code="unassigned_capacity", severity="warning", message=message, pool=pool.name))
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))


def _check(quota: Quota, cohorts: Mapping[str, str | None], pools: Mapping[str, PoolState]) -> Iterator[Problem]:
    where = f"quota of project {quota.project} in pool {quota.pool}"
    if quota.pool not in pools:
        yield Problem(
            code="unknown_pool",
            severity="error",
            message=f"{where}: there is no such pool",
            pool=quota.pool,
            project=quota.project,
        )
    if quota.lending_limit is not None and quota.lending_limit > quota.nominal:
        yield Problem(
            code="lending_limit_above_nominal",
            severity="error",
            message=f"{where}: the lending limit {quota.lending_limit} is above the nominal quota {quota.nominal}",
            pool=quota.pool,
            project=quota.project,
        )
    limited = quota.borrowing_limit is not None or quota.lending_limit is not None
    if limited and cohorts.get(quota.project) is None:
        yield Problem(
            code="limits_without_cohort",
            severity="error",
            message=f"{where}: a borrowing or lending limit needs a cohort, and the project is in none",
            pool=quota.pool,
            project=quota.project,
        )
