"""How much each project uses, lends and borrows in each pool, and the problems of the quotas."""

from collections.abc import Iterator, Mapping

from windlass.domain.quota.model import LedgerRow, PoolState, Quota, QuotaProblem, ResourceDemand, Snapshot
from windlass.domain.quota.pool_usage import PoolUsage, QuotaLimits, by_pool, limits_by_project


def ledger(snapshot: Snapshot) -> tuple[LedgerRow, ...]:
    """Return one row for each quota and each project that uses GPUs without one, by pool and project name.

    Kueue does not record which lender a borrowed GPU belongs to. The rows attribute it: lenders lend in proportion to
    what each could lend now (idle, and within its lending limit), rounded by largest remainder, and their shares are
    assigned to the borrowers in order of name. Over a cohort, borrowed minus overcommitted equals lent.
    """
    quotas, demands = by_pool(snapshot.quotas), by_pool(snapshot.demands)
    rows: list[LedgerRow] = []
    for pool in sorted(snapshot.pools, key=lambda each: each.name):
        pool_demands = demands.get(pool.name, [])
        rows += _pool_rows(
            pool, limits_by_project(quotas.get(pool.name, []), pool_demands, snapshot.cohorts), pool_demands
        )
    return tuple(rows)


def _pool_rows(
    pool: PoolState, limits: Mapping[str, QuotaLimits], demands: list[ResourceDemand]
) -> Iterator[LedgerRow]:
    usage = PoolUsage(pool.capacity, limits.values())
    pending = dict.fromkeys(limits, 0)
    for demand in demands:
        if demand.admitted_at is not None:
            usage.add(demand.project, demand.gpus)
        elif demand.project in pending:
            pending[demand.project] += 1
    loans: dict[tuple[str, str], int] = {}
    for cohort in sorted({each.cohort for each in limits.values() if each.cohort is not None}):
        loans |= _loans(usage, [each for each in limits.values() if each.cohort == cohort])
    in_use = sum(demand.gpus for demand in demands if demand.admitted_at is not None)
    for project in sorted(limits):
        nominal, used, available = limits[project].nominal, usage.used[project], max(0, usage.available(project))
        free = available if pool.allocatable is None else max(0, min(available, pool.allocatable - in_use))
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
            overcommitted=borrowed - sum(borrowed_from.values()),
            lent=lent,
            lent_to=lent_to,
            reclaimable=min(lent, max(0, nominal - used - available)),
            free=free,
            pending=pending[project],
        )


def _loans(usage: PoolUsage, members: list[QuotaLimits]) -> dict[tuple[str, str], int]:
    """Return GPUs by (borrower, lender) in one cohort."""
    members = sorted(members, key=lambda each: each.project)
    borrowed = {each.project: max(0, usage.used[each.project] - each.nominal) for each in members}
    idle = {
        each.project: max(0, min(each.nominal - usage.used[each.project], each.nominal - each.withheld))
        for each in members
    }
    shares = _split_proportionally(min(sum(borrowed.values()), sum(idle.values())), idle)
    loans: dict[tuple[str, str], int] = {}
    for borrower, amount in borrowed.items():
        remaining = amount
        for lender, share in shares.items():
            if lent := min(remaining, share):
                loans[borrower, lender] = lent
                shares[lender] -= lent
                remaining -= lent
    return loans


def _split_proportionally(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split ``amount`` (at most the sum of the weights) by largest remainder; no share exceeds its weight."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    shares = {name: amount * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(amount * weights[name] % total), name))
    for name in by_remainder[: amount - sum(shares.values())]:
        shares[name] += 1
    return shares


def check_quotas(snapshot: Snapshot) -> tuple[QuotaProblem, ...]:
    """Return the problems of the quotas, errors first."""
    pools = {pool.name: pool for pool in snapshot.pools}
    problems = [problem for quota in snapshot.quotas for problem in _check(quota, snapshot.cohorts, pools)]
    quotas = by_pool(snapshot.quotas)
    for pool in snapshot.pools:
        nominal = sum(quota.nominal for quota in quotas.get(pool.name, []))
        if pool.capacity is not None and nominal > pool.capacity:
            message = (
                f"pool {pool.name}: the nominal quotas add up to {nominal} of {pool.capacity}: "
                "a project can wait within its nominal quota, and reclaim nothing"
            )
            problems.append(QuotaProblem(code="overcommitted", severity="warning", message=message, pool=pool.name))
        elif pool.capacity is not None and nominal < pool.capacity:
            message = (
                f"pool {pool.name}: the nominal quotas add up to {nominal} of {pool.capacity}: "
                f"{pool.capacity - nominal} can never be used"
            )
            problems.append(
                QuotaProblem(code="unassigned_capacity", severity="warning", message=message, pool=pool.name)
            )
    return tuple(sorted(problems, key=lambda problem: problem.severity != "error"))


def _check(quota: Quota, cohorts: Mapping[str, str | None], pools: Mapping[str, PoolState]) -> Iterator[QuotaProblem]:
    where = f"quota of project {quota.project} in pool {quota.pool}"
    if quota.pool not in pools:
        yield QuotaProblem(
            code="unknown_pool",
            severity="error",
            message=f"{where}: there is no such pool",
            pool=quota.pool,
            project=quota.project,
        )
    if quota.lending_limit is not None and quota.lending_limit > quota.nominal:
        yield QuotaProblem(
            code="lending_limit_above_nominal",
            severity="error",
            message=f"{where}: the lending limit {quota.lending_limit} is above the nominal quota {quota.nominal}",
            pool=quota.pool,
            project=quota.project,
        )
    limited = quota.borrowing_limit is not None or quota.lending_limit is not None
    if limited and cohorts.get(quota.project) is None:
        yield QuotaProblem(
            code="limits_without_cohort",
            severity="error",
            message=f"{where}: a borrowing or lending limit needs a cohort, and the project is in none",
            pool=quota.pool,
            project=quota.project,
        )
