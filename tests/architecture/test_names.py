"""Class names: each public one means one thing, and the frequent ones are in the glossary."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.architecture.tree import ROOT, parsed, python_files

GLOSSARY = ROOT / "docs" / "glossary.md"
GENERATED = Path("platform/windlass/sdk/_sync")
"""Imports the same classes as its source."""
FREQUENT_MODULES = 12
"""A class that more modules than this import is part of the vocabulary that a new contributor has to learn."""

SDK = "the SDK's resource and the service behind it; the SDK is a separate public API"
CUSTOM_RESOURCE = "the domain object, and the model of the custom resource of the same kind"
SHARED_NAMES = {
    **dict.fromkeys(("BaseModels", "Datasets", "Endpoints", "Erasures", "Jobs", "Keys", "Members", "Models"), SDK),
    **dict.fromkeys(("Budgets", "Pools", "Projects", "Quotas", "ServiceAccounts", "Sessions", "Usage", "Users"), SDK),
    "Job": "the domain object, and the SDK's handle of it",
    "Project": CUSTOM_RESOURCE,
}
"""Class names with more than one definition, each with the reason."""

ERROR = "an error class, documented in docs/reference/errors.md"
NO_GLOSSARY_ENTRY = {
    **dict.fromkeys(
        (
            "ConflictError",
            "InvalidError",
            "NotFoundError",
            "UnauthenticatedError",
            "UnavailableError",
            "WindlassError",
        ),
        ERROR,
    ),
    "KubeApiError": "a response of the Kubernetes API",
    **dict.fromkeys(("Column", "Session"), "internal to the CLI"),
    "ScopedConnection": "internal to the database adapter",
}
"""Frequent classes that the glossary leaves out, each with the reason."""


def is_test_module(path: Path) -> bool:
    return path.name.startswith("test_") or path.name == "conftest.py"


def public_classes() -> dict[str, list[Path]]:
    """The modules that define each public class at top level; test modules are left out."""
    definitions: dict[str, list[Path]] = defaultdict(list)
    for path in python_files():
        if is_test_module(path):
            continue
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                definitions[node.name].append(path)
    return definitions


def imported_names(path: Path) -> set[str]:
    """The names that a module imports from the distribution."""
    imports = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports if (node.module or "").startswith("windlass") for alias in node.names}


def frequent_classes() -> list[str]:
    """The public classes of the distribution that more than ``FREQUENT_MODULES`` of its modules import."""
    roots = {"platform", "api", "operators", "pipelines"}
    sources = [path for path in python_files() if path.parts[0] in roots and not path.is_relative_to(GENERATED)]
    uses: dict[str, int] = defaultdict(int)
    defined = {name for name, paths in public_classes().items() if set(paths) & set(sources)}
    for path in sources:
        for name in imported_names(path) & defined:
            uses[name] += 1
    return sorted(name for name, modules in uses.items() if modules > FREQUENT_MODULES)


def words(class_name: str) -> str:
    """``RunContext`` as ``run context``, ``GPUPool`` as ``gpu pool``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", class_name).lower()


def in_glossary(class_name: str, text: str) -> bool:
    """Whether the glossary has the class name, or its words."""
    return bool(re.search(rf"(?i)\b(?:{class_name}|{words(class_name)})s?\b", text))


def test_a_public_class_name_is_defined_once() -> None:
    repeated = {
        name: [str(path) for path in paths]
        for name, paths in public_classes().items()
        if len(paths) > 1 and name not in SHARED_NAMES
    }
    assert repeated == {}


def test_every_shared_name_is_still_shared() -> None:
    definitions = public_classes()
    assert [name for name in SHARED_NAMES if len(definitions.get(name, [])) < 2] == []


def test_frequent_classes_are_in_the_glossary() -> None:
    text = GLOSSARY.read_text("utf-8")
    missing = [name for name in frequent_classes() if name not in NO_GLOSSARY_ENTRY and not in_glossary(name, text)]
    assert missing == []
