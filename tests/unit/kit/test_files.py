"""Atomic writes, durable folders and log tails."""

import errno
import os
from pathlib import Path

import pytest

from windlass.kit.files import log_tail, make_folder, write_atomic


def test_a_file_is_replaced_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_atomic(path, "old", mode=0o600)
    write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "status.json"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_write_syncs_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((target.is_dir(), (tmp_path / "record").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "record", "content")
    assert synced == [(False, False), (True, True)]
    write_atomic(tmp_path / "heartbeat", "content", durable=False)
    assert len(synced) == 2


def test_every_new_folder_is_synced_in_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make_folder(tmp_path / "runs" / "job-1" / "spool")
    assert synced == [tmp_path, tmp_path / "runs", tmp_path / "runs" / "job-1"]
    make_folder(tmp_path / "runs" / "job-1" / "spool")
    assert len(synced) == 3


def test_a_log_tail_has_the_last_lines_and_a_bound(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert log_tail(log) == ""
    log.write_bytes(b"first\n\n" + b"x" * 100_000 + b"\nsecond \xff\n\nlast\n")
    assert log_tail(log, lines=2) == "second \ufffd\nlast"
    assert len(log_tail(log, lines=3, limit=500)) == 500
