"""Add the tables of the cluster sync, quota changes, queue times, GPU reservations and request loads."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "demand",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("admitted_at", sa.BigInteger(), nullable=True),
        sa.Column("terminating", sa.Boolean(), nullable=False),
        sa.Column("tiebreak", sa.String(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_table(
        "cluster_sync_status",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("synced_at", sa.BigInteger(), nullable=True),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "api_uptime",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("refreshes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "request_load",
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("ongoing", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("instance"),
    )
    op.create_table(
        "queue_quota",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("nominal", sa.Integer(), nullable=False),
        sa.Column("borrowing_limit", sa.Integer(), nullable=True),
        sa.Column("lending_limit", sa.Integer(), nullable=True),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("cohort", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("project", "pool"),
    )
    op.create_table(
        "quota_change",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("quota_change", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quota_change_ended_at"), ["ended_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_quota_change_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_quota_change_state"), ["state"], unique=False)

    op.create_table(
        "queue_time_sample",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("admitted_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "pool", "subject"),
    )
    with op.batch_alter_table("queue_time_sample", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_queue_time_sample_admitted_at"), ["admitted_at"], unique=False)

    op.create_table(
        "gpu_reservation",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("reserved_at", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["job.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "holder", "reserved_at"),
    )
    held = sa.text("released_at IS NULL")
    op.create_index("ix_gpu_reservation_held", "gpu_reservation", ["job"], sqlite_where=held, postgresql_where=held)

    with op.batch_alter_table("pool", schema=None) as batch_op:
        batch_op.add_column(sa.Column("nodes", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("ready_nodes", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("allocatable", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("free_gpus", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("problem", sa.String(), nullable=False, server_default=""))

    with op.batch_alter_table("quota", schema=None) as batch_op:
        batch_op.add_column(sa.Column("managed_by", sa.String(), nullable=False, server_default=""))
