"""Reads ``versions.toml``."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import PACKAGE_DIR


@dataclass(frozen=True)
class Group:
    """Programs that are built together in one Go module."""

    name: str
    module: str
    version: str
    binaries: dict[str, str]
    stamp: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    image: str = ""
    tool: bool = field(default=False, repr=False)  # no input of the build: the cache's keys contain the rest
    """Whether tests run it on this machine, and it is not a part of a cluster."""

    @property
    def folder(self) -> Path:
        return PACKAGE_DIR / "go" / self.name

    @property
    def tagged(self) -> str:
        """The name of the group's image."""
        return f"{self.image}:{self.version}"

    @property
    def main(self) -> str:
        """The binary that the image runs."""
        return next(iter(self.binaries))


def read(path: Path = PACKAGE_DIR / "versions.toml") -> dict[str, Group]:
    """Every group by name.

    Raises:
        LocalClusterError: a go.mod requires another version than ``versions.toml``.
    """
    groups = {}
    for name, table in tomllib.loads(path.read_text("utf-8")).items():
        group = Group(
            name=name,
            module=table["module"],
            version=table["version"],
            binaries=table["binaries"],
            stamp=tuple(table.get("stamp", [])),
            files=tuple(table.get("files", [])),
            image=table.get("image", ""),
            tool=table.get("tool", False),
        )
        required = (
            rf"^(?:module {re.escape(group.module)}$|\s*(?:require )?{re.escape(group.module)} {group.version}\b)"
        )
        if not re.search(required, (group.folder / "go.mod").read_text("utf-8"), re.MULTILINE):
            raise LocalClusterError(f"{group.folder / 'go.mod'} does not require {group.module} {group.version}")
        groups[name] = group
    return groups
