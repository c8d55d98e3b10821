"""Reads single members of wheels and tar files by name; never extracts to paths from the archive."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

_MAX_MEMBER = 1 << 30


class MemberError(Exception):
    """The member is missing, not a regular file, or too large."""


def copy_wheel_members(wheel: Path, folder: str, names: Iterable[str], target: Path) -> None:
    """Copy ``folder/name`` of a wheel to ``target/name`` for each name.

    Raises:
        MemberError: see there.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            with _zip_member(archive, f"{folder}/{name}") as member, (target / name).open("xb") as copy:
                shutil.copyfileobj(member, copy, 1 << 20)


def read_wheel_member(wheel: Path, name: str) -> bytes:
    """Return the content of one member of a wheel.

    Raises:
        MemberError: see there.
    """
    with zipfile.ZipFile(wheel) as archive, _zip_member(archive, name) as member:
        return member.read()


def _zip_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise MemberError(name) from None
    if info.is_dir() or info.file_size > _MAX_MEMBER:
        raise MemberError(name)
    return archive.open(info)  # zipfile never yields more than file_size bytes


def read_tar_member(archive: IO[bytes], name: str) -> bytes:
    """Return the content of one member of a gzip-compressed tar; reads the stream up to it.

    Raises:
        MemberError: see there.
    """
    with tarfile.open(fileobj=archive, mode="r|gz") as members:
        for member in members:
            if member.name == name:
                content = members.extractfile(member) if member.isreg() and member.size <= _MAX_MEMBER else None
                if content is None:
                    break
                return content.read()
    raise MemberError(name)
