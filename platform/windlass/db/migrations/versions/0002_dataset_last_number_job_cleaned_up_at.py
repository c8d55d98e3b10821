"""Add dataset.last_number, so that version numbers are not reused, job.cleaned_up_at and job.history_deleted_at."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_number", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE dataset SET last_number ="
        " (SELECT coalesce(max(number), 0) FROM dataset_version WHERE dataset_version.dataset = dataset.id)"
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cleaned_up_at", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("history_deleted_at", sa.BigInteger(), nullable=True))
    for index, marker in (("ix_job_clean_up", "cleaned_up_at"), ("ix_job_history", "history_deleted_at")):
        pending = sa.text(f"{marker} IS NULL AND finished_at IS NOT NULL")
        op.create_index(index, "job", ["finished_at", "id"], sqlite_where=pending, postgresql_where=pending)
