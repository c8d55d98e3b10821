"""Turn on row security: ``windlass.db.row_security`` sets the policies after the migrations, in their transaction."""

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
