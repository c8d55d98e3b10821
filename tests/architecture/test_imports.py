"""The import rules of every package, and tests in fresh interpreters that each role runs on its own lock file.

Installing every lock would take gigabytes per run. Instead an import hook hides the modules and distributions that the
lock of the role does not contain.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT, parsed, python_files

FIRST_PARTY = {"windlass", "windlass_api", "windlass_operators", "windlass_pipelines"}
BASE = {"pydantic", "pydantic_core"}
ARRAYS = {"numpy", "torch", "transformers", "safetensors"}

NOT_IMPORTED = {
    "gguf": "Transformers reads GGUF files with it",
    "pip": "`windlass examples fetch` runs it as a command",
}
"""Declared dependencies that no module imports, each with the reason."""

# Third-party packages by module prefix; the longest prefix wins. Modules without an entry may import none.
MAY_IMPORT = {
    "windlass": BASE,
    "windlass.audit_settings": BASE | {"pydantic_settings"},
    "windlass.cli": BASE | {"httpx2", "platformdirs", "psutil", "rich", "typer", "yaml"},
    "windlass.cli.record_files.parquet_files": BASE | {"pyarrow"},
    "windlass.database_settings": BASE | {"pydantic_settings"},
    "windlass.cluster_settings": BASE | {"pydantic_settings"},
    "windlass.db": BASE | {"alembic", "psycopg", "sqlalchemy", "sqlmodel"},
    "windlass.encryption_settings": BASE | {"pydantic_settings"},
    "windlass.examples": BASE | {"yaml"},
    "windlass.kube": BASE | {"kubernetes", "orjson", "urllib3", "yaml"},
    "windlass.orchestration": BASE | {"psutil"},
    "windlass.orchestration.kfp": BASE | {"httpx2", "yaml"},
    "windlass.identity": BASE | {"httpx2", "jwt"},
    "windlass.identity_settings": BASE | {"pydantic_settings"},
    "windlass.pipeline_settings": BASE | {"pydantic_settings"},
    "windlass.runtime": BASE | {"httpx2"},
    "windlass.sdk": BASE | {"httpx2", "platformdirs", "yaml"},
    "windlass.serving": BASE | {"httpx2", "psutil"},
    "windlass.settings": BASE | {"pydantic_settings"},
    "windlass.storage": BASE | {"boto3", "botocore", "cryptography", "httpx2"},
    "windlass.telemetry": BASE,
    "windlass_api": BASE
    | {"anyio", "fastapi", "h11", "httpx2", "orjson", "prometheus_client", "psutil", "pydantic_settings", "starlette"}
    | {"uvicorn"},
    "windlass_operators": BASE | {"orjson", "prometheus_client"},
    "windlass_pipelines": BASE,
    "windlass_pipelines.compile": BASE | {"kfp"},
    "windlass_pipelines.data": BASE | {"datasketch", "numpy", "pyarrow", "stdnum", "tokenizers"},
    "windlass_pipelines.definitions": BASE | {"kfp"},
    "windlass_pipelines.prompts": BASE,
    "windlass_pipelines.report": BASE | {"jinja2", "yaml"},
    "windlass_pipelines.run": BASE | {"httpx2", "kfp"},
    "windlass_pipelines.serve": BASE | ARRAYS | {"ray", "starlette", "tokenizers"},
    "windlass_pipelines.steps": BASE | {"httpx2", "psutil"},
    "windlass_pipelines.train": BASE | ARRAYS | {"gguf", "httpx2", "jinja2", "peft", "ray", "sklearn", "tokenizers"},
}

# The packages of each role. `python -m` entry points and Alembic's environment run code on import, so they are skipped.
ROLES = {
    "base": [
        "windlass.cli",
        "windlass.dataset_files",
        "windlass.domain",
        "windlass.examples",
        "windlass.sdk",
        "windlass.wire",
    ],
    "api": ["windlass", "windlass_api"],
    "operators": ["windlass.domain", "windlass.kube", "windlass.settings", "windlass_operators"],
    "data": ["windlass.dataset_files", "windlass.domain", "windlass_pipelines.data"],
    "pipelines": [
        "windlass.domain",
        "windlass.runtime",
        "windlass_pipelines.compile",
        "windlass_pipelines.definitions",
        "windlass_pipelines.run",
        "windlass_pipelines.steps",
    ],
    "train": [
        "windlass.domain",
        "windlass.runtime",
        "windlass_pipelines.report",
        "windlass_pipelines.serve",
        "windlass_pipelines.train",
    ],
}
RUN_ON_IMPORT = r"(__main__|windlass\.db\.migrations\.env)$"

IMPORT_ALL = """
import importlib, json, pkgutil, re, sys
hidden_modules, hidden_distributions, packages, skip = json.loads(sys.argv[1])

class Hide:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden_modules else self.finder.find_spec(name, path, target)
    def find_distributions(self, *context):
        for found in getattr(self.finder, "find_distributions", lambda *_: ())(*context):
            if re.sub(r"[-_.]+", "-", found.name).lower() not in hidden_distributions:
                yield found

sys.meta_path[:] = map(Hide, sys.meta_path)
count = 0
for package in packages:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        if not re.search(skip, found.name):
            importlib.import_module(found.name)
            count += 1
print(count)
"""


def module_name(path: Path) -> str | None:
    """The dotted module name of a file of the distribution, None for a test or a script."""
    if path.parts[0] not in {"platform", "api", "operators", "pipelines"}:
        return None
    return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")


def third_parties(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - FIRST_PARTY - sys.stdlib_module_names


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_every_declared_dependency_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = sum(project["optional-dependencies"].values(), project["dependencies"])
    declared = {normalized(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements} - {"windlass"}
    imported = set().union(*(third_parties(path) for path in python_files() if module_name(path)))
    owners = packages_distributions()
    used = {normalized(distribution) for module in imported & owners.keys() for distribution in owners[module]}
    assert declared - used == NOT_IMPORTED.keys()


def allowed(module: str) -> set[str]:
    prefix = max((p for p in MAY_IMPORT if f"{module}.".startswith(f"{p}.")), key=len, default="")
    return MAY_IMPORT.get(prefix, set())


def test_every_module_imports_only_allowed_third_parties() -> None:
    forbidden = {}
    for path in python_files():
        module = module_name(path)
        if module and (extra := third_parties(path) - allowed(module)):
            forbidden[module] = sorted(extra)
    assert forbidden == {}


def locked(role: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{role}.txt").read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)", lines, re.MULTILINE))


def hidden_packages(role: str) -> tuple[list[str], list[str]]:
    """The top-level modules and the distributions that the role's lock does not contain."""
    included = locked(role)
    owners = {m: {normalized(d) for d in ds} for m, ds in packages_distributions().items()}
    modules = {module for module, distributions in owners.items() if not distributions & included}
    return sorted(modules - FIRST_PARTY), sorted(set().union(*owners.values()) - included)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_on_its_own_lock(role: str) -> None:
    arguments = json.dumps([*hidden_packages(role), ROLES[role], RUN_ON_IMPORT])
    command = [sys.executable, "-c", IMPORT_ALL, arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout.split()[-1]) > 0


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("windlass_api.app", "torch ray transformers peft sklearn kfp pyarrow datasketch tokenizers numpy typer"),
        ("windlass_api.embedded", "torch ray transformers peft sklearn kfp pyarrow datasketch tokenizers numpy typer"),
        ("windlass.cli.main", "torch ray transformers kfp pyarrow sqlalchemy fastapi uvicorn alembic numpy"),
        ("windlass.storage.transfers", "boto3 botocore sqlalchemy fastapi"),
        ("windlass.sdk", "torch ray transformers kfp pyarrow sqlalchemy fastapi uvicorn typer rich"),
        ("windlass_pipelines.steps.train", "torch ray transformers peft sklearn sqlalchemy fastapi"),
        ("windlass_pipelines.data", "torch ray transformers sqlalchemy fastapi kfp"),
    ],
)
def test_an_import_loads_no_heavy_packages(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({heavy.split()!r}) & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.split() == []


@pytest.mark.parametrize("package", ["windlass", "windlass.sdk"])
def test_all_is_sorted_and_importable(package: str) -> None:
    code = f"import {package} as p; print(*(n for n in p.__all__ if not hasattr(p, n)), sorted(p.__all__) == p.__all__)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout.split(), ended.stderr) == (["True"], "")


def test_http_clients_are_created_where_the_proxy_of_the_environment_is_decided() -> None:
    """Requests between our processes ignore ``HTTP_PROXY``; those to other servers than ours may use it."""
    sdk = Path("platform/windlass/sdk")
    factories = {
        Path("platform/windlass/runtime/http.py"),
        sdk / "_async" / "transport.py",
        sdk / "_sync" / "transport.py",
    }
    creators = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "head", "request", "stream"}
    found = {
        path
        for path in python_files()
        if path.parts[0] != "tests"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr in creators) == ("httpx2", True)
    }
    assert found == factories
