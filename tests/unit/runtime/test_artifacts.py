"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.runtime.artifacts import commit, read_manifest, seal, staging, verify


def publish(target: Path) -> None:
    with staging(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub/a.txt").write_text("hello")
        seal(folder)
        commit(folder, target)


def test_a_published_folder_matches_its_manifest_and_leaves_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "job/1"
    publish(target)
    verify(target, read_manifest(target))
    assert [path.name for path in target.parent.iterdir()] == ["1"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "job/1"

    def fail_half_way() -> None:
        with staging(target) as folder:
            (folder / "a").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail_half_way()
    assert list(target.parent.iterdir()) == []


def test_a_place_is_written_once(tmp_path: Path) -> None:
    publish(tmp_path / "1")
    with pytest.raises(OSError, match="not empty"):
        publish(tmp_path / "1")
    verify(tmp_path / "1", read_manifest(tmp_path / "1"))


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    publish(tmp_path / "1")
    manifest = read_manifest(tmp_path / "1")
    path = tmp_path / "1/sub/a.txt"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("hell" if damage == "cut" else "jello")
    with pytest.raises(ChecksumMismatchError, match=r"sub/a\.txt"):
        verify(tmp_path / "1", manifest)


def test_a_folder_without_or_with_a_broken_manifest_is_not_a_committed_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0"}}}')
    with pytest.raises(ChecksumMismatchError):
        read_manifest(tmp_path)
