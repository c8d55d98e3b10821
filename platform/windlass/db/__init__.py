"""The database adapter: SQLModel declares tables, SQLAlchemy Core runs statements; rows never leave this package."""
