"""``windlass up --database --store``: what the server's process gets."""

import pytest

from windlass.cli.commands.up import _storage_variables
from windlass.domain.errors import InvalidError


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_urls_become_settings_of_the_server(scheme: str) -> None:
    assert _storage_variables(f"{scheme}://u:p@db:5432/windlass?sslmode=require", "s3://models") == {
        "WINDLASS_DATABASE_URL": "postgresql+psycopg://u:p@db:5432/windlass?sslmode=require",
        "WINDLASS_S3_BUCKET": "models",
    }
    assert _storage_variables(None, None) == {}


@pytest.mark.parametrize("url", ["mysql://db/x", "windlass.db", "postgresql://", ""])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="--database"):
        _storage_variables(url, None)


@pytest.mark.parametrize(
    "url", ["models", "https://s3.example.org/models", "s3://", "s3://models/prefix", "s3://m?x=1"]
)
def test_another_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="--store"):
        _storage_variables(None, url)
