"""Add outcome, changes and the chain of hashes to the audit log, and the triggers that protect it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_CONTENT = (
    "id",
    "time",
    "actor",
    "project",
    "action",
    "subject",
    "name",
    "request_id",
    "key",
    "address",
    "outcome",
    "code",
    "count",
    "changes",
)
_REFUSALS = {
    "insert": "a new row of the audit log is not sealed, and its id is new",
    "update": "a row of the audit log is changed once, when it is sealed",
    "delete": "a row of the audit log is deleted by the retention only",
    "ends": "the ends of the audit log only move forward, to the hash of a row",
}


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.add_column(sa.Column("key", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("address", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("outcome", sa.String(), nullable=False, server_default="accepted"))
        batch_op.add_column(sa.Column("code", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("count", sa.Integer(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("changes", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("position", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("previous_hash", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("hash", sa.String(), nullable=True))
        batch_op.create_index("ix_audit_key_id", ["key", "id"], unique=False)
        batch_op.create_index("ix_audit_request_id", ["request_id", "id"], unique=False)
        batch_op.drop_index("ix_audit_time")
    for name, column, condition in (
        ("ix_audit_denied", "id", "outcome = 'denied'"),
        ("ix_audit_unsealed", "id", "position IS NULL"),
        ("uq_audit_position", "position", "position IS NOT NULL"),
    ):
        where, unique = sa.text(condition), name.startswith("uq")
        op.create_index(name, "audit", [column], unique=unique, sqlite_where=where, postgresql_where=where)
    ends = op.create_table(
        "audit_chain",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("anchor_position", sa.BigInteger(), nullable=False),
        sa.Column("anchor_hash", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    zero = "0" * 64
    op.bulk_insert(ends, [{"id": 1, "anchor_position": 0, "anchor_hash": zero, "position": 0, "hash": zero}])
    for statement in _sqlite() if op.get_bind().dialect.name == "sqlite" else _postgres():
        op.execute(statement)


def _bad_end(name: str, position: str, digest: str) -> str:
    """Return the condition under which an end of the chain moves to where no row has this hash."""
    row = f"SELECT 1 FROM audit WHERE audit.position = NEW.{position} AND audit.hash = NEW.{digest}"  # noqa: S608 - columns
    moved = f"(NEW.{position} <> OLD.{position} OR NEW.{digest} <> OLD.{digest})"
    return f"{name} (NEW.{position} < OLD.{position} OR ({moved} AND NOT EXISTS ({row})))"


_BAD_ENDS = (
    "NEW.id <> OLD.id OR NEW.anchor_position > NEW.position"
    + _bad_end(" OR", "position", "hash")
    + _bad_end(" OR", "anchor_position", "anchor_hash")
)
_BAD_POSITION = (
    "OLD.position IS NOT NULL OR NEW.position IS NULL OR NEW.previous_hash IS NULL OR NEW.hash IS NULL"
    " OR NEW.position <= (SELECT audit_chain.position FROM audit_chain)"
)
_BAD_INSERT = "NEW.position IS NOT NULL OR NEW.previous_hash IS NOT NULL OR NEW.hash IS NOT NULL"
_BAD_DELETE = "COALESCE(OLD.position > (SELECT anchor_position FROM audit_chain), 1 = 1)"


def _sqlite() -> list[str]:
    # REPLACE deletes rows without a trigger, so the other triggers refuse the conflicts that it would resolve.
    exists = "EXISTS (SELECT 1 FROM audit WHERE audit.id = NEW.id)"
    changed = " OR ".join(f'NEW."{name}" IS NOT OLD."{name}"' for name in _CONTENT)
    triggers = (
        ("audit", "INSERT", f"{_BAD_INSERT} OR {exists}", "insert"),
        ("audit", "UPDATE", f"{_BAD_POSITION} OR {changed}", "update"),
        ("audit", "DELETE", _BAD_DELETE, "delete"),
        ("audit_chain", "INSERT", "1", "ends"),
        ("audit_chain", "UPDATE", _BAD_ENDS, "ends"),
        ("audit_chain", "DELETE", "1", "ends"),
    )
    return [
        f"CREATE TRIGGER {table}_{operation.lower()} BEFORE {operation} ON {table} WHEN {condition} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSALS[refusal]}'); END"
        for table, operation, condition, refusal in triggers
    ]


def _postgres() -> list[str]:
    def refuse(condition: str, refusal: str) -> str:
        raised = f"RAISE EXCEPTION '{_REFUSALS[refusal]}' USING ERRCODE = 'restrict_violation';"
        return f"IF {condition} THEN {raised} END IF;"

    # JSON has no equality operator.
    new, old = (
        ", ".join(f'{row}."{name}"' + ("::text" if name == "changes" else "") for name in _CONTENT)
        for row in ("NEW", "OLD")
    )
    changed = f"({new}) IS DISTINCT FROM ({old})"
    functions = (
        ("audit", "INSERT", refuse(_BAD_INSERT, "insert") + " RETURN NEW;"),
        ("audit", "UPDATE", refuse(f"{_BAD_POSITION} OR {changed}", "update") + " RETURN NEW;"),
        ("audit", "DELETE", refuse(_BAD_DELETE, "delete") + " RETURN OLD;"),
        ("audit", "TRUNCATE", refuse("true", "delete") + " RETURN NULL;"),
        ("audit_chain", "INSERT", refuse("true", "ends") + " RETURN NEW;"),
        ("audit_chain", "UPDATE", refuse(_BAD_ENDS, "ends") + " RETURN NEW;"),
        ("audit_chain", "DELETE", refuse("true", "ends") + " RETURN OLD;"),
        ("audit_chain", "TRUNCATE", refuse("true", "ends") + " RETURN NULL;"),
    )
    statements = []
    for table, operation, body in functions:
        name = f"{table}_{operation.lower()}"
        each = "STATEMENT" if operation == "TRUNCATE" else "ROW"
        statements += [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
            f"CREATE TRIGGER {name} BEFORE {operation} ON {table} FOR EACH {each} EXECUTE FUNCTION {name}()",
        ]
    return statements
