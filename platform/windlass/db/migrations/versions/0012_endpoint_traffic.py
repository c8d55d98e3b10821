"""Add the requests to endpoints by minute."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_WITHIN = (
    *(5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 7500, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000),
)
_COUNTS = ("succeeded", "rejected", "failed", "cancelled", *(f"within_{bound}" for bound in _WITHIN), "slower")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "endpoint_traffic",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("project", "endpoint", "minute", "instance"),
    )
    with op.batch_alter_table("endpoint_traffic", schema=None) as batch_op:
        batch_op.create_index("ix_endpoint_traffic_minute", ["minute"], unique=False)
