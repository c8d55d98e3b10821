"""Add run.warm_trainer."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("warm_trainer", sa.String(), nullable=True))
        batch_op.create_index("ix_run_warm_trainer", ["warm_trainer"], unique=True)
