"""numbers of dataset versions are never given again; jobs whose leavings are removed."""

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
        batch_op.add_column(sa.Column("tidied_at", sa.BigInteger(), nullable=True))
