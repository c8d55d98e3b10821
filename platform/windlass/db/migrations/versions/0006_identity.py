"""Add users, service accounts, sessions, roles of groups and platform roles; owners become admins."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "user_account",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("groups", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("issuer", "subject"),
    )
    op.create_table(
        "service_account",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name"),
    )
    _extend_keys()
    op.create_table(
        "user_session",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=True),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["api_key"], ["api_key.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("user_session", schema=None) as batch_op:
        batch_op.create_index("ix_user_session_expires_at", ["expires_at"], unique=False)
        batch_op.create_index("ix_user_session_api_key", ["api_key"], unique=False)
        batch_op.create_index("ix_user_session_user", ["user"], unique=False)
    _replace_members()


def _extend_keys() -> None:
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.add_column(sa.Column("platform_role", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("service_account", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("permissions", sa.JSON(none_as_null=True), nullable=True))
    op.execute("UPDATE api_key SET platform_role = 'platform-admin' WHERE admin")
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.drop_column("admin")
        batch_op.create_index("ix_api_key_service_account", ["service_account"], unique=False)
        batch_op.create_foreign_key(
            "fk_api_key_service_account", "service_account", ["service_account"], ["id"], ondelete="CASCADE"
        )


def _replace_members() -> None:
    """Copy the members to a table with another primary key, which SQLite cannot change."""
    op.rename_table("member", "member_0005")
    op.create_table(
        "member",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "kind", "name"),
    )
    op.execute(
        """
        INSERT INTO member (project, kind, name, role, version)
        SELECT project, 'User', "user", CASE role WHEN 'owner' THEN 'admin' ELSE role END, version FROM member_0005
        """
    )
    op.drop_table("member_0005")
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.create_index("ix_member_name", ["name"], unique=False)
