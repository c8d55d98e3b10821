"""Encrypted projects in a real bucket: nothing is in clear, keys rotate, and a deleted project is unreadable."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest
from tests.factories.s3_server import S3Server
from tests.factories.transfer_server import TransferServer
from tests.fakes.harness import ADMIN

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.storage_layout import project_prefix
from windlass.runtime.artifacts import verify
from windlass.services.consistency import StoreCheck
from windlass.services.data_keys import ProjectKeys
from windlass.services.key_rotation import KeyRotation
from windlass.services.projects import Projects
from windlass.settings import LimitSettings, S3Settings
from windlass.storage.master_keys import FileMasterKeys
from windlass.storage.s3 import S3ObjectStore
from windlass.wire.runs import TRANSFERS_PATH
from windlass_api.storage_ports import open_store

pytestmark = [pytest.mark.s3, pytest.mark.processes]

PRIVATE = b"a private sentence of a person"


def master_keys(tmp_path: Path, *names: str) -> FileMasterKeys:
    path = tmp_path / "master-keys"
    path.write_text("\n".join(f"{name}:{base64.b64encode(name.encode() * 32).decode()[:43]}=" for name in names))
    return FileMasterKeys.read(path)


@dataclass
class EncryptedPlatform:
    """A control plane on a bucket, with a project that was created before the encryption and one after it."""

    server: TransferServer
    clear: str
    sealed: str
    masters: FileMasterKeys

    @property
    def store(self) -> S3ObjectStore:
        return self.server.store

    def raw(self, key: str) -> bytes:
        """Return an object as the bucket has it."""
        bucket = self.store.bucket
        content: bytes = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        return content

    def write_everywhere(self, project: str, folder: Path) -> dict[str, bytes]:
        """Store private text in each way in which files of a project are written; return the stored objects."""
        prefix, store = project_prefix(project), self.store
        store.put(f"{prefix}/put", BytesIO(PRIVATE))
        store.append(f"{prefix}/staged", 0, BytesIO(PRIVATE * 2), 1 << 20)
        store.append(f"{prefix}/staged", 2 * len(PRIVATE), BytesIO(PRIVATE), 1 << 20)
        store.extend(f"{prefix}/log", PRIVATE)
        draft = folder / f"draft-{project}"
        draft.mkdir()
        (draft / "rows.jsonl").write_bytes(PRIVATE)
        (draft / "weights").write_bytes(PRIVATE * 300_000)  # in several parts
        transfer = self.server.transfer(self.server.token(prefix))
        transfer.publish(draft, store.uri(f"{prefix}/datasets/dsv_1"))
        return {key: self.raw(key) for key in store.keys(prefix)}

    def fresh(self, masters: FileMasterKeys | None) -> S3ObjectStore:
        """Return the store of another process with these master keys."""
        harness = self.server.harness
        return replace(self.store, data_keys=ProjectKeys(harness.database, masters, harness.clock))


@pytest.fixture
def platform(tmp_path: Path, s3_server: S3Server) -> Iterator[EncryptedPlatform]:
    (tmp_path / "home").mkdir()
    masters = master_keys(tmp_path, "2026")
    server = TransferServer(tmp_path / "home", s3_server, public=True, masters=masters)
    deps = replace(server.harness.deps, data_keys=None)
    clear = Projects(deps, ADMIN).create("clear", "", None).id
    sealed = server.harness.create_project("sealed")
    yield EncryptedPlatform(server, clear, sealed, masters)
    server.close()


def read(store: S3ObjectStore, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


def test_nothing_of_an_encrypted_project_is_in_clear(platform: EncryptedPlatform, tmp_path: Path) -> None:
    sealed = platform.write_everywhere(platform.sealed, tmp_path)
    assert len(sealed) == 7
    for key, content in sealed.items():
        assert PRIVATE[:12] not in content, key
        assert b"rows.jsonl" not in content, "the manifest is encrypted too"
    clear = platform.write_everywhere(platform.clear, tmp_path)
    assert all(PRIVATE in content for key, content in clear.items() if not key.endswith(MANIFEST_NAME))


def test_an_encrypted_project_is_read_in_each_way(platform: EncryptedPlatform, tmp_path: Path) -> None:
    for project in (platform.sealed, platform.clear):
        stored = platform.write_everywhere(project, tmp_path)
        prefix, store = project_prefix(project), platform.store
        assert read(store, f"{prefix}/put") == PRIVATE
        assert read(store, f"{prefix}/staged") == PRIVATE * 3
        assert store.size(f"{prefix}/staged") == 3 * len(PRIVATE)
        folder = f"{prefix}/datasets/dsv_1"
        transfer = platform.server.transfer(platform.server.token(prefix))
        fetched = transfer.fetch(store.uri(folder), tmp_path / f"fetched-{project}")
        manifest = verify(fetched)
        assert (fetched / "weights").read_bytes() == PRIVATE * 300_000
        rows = transfer.fetch_file(store.uri(f"{prefix}/staged"), tmp_path / f"staged-{project}")
        assert rows.read_bytes() == PRIVATE * 3
        with store.open(store.published_file(folder, "weights", manifest.digest())) as stream:
            stream.seek(30 * 123_456)
            assert stream.read(30) == PRIVATE
        assert store.total_bytes(prefix) < sum(map(len, stored.values())) + 1


def test_a_pod_gets_the_secrets_of_encrypted_objects_and_no_new_fields_of_others(
    platform: EncryptedPlatform, tmp_path: Path
) -> None:
    secrets = set()
    for project, fields in ((platform.sealed, {"url", "bytes", "secret", "name"}), (platform.clear, {"url", "bytes"})):
        platform.write_everywhere(project, tmp_path)
        prefix = project_prefix(project)
        client = platform.server.harness.client_for_key(platform.server.token(prefix))
        uri = platform.store.uri(f"{prefix}/datasets/dsv_1")
        files = client.post(f"{TRANSFERS_PATH}:open-folder", json={"uri": uri}).json()["files"]
        assert {frozenset(file) for file in files.values()} == {frozenset(fields)}
        secrets |= {file.get("secret") for file in files.values()}
    with platform.server.harness.database.read() as uow:
        [key] = uow.all_projects().data_keys.all()
    data_key = platform.masters.unwrap(key.master_key, key.wrapped, key.project)
    assert len(secrets) == 3, "each object has its own"
    assert base64.b64encode(data_key).decode() not in secrets


def test_the_api_takes_the_bytes_of_an_encrypted_project_itself(platform: EncryptedPlatform) -> None:
    client, files = platform.server.harness.client, [{"name": "rows.csv", "bytes": 20, "sha256": "0" * 64}]
    for project, takes_parts in (("clear", True), ("sealed", False)):
        base = f"/v1/projects/{project}"
        client.post(f"{base}/datasets", json={"name": "notes", "task": "text-classification"})
        upload = client.post(f"{base}/uploads", json={"dataset": "notes", "files": files}).json()
        assert (upload["files"][0]["parts_url"] is not None) == takes_parts
        signed = client.post(f"{base}/uploads/{upload['id']}/files/rows.csv:sign-parts")
        assert (signed.status_code == 200) == takes_parts
        path = f"{base}/uploads/{upload['id']}/files/rows.csv"
        sent = client.put(path, content=b"text,label\n", headers={"Upload-Offset": "0"})
        assert sent.status_code == 200, sent.text


def test_a_new_master_key_wraps_the_data_keys_again_and_no_file_changes(
    platform: EncryptedPlatform, tmp_path: Path
) -> None:
    before = platform.write_everywhere(platform.sealed, tmp_path)
    worker = platform.server.harness.worker.deps
    both = master_keys(tmp_path, "2027", "2026")
    keys = ProjectKeys(worker.database, both, worker.clock)
    KeyRotation(replace(worker, data_keys=keys)).step()
    with worker.database.read() as uow:
        assert [key.master_key for key in uow.all_projects().data_keys.all()] == ["2027"]
    key = f"{project_prefix(platform.sealed)}/put"
    assert read(platform.fresh(master_keys(tmp_path, "2027")), key) == PRIVATE
    with pytest.raises(UnavailableError, match="2027"):
        read(platform.fresh(platform.masters), key)
    assert {key: platform.raw(key) for key in before} == before
    rotated = KeyRotation(replace(worker, data_keys=keys))
    with worker.database.read() as uow:
        wrapped = uow.all_projects().data_keys.all()
    rotated.step()
    with worker.database.read() as uow:
        assert uow.all_projects().data_keys.all() == wrapped, "a second step changes nothing"


def test_a_key_that_cannot_be_unwrapped_is_reported_and_kept(platform: EncryptedPlatform, tmp_path: Path) -> None:
    worker = platform.server.harness.worker.deps
    path = tmp_path / "wrong"
    path.write_text(f"2027:{base64.b64encode(b'n' * 32).decode()}\n2026:{base64.b64encode(b'w' * 32).decode()}")
    keys = ProjectKeys(worker.database, FileMasterKeys.read(path), worker.clock)
    with worker.database.read() as uow:
        before = uow.all_projects().data_keys.all()
    with pytest.raises(UnavailableError, match="cannot be unwrapped"):
        KeyRotation(replace(worker, data_keys=keys)).step()
    with worker.database.read() as uow:
        assert uow.all_projects().data_keys.all() == before


def test_without_its_master_key_a_server_reads_and_writes_nothing(platform: EncryptedPlatform, tmp_path: Path) -> None:
    platform.write_everywhere(platform.sealed, tmp_path)
    without, prefix = platform.fresh(None), project_prefix(platform.sealed)
    for operation in (
        lambda: read(without, f"{prefix}/put"),
        lambda: without.put(f"{prefix}/new", BytesIO(PRIVATE)),
        lambda: without.append(f"{prefix}/new", 0, BytesIO(PRIVATE), 100),
        lambda: without.extend(f"{prefix}/new", PRIVATE),
    ):
        with pytest.raises(UnavailableError, match="master key"):
            operation()
    assert not list(platform.store.keys(f"{prefix}/new"))


def test_what_is_left_of_a_deleted_project_cannot_be_opened(platform: EncryptedPlatform, tmp_path: Path) -> None:
    stored = platform.write_everywhere(platform.sealed, tmp_path)
    harness = platform.server.harness
    etag = harness.client.get("/v1/projects/sealed").headers["ETag"]
    assert harness.client.delete("/v1/projects/sealed", headers={"If-Match": etag}).status_code == 200
    with harness.database.read() as uow:
        assert uow.all_projects().data_keys.all() == [], "the key goes with the project, not with its files"
    assert [key for key in stored if platform.raw(key)], "the files are still there"
    store = platform.fresh(platform.masters)
    for operation in (
        lambda: read(store, f"{project_prefix(platform.sealed)}/put"),
        lambda: store.put(f"{project_prefix(platform.sealed)}/late", BytesIO(PRIVATE)),
    ):
        with pytest.raises(NotFoundError):
            operation()
    harness.delete_expired()
    assert list(platform.store.keys(project_prefix(platform.sealed))) == []


def test_the_check_of_the_store_reads_encrypted_files(platform: EncryptedPlatform, tmp_path: Path) -> None:
    harness, store = platform.server.harness, platform.store
    harness.create_dataset("sealed")
    with harness.database.read() as uow:
        [version] = uow.all_projects().dataset_versions.all()
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "rows.jsonl").write_bytes(PRIVATE)
    transfer = platform.server.transfer(platform.server.token(project_prefix(platform.sealed)))
    manifest = transfer.publish(draft, store.uri(version.prefix))
    with harness.database.write() as uow:
        updated = version.model_copy(update={"digest": manifest.digest()})
        uow.project(platform.sealed).dataset_versions.save(updated)
    check = StoreCheck(harness.database, store)
    assert check.run(hashes=True).problems == ()
    key = store.published_file(version.prefix, "rows.jsonl", manifest.digest())
    content = platform.raw(key)
    store.delete(key)
    store.bucket.client.put_object(Bucket=store.bucket.name, Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
    [problem] = check.run(hashes=True).problems
    assert (problem.kind, problem.key) == ("changed", key)


def test_master_keys_without_a_bucket_are_refused(platform: EncryptedPlatform, tmp_path: Path) -> None:
    harness = platform.server.harness
    keys = ProjectKeys(harness.database, platform.masters, harness.clock)
    with pytest.raises(InvalidError, match="folder"):
        open_store(S3Settings(), LimitSettings(), lambda: tmp_path, keys)
