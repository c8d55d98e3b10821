"""The pieces of the test bed that work without root: order of starting, cache, images, relay, refusals."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.bed import builds, needs, oci, relay, versions
from tests.bed.failures import BedError, UnableError
from tests.bed.layout import HERE, Bed
from tests.bed.parts import Part, start_all


def silent(_: str, __: float) -> None:
    """A start that nobody watches."""


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path / "state", tmp_path / "cache")


def test_a_part_starts_when_all_it_needs_are_ready(bed: Bed) -> None:
    happened: list[str] = []

    def part(name: str, *wanted: str) -> Part:
        def ready(_: Bed) -> bool:
            happened.append(f"ready {name}")
            return True

        return Part(name, lambda _: happened.append(f"start {name}"), ready, wanted)

    start_all(bed, [part("last", "first", "second"), part("second", "first"), part("first")], silent)
    assert happened == ["start first", "ready first", "start second", "ready second", "start last", "ready last"]


def test_a_part_that_never_serves_is_named_with_the_end_of_its_log(bed: Bed) -> None:
    bed.logs.mkdir(parents=True)
    bed.log("stuck").write_text("early\nit cannot bind\n")
    stuck = Part("stuck", lambda _: None, lambda _: False, patience=0.1)
    with pytest.raises(BedError, match=r"(?s)stuck is not ready after 0 s.*it cannot bind"):
        start_all(bed, [stuck], silent)


def test_the_module_files_ask_for_the_versions_of_the_one_file() -> None:
    groups = versions.read()
    assert set(groups) == {folder.name for folder in (HERE / "go").iterdir()}


def test_a_version_that_only_one_of_the_files_knows_is_refused(tmp_path: Path) -> None:
    changed = tmp_path / "versions.toml"
    changed.write_text((HERE / "versions.toml").read_text().replace('version = "v0.8.0"', 'version = "v0.8.1"'))
    with pytest.raises(BedError, match=r"kwok.go\.mod does not require sigs\.k8s\.io/kwok v0\.8\.1"):
        versions.read(changed)


def test_the_key_of_a_build_knows_files_versions_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(HERE / "go" / "pause", tmp_path / "pause")
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


def test_a_build_that_fails_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise BedError("no")

    monkeypatch.setattr(builds, "_go", fail)
    monkeypatch.setattr(builds, "go_version", lambda: "go1.26.0 linux/amd64")
    with pytest.raises(BedError):
        builds.build_all([versions.read()["pause"]], tmp_path, silent)
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
    """Connect to a socket that is about to be there."""
    for _ in range(500):
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.open_unix_connection(path)
        await asyncio.sleep(0.01)
    raise AssertionError(f"nobody listens on {path}")


def test_a_relay_passes_on_both_ways_and_ends_each_way_by_itself(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read())
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

    assert asyncio.run(talk()) == b"you said " + b"hello" * 50_000


@pytest.mark.parametrize(
    ("system", "user", "said"),
    [("Darwin", 0, "needs Linux; this is Darwin"), ("Linux", 1000, "needs root")],
)
def test_a_machine_that_cannot_is_told_why(monkeypatch: pytest.MonkeyPatch, system: str, user: int, said: str) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(UnableError, match=said):
        needs.check({}, install=False)


def test_missing_packages_are_named_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(needs, "go_version", lambda: "go1.26.0 linux/amd64")
    with pytest.raises(UnableError, match="apt-get install --no-install-recommends zebra"):
        needs.check({"zebra": "no-such-program"}, install=False)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9"])
def test_an_older_go_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\nprintf '%s\\n' {version} linux amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnableError, match=f"is {version}"):
        needs.go_version()
