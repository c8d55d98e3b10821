"""The commands of the guide on backups, with a real PostgreSQL server and a real S3 server, and what is restored."""

import hashlib
import io
import os
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import text
from tests.architecture.tree import ROOT
from tests.docs.pages import commands_of, session
from tests.factories.http_servers import serve
from tests.factories.postgres_server import postgres_server
from tests.factories.s3_server import SMALL_PARTS, S3Server
from tests.fakes import harness
from tests.fakes.harness import ControlPlaneHarness
from tests.testcluster.tools import tool

from windlass.db.engines import postgres_engine
from windlass.db.migrate import migrate
from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, Manifest
from windlass.domain.datasets import VersionState
from windlass.sdk import Client
from windlass.services.consistency import StoreCheck
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket

pytestmark = [pytest.mark.s3, pytest.mark.processes]
PAGE = Path("docs/guides/back-up-and-restore.md")
REASON = "run by tests/integration/storage/test_backup_guide.py"
ROWS = "text,label\n" + "".join(f"text number {number},{'good' if number % 2 else 'bad'}\n" for number in range(400))


class ControlPlaneOnBucket:
    """A control plane over a database and a bucket; use as a context manager."""

    def __init__(self, home: Path, url: str, bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        home.mkdir()
        monkeypatch.setattr(harness, "new_engine", lambda *_, **__: postgres_engine(url, connections=20))
        self.store = S3ObjectStore(bucket, SMALL_PARTS)
        self.harness = ControlPlaneHarness(home, object_store=self.store)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.url = f"http://127.0.0.1:{self._open.enter_context(serve(self.harness.app, 0))}"
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.harness.close()

    @property
    def key(self) -> str:
        return str(self.harness.client.headers["authorization"]).removeprefix("Bearer ")

    def publish_rows(self) -> str:
        """Store the files of the only dataset version, as its data process would; return the key of its rows."""
        content = b'{"text": "a", "label": "b"}'
        manifest = Manifest(
            files={"train.jsonl": FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())}
        )
        with self.harness.database.write() as uow:
            [version] = uow.all_projects().dataset_versions.all()
            update = {"state": VersionState.READY, "digest": manifest.digest()}
            uow.project(version.project).dataset_versions.save(version.model_copy(update=update))
        key = self.store.published_file(version.prefix, "train.jsonl", manifest.digest())
        self.store.put(key, io.BytesIO(content))
        self.store.put(f"{version.prefix}/{MANIFEST_NAME}", io.BytesIO(manifest.model_dump_json().encode()))
        return key

    def client(self, key: str) -> Client:
        return Client(url=self.url, key=key, project="ours")


def test_a_restored_installation_has_the_data_and_accepts_the_keys(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_url, new_url = _database_of("old_owner"), _database_of("new_owner")
    _migrate(old_url)
    old_bucket, new_bucket = s3_server.new_bucket(), s3_server.new_bucket()
    rows = tmp_path / "reviews.csv"
    rows.write_text(ROWS, "utf-8")
    with ControlPlaneOnBucket(tmp_path / "old", old_url, old_bucket, monkeypatch) as old:
        old.harness.create_project("ours")
        key = old.key
        with old.client(key) as client:
            version = client.datasets.upload("reviews", [rows], task="text-classification")
        train = old.publish_rows()
        files = {name: _content(old.store, name) for name in old.store.keys("projects")}
        assert files
        settings = s3_server.settings(old_bucket.name)
        _run(
            tmp_path,
            DATABASE_URL=old_url.replace("+psycopg", ""),
            NEW_DATABASE_URL=new_url.replace("+psycopg", ""),
            BUCKET=old_bucket.name,
            NEW_BUCKET=new_bucket.name,
            S3_ENDPOINT_URL=s3_server.url,
            AWS_ACCESS_KEY_ID=settings.access_key_id,
            AWS_SECRET_ACCESS_KEY=settings.secret_access_key.get_secret_value(),
            AWS_REGION=settings.region,
        )
    _migrate(new_url)  # as the chart does: only policies and privileges are missing
    with ControlPlaneOnBucket(tmp_path / "new", new_url, new_bucket, monkeypatch) as new, new.client(key) as client:
        [found] = [each for each in client.datasets.list().items if each.name == "reviews"]
        assert found.name == "reviews"
        assert client.datasets.version(f"reviews@{version.number}").id == version.id
        assert {name: _content(new.store, name) for name in new.store.keys("projects")} == files
        check = StoreCheck(new.harness.database, new.store)
        assert check.run(hashes=True).problems == ()
        new.store.delete(train)
        assert [(each.kind, each.key) for each in check.run().problems] == [("missing", train)]


def _database_of(role: str) -> str:
    """Return the URL of an empty database for a role that is no superuser."""
    server = postgres_server()
    admin = postgres_engine(server.new_database(migrated=False), connections=1)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT ALL ON SCHEMA public TO {role}"))
    admin.dispose()
    return server.url(str(admin.url.database), role)


def _migrate(url: str) -> None:
    engine = postgres_engine(url, connections=1)
    migrate(engine)
    engine.dispose()


def _content(store: S3ObjectStore, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


def _run(folder: Path, **environment: str) -> None:
    steps = [each for each in commands_of(PAGE, (ROOT / PAGE).read_text("utf-8")) if each.skip == REASON]
    assert [each.text.split()[0] for each in steps] == ["pg_dump", "s5cmd", "pg_restore", "pg_restore", "s5cmd"]
    path = f"{tool('s5cmd').parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", session([replace(each, skip="") for each in steps])],
        cwd=folder,
        env=os.environ | environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
