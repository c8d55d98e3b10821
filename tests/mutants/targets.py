"""The modules that are mutated, the named mutants that must die, and the survivors that are accepted."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_SOURCES = {
    "windlass": "platform",
    "windlass_api": "api",
    "windlass_operators": "operators",
    "windlass_pipelines": "pipelines",
}


@dataclass(frozen=True)
class Target:
    """A module and the tests that must notice a change of it."""

    module: str
    tests: tuple[str, ...]
    preload: tuple[str, ...] = ()
    """Third-party modules that are imported before the processes are forked."""
    warm_up: tuple[str, ...] = ()
    """Cached functions of the tests, ``module:name``, that are called before the processes are forked."""

    @property
    def path(self) -> Path:
        """The file of the module."""
        relative = self.module.replace(".", "/")
        base = ROOT / _SOURCES[self.module.partition(".")[0]] / relative
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")


_TARGETS = TypeAdapter(list[Target])


@dataclass(frozen=True)
class NamedMutant:
    """A fault that a reviewer once found untested; ``old`` occurs once in the module."""

    name: str
    module: str
    old: str
    new: str


@dataclass(frozen=True)
class AcceptedSurvivor:
    """A mutant that no test kills, and why none should."""

    mutant: str
    reason: str


def load_targets() -> list[Target]:
    entries = tomllib.loads((FOLDER / "targets.toml").read_text(encoding="utf-8"))
    return _TARGETS.validate_python(entries["target"])


def load_named() -> list[NamedMutant]:
    entries = tomllib.loads((FOLDER / "targets.toml").read_text(encoding="utf-8"))
    return [NamedMutant(**entry) for entry in entries["named"]]


def load_accepted() -> list[AcceptedSurvivor]:
    entries = tomllib.loads((FOLDER / "survivors.toml").read_text(encoding="utf-8"))
    return [AcceptedSurvivor(**entry) for entry in entries.get("survivor", [])]
