"""Add metering of GPU time and requests, prices of pools, and budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_CHUNK = 500
"""Rows that one statement inserts."""


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("created_with", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("phases", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("kept_seconds", sa.Float(), nullable=False, server_default="0"))
    _create_reservations()
    _create_usage()
    _create_budgets()
    _copy_prices()


def _create_reservations() -> None:
    """Create the table again without the foreign key to jobs: warm trainers have reservations too."""
    op.create_table(
        "gpu_reservation_new",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("reserved_at", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("settlement", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("job", "holder", "reserved_at"),
    )
    _copy_reservations()
    op.drop_table("gpu_reservation")
    op.rename_table("gpu_reservation_new", "gpu_reservation")
    op.create_index("ix_gpu_reservation_project", "gpu_reservation", ["project"])
    for name, columns, condition in (
        ("ix_gpu_reservation_held", ["job"], "released_at IS NULL"),
        ("ix_gpu_reservation_unsettled", ["job", "holder", "reserved_at"], "settlement IS NULL"),
        ("ix_gpu_reservation_unsettled_of_project", ["project"], "settlement IS NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "gpu_reservation", columns, sqlite_where=where, postgresql_where=where)


def _copy_reservations() -> None:
    """Copy the reservations of a cluster; on one machine, add those of the runs, of which they were derived."""
    connection = op.get_bind()
    columns = ("job", "holder", "reserved_at", "project", "pool", "gpus", "released_at")
    old = sa.table("gpu_reservation", *(sa.column(name) for name in columns))
    new = sa.table("gpu_reservation_new", *(sa.column(name) for name in (*columns, "api_key", "model")))
    run = sa.table("run", *(sa.column(name) for name in ("id", "project", "job", "created_at", "ended_at")))
    job = sa.table("job", sa.column("id"), sa.column("spec", sa.JSON()))
    is_cluster = connection.execute(sa.text("SELECT 1 FROM cluster_sync_status")).first() is not None
    source = old if is_cluster else run
    query = sa.select(*source.c, job.c.spec).join_from(source, job, job.c.id == source.c.job)
    rows = []
    for row in connection.execute(query).mappings().all():
        spec = row["spec"]
        values = {name: row[name] for name in columns} if is_cluster else _of_run(row, spec.get("resources", {}))
        rows.append({**values, "api_key": "", "model": spec.get("model", "")})
    for start in range(0, len(rows), _CHUNK):
        connection.execute(sa.insert(new), rows[start : start + _CHUNK])


def _of_run(run: sa.RowMapping, resources: dict[str, object]) -> dict[str, object]:
    workers, gpus = resources.get("workers", 1), resources.get("gpus_per_worker", 1)
    return {
        "job": run["job"],
        "holder": run["id"],
        "reserved_at": run["created_at"],
        "project": run["project"],
        "pool": resources.get("pool", "local"),
        "gpus": int(str(workers)) * int(str(gpus)),
        "released_at": run["ended_at"],
    }


def _create_usage() -> None:
    op.create_table(
        "pool_price",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("micros_per_gpu_hour", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "valid_from"),
    )
    op.create_table(
        "gpu_usage",
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("month", "project", "pool", "kind", "api_key", "model"),
    )
    counts = ("succeeded", "rejected", "failed", "cancelled", "prompt_tokens", "completion_tokens")
    op.create_table(
        "request_usage",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.PrimaryKeyConstraint("project", "hour", "api_key", "endpoint", "model", "number", "instance"),
    )
    with op.batch_alter_table("request_usage", schema=None) as batch_op:
        batch_op.create_index("ix_request_usage_hour", ["hour"], unique=False)


def _create_budgets() -> None:
    op.create_table(
        "budget",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("gpu_time", sa.BigInteger(), nullable=True),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "budget_alert",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("reached_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "month", "percent"),
    )


def _copy_prices() -> None:
    """Start the history of each pool with its price of today: earlier ones were not stored."""
    op.execute(
        "INSERT INTO pool_price (pool, valid_from, micros_per_gpu_hour) "
        "SELECT name, 0, CAST(round(CAST(price_per_gpu_hour AS numeric) * 1000000) AS bigint) FROM pool"
    )
