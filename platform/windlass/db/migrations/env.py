"""Alembic environment: runs on the connection of ``windlass.db.schema``."""

from typing import Any, Literal

from alembic import context
from sqlmodel import AutoString, SQLModel

from windlass.db import columns


def _render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Render custom column types as their storage types, so that migrations import no project code."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, columns.Instant):
        return "sa.BigInteger()"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    compare_type=True,
    transaction_per_migration=True,
    render_as_batch=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
