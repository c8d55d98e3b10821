"""The one verifier of folders with a manifest: every difference is detected and named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.runtime.artifacts import read_manifest, seal, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "1"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.txt").write_text("hello")
    seal(folder)
    return folder


def test_a_sealed_folder_is_intact(folder: Path) -> None:
    manifest = verify(folder)
    assert set(manifest.files) == {"sub/a.txt"}
    assert verify(folder, digest=manifest.digest()) == manifest
    assert seal(folder) == manifest, "sealed again, the manifest does not list itself"


def link(folder: Path) -> None:
    (folder / "sub/a.txt").rename(folder.parent / "elsewhere")
    (folder / "sub/a.txt").symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda folder: (folder / "sub/a.txt").write_text("hell"), r"sub/a\.txt does not match"),
    "changed": (lambda folder: (folder / "sub/a.txt").write_text("jello"), r"sub/a\.txt does not match"),
    "gone": (lambda folder: (folder / "sub/a.txt").unlink(), r"sub/a\.txt is missing"),
    "added": (lambda folder: (folder / "sub/b.txt").touch(), r"sub/b\.txt is not in the manifest"),
    "a link with the same content": (link, r"sub/a\.txt is not a regular file"),
    "a link to a folder": (lambda folder: (folder / "etc").symlink_to("/etc"), "etc is not a regular file"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe"), "pipe is not a regular file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_difference_is_detected_and_named(folder: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(folder)
    with pytest.raises(ChecksumMismatchError, match=message):
        verify(folder)


def test_another_manifest_than_the_expected_one_is_detected(folder: Path) -> None:
    digest = read_manifest(folder).digest()
    (folder / "sub/a.txt").write_text("jello")
    seal(folder)
    assert verify(folder).digest() != digest
    with pytest.raises(ChecksumMismatchError, match=f"expected {digest}"):
        verify(folder, digest=digest)


def test_a_folder_without_a_valid_manifest_was_not_published(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0"}}}')
    with pytest.raises(ChecksumMismatchError):
        read_manifest(tmp_path)
