"""The test cluster's code that runs without root: start order, cache, images, relay, prerequisites."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.testcluster import builds, database_schema, oci, prerequisites, relay, versions
from tests.testcluster.components import Component, start_all
from tests.testcluster.errors import LocalClusterError, UnsupportedHostError
from tests.testcluster.layout import PACKAGE_DIR, LocalCluster


def ignore_progress(_: str, __: float) -> None:
    """A progress reporter that drops everything."""


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    return LocalCluster(tmp_path / "state", tmp_path / "cache")


def test_a_component_starts_when_its_dependencies_are_ready(cluster: LocalCluster) -> None:
    events: list[str] = []

    def component(name: str, *depends_on: str) -> Component:
        def ready(_: LocalCluster) -> bool:
            events.append(f"ready {name}")
            return True

        return Component(name, lambda _: events.append(f"start {name}"), ready, depends_on)

    start_all(
        cluster,
        [component("last", "first", "second"), component("second", "first"), component("first")],
        ignore_progress,
    )
    assert events == ["start first", "ready first", "start second", "ready second", "start last", "ready last"]


def test_a_component_that_never_becomes_ready_is_reported_with_its_log_tail(cluster: LocalCluster) -> None:
    cluster.logs.mkdir(parents=True)
    cluster.log("stuck").write_text("early\nit cannot bind\n")
    stuck = Component("stuck", lambda _: None, lambda _: False, timeout_seconds=0.1)
    with pytest.raises(LocalClusterError, match=r"(?s)stuck is not ready after 0 s.*it cannot bind"):
        start_all(cluster, [stuck], ignore_progress)


def test_a_database_that_other_migrations_have_made_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    cluster.run_dir.mkdir(parents=True)
    migrations = tmp_path / "versions"
    migrations.mkdir()
    for name in ("0001_tables.py", "0002_column.py"):
        (migrations / name).write_text(f"# {name}")
        database_schema.check_and_record(cluster, migrations)
    (migrations / "notes.py").write_text("no migration")
    database_schema.check_and_record(cluster, migrations)
    (migrations / "0002_column.py").write_text("# changed")
    (migrations / "0001_tables.py").unlink()
    for _ in range(2):
        with pytest.raises(LocalClusterError, match=r"0001_tables.py, 0002_column.py changed .* make cluster-down"):
            database_schema.check_and_record(cluster, migrations)
    shutil.rmtree(cluster.run_dir)  # the cluster was stopped, and its database deleted
    cluster.run_dir.mkdir()
    database_schema.check_and_record(cluster, migrations)


def test_every_go_module_has_the_version_of_versions_toml() -> None:
    groups = versions.read()
    assert set(groups) == {folder.name for folder in (PACKAGE_DIR / "go").iterdir()}


def test_a_version_that_differs_from_go_mod_is_refused(tmp_path: Path) -> None:
    changed = tmp_path / "versions.toml"
    changed.write_text((PACKAGE_DIR / "versions.toml").read_text().replace('version = "v0.8.0"', 'version = "v0.8.1"'))
    with pytest.raises(LocalClusterError, match=r"kwok.go\.mod does not require sigs\.k8s\.io/kwok v0\.8\.1"):
        versions.read(changed)


def test_the_cache_key_depends_on_files_versions_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PACKAGE_DIR / "go" / "pause", tmp_path / "pause")
    monkeypatch.setattr(versions.Group, "folder", property(lambda group: tmp_path / group.name))
    group = versions.Group("pause", "m", "v1", {"pause": "."})
    keys = {
        builds.key(group, "go1.26.0 linux/amd64"),
        builds.key(group, "go1.26.1 linux/amd64"),
        builds.key(versions.Group("pause", "m", "v2", {"pause": "."}), "go1.26.0 linux/amd64"),
    }
    (tmp_path / "pause" / "go.sum").write_text("more\n")
    keys.add(builds.key(group, "go1.26.0 linux/amd64"))
    assert len(keys) == 4


def test_a_failed_build_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise LocalClusterError("no")

    monkeypatch.setattr(builds, "_go", fail)
    monkeypatch.setattr(builds, "go_version", lambda: "go1.26.0 linux/amd64")
    with pytest.raises(LocalClusterError):
        builds.build_all([versions.read()["pause"]], tmp_path, ignore_progress)
    assert list((tmp_path / "go").iterdir()) == []


def test_an_image_is_an_oci_archive_with_matching_digests(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and so on")
    archive = tmp_path / "image.tar"
    oci.write(archive, "bed.local/thing:v1", program)
    again = tmp_path / "again.tar"
    oci.write(again, "bed.local/thing:v1", program)
    assert again.read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as tar:
        files = {each.name: tar.extractfile(each) for each in tar.getmembers()}
        content = {name: stream.read() for name, stream in files.items() if stream}
    blobs = {name: text for name, text in content.items() if name.startswith("blobs/sha256/")}
    assert len(blobs) == 3
    assert all(name.endswith(hashlib.sha256(text).hexdigest()) for name, text in blobs.items())
    manifest = json.loads(content["index.json"])["manifests"][0]
    assert manifest["annotations"]["io.containerd.image.name"] == "bed.local/thing:v1"
    assert json.loads(blobs["blobs/sha256/" + manifest["digest"][7:]])["layers"][0]["size"] > program.stat().st_size


async def connected(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a socket, with retries until it exists."""
    for _ in range(500):
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.open_unix_connection(path)
        await asyncio.sleep(0.01)
    raise AssertionError(f"no listener on {path}")


def test_the_relay_forwards_and_half_closes_both_directions(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"received " + await reader.read())
        writer.close()

    async def talk() -> bytes:
        far, near = f"{tmp_path}/far.sock", f"{tmp_path}/near.sock"
        async with await asyncio.start_unix_server(answer, far):
            serving = asyncio.create_task(relay.serve(f"unix:{near}", f"unix:{far}"))
            reader, writer = await connected(near)
            writer.write(b"hello" * 50_000)
            writer.write_eof()
            answered = await reader.read()
            writer.close()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            return answered

    assert asyncio.run(talk()) == b"received " + b"hello" * 50_000


@pytest.mark.parametrize(
    ("system", "user", "message"),
    [("Darwin", 0, "needs Linux; this is Darwin"), ("Linux", 1000, "needs root")],
)
def test_an_unsupported_host_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, system: str, user: int, message: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(UnsupportedHostError, match=message):
        prerequisites.check({}, install=False)


def test_missing_packages_are_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "go_version", lambda: "go1.26.0 linux/amd64")
    with pytest.raises(UnsupportedHostError, match="apt-get install --no-install-recommends zebra"):
        prerequisites.check({"zebra": "no-such-program"}, install=False)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9"])
def test_an_older_go_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\nprintf '%s\\n' {version} linux amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedHostError, match=f"is {version}"):
        prerequisites.go_version()
