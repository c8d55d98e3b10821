"""Reads ``versions.toml``."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.bed.failures import BedError
from tests.bed.layout import HERE


@dataclass(frozen=True)
class Group:
    """Programs that compile together in one Go module of the bed."""

    name: str
    module: str
    version: str
    binaries: dict[str, str]
    stamp: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    image: str = ""

    @property
    def folder(self) -> Path:
        return HERE / "go" / self.name

    @property
    def tagged(self) -> str:
        """The name of the group's image."""
        return f"{self.image}:{self.version}"

    @property
    def main(self) -> str:
        """The binary that the image runs."""
        return next(iter(self.binaries))


def read(path: Path = HERE / "versions.toml") -> dict[str, Group]:
    """Every group by name.

    Raises:
        BedError: a module file asks for another version than ``versions.toml``.
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
        )
        wanted = rf"^(?:module {re.escape(group.module)}$|\s*(?:require )?{re.escape(group.module)} {group.version}\b)"
        if not re.search(wanted, (group.folder / "go.mod").read_text("utf-8"), re.MULTILINE):
            raise BedError(f"{group.folder / 'go.mod'} does not require {group.module} {group.version}")
        groups[name] = group
    return groups
