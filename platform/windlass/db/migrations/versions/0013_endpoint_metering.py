"""Add the GPU time of endpoints to reservations and to the sums of months."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_COLUMNS = "month, project, pool, kind, api_key, model, parts, cost, version"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("gpu_reservation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("endpoint", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("resizes", sa.JSON(), nullable=False, server_default="[]"))
    # a new table: the endpoint is a part of the primary key
    op.create_table(
        "gpu_usage_new",
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False, server_default=""),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("month", "project", "pool", "kind", "api_key", "model", "endpoint"),
    )
    op.execute(f"INSERT INTO gpu_usage_new ({_COLUMNS}) SELECT {_COLUMNS} FROM gpu_usage")  # noqa: S608 - constants
    op.drop_table("gpu_usage")
    op.rename_table("gpu_usage_new", "gpu_usage")
