"""The data directory of a server is private."""

import os
from pathlib import Path

import pytest

from windlass.domain.errors import InvalidError
from windlass_api.process import DataDirectory


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_the_access_of_other_users_is_removed_at_the_start(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    DataDirectory(home).make_private()
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_new_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DataDirectory(tmp_path / "a" / "b").make_private()
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("mode", "refused"), [(0o755, True), (0o770, False)])
def test_a_foreign_directory_that_others_can_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    """A volume that belongs to root may give access by its group, as Kubernetes mounts it."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(mode)
    monkeypatch.setattr(Path, "chmod", denied)
    if not refused:
        DataDirectory(tmp_path).make_private()
        return
    with pytest.raises(InvalidError, match="other users can access"):
        DataDirectory(tmp_path).make_private()
