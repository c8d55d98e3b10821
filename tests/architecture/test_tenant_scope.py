"""The first wall between tenants: repositories have a scope, and only listed use cases read beyond one project."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import get_type_hints

from tests.architecture.tree import parsed, python_files

from windlass.db.project_data import SqlAllProjectsData, SqlProjectData
from windlass.db.repository import SqlRepository
from windlass.ports import Database, ReadUnitOfWork, UnitOfWork, WorkerDatabase
from windlass.services.base import ServiceDependencies, WorkerDependencies
from windlass_api.dependencies import AppContext

WORKER_MODULES = {
    "platform/windlass/services/budgets.py": "",
    "platform/windlass/services/settlement.py": "",
    "api/windlass_api/embedded.py": "adopts the running pipelines before the server starts",
    "api/windlass_api/data_keys.py": "a command on the server",
    "api/windlass_api/job_runner.py": "",
    "platform/windlass/services/cascades.py": "only its ``CascadeContinuation``, which the worker steps",
    "platform/windlass/services/cluster_sync.py": "",
    "platform/windlass/services/consistency.py": "the check of the store, a command on the server",
    "platform/windlass/services/erasing.py": "",
    "platform/windlass/services/job_admission.py": "",
    "platform/windlass/services/key_rotation.py": "",
    "platform/windlass/services/processing.py": "",
    "platform/windlass/services/retention.py": "",
    "platform/windlass/services/rollouts.py": "",
    "platform/windlass/services/run_contexts.py": "",
    "platform/windlass/services/scheduling.py": "",
    "platform/windlass/services/warm_trainers.py": "attributes what the cluster shows, in the cluster sync",
}
"""The modules that use repositories of all projects: their services have ``WorkerDependencies``."""

BEYOND_ONE_PROJECT = {
    "cohorts": {"_synced_limits": "a prediction needs the cohorts of all projects"},
    "find_run": {
        "AccessControl.authenticate_run": "a run token names no project",
        "run_and_job": "the project is that of the authenticated run",
        "assign_warm_trainer": "the project is that of the authenticated run",
    },
    "find_run_of_warm_trainer": {
        "_run_of": "a warm trainer knows its own name only",
        "assign_warm_trainer": "a warm trainer trains one run of any project",
    },
    "memberships": {
        "AccessControl.authorize_project": "whether the caller is a member of the project of the path",
        "Keys._open": "the keys of the caller",
        "Keys._project_of": "whether the caller is a member of the project of a new key",
        "get_whoami": "calls ``Projects.memberships``, which are the caller's",
        "memberships": "the projects of the caller",
        "DenialLog._write.write": "lets a user write the audit row of a denied request",
        "record_audit": "lets a user write the audit row of a change that is in no project",
    },
    "platform": {
        "AllBudgets.page": "platform roles list all budgets",
        "AuditTrail.export": "the audit log is for platform roles",
        "AuditTrail.page": "the audit log is for platform roles",
        "AuditTrail.verify": "the audit log is for platform roles",
        "BaseModels.add": "base models belong to the platform",
        "BaseModels.commit": "base models belong to the platform",
        "BaseModels.delete": "base models belong to the platform",
        "_deletable": "a base model or a pool that a project uses is not deleted",
        "ClusterSyncReader.get": "the pending quota changes of all projects",
        "Keys._open": "platform admins manage all keys",
        "Keys._find_or_add": "the key of the installation",
        "Pools.create": "pools belong to the platform",
        "Pools.delete": "pools belong to the platform",
        "Pools.update": "pools belong to the platform",
        "Projects.page": "platform roles list all projects",
        "_groups": "platform roles read the usage of all projects",
        "_entries": "the ledger of all projects",
        "get_metrics": "the age of the outbox",
    },
}
"""The use cases of the API that read beyond the project of the request, by what they call, with the reason."""


def callers(name: str) -> Iterator[tuple[str, str]]:
    """Yield path and qualified name of each function of the product that calls a method of this name."""
    for path in python_files():
        if path.parts[0] in ("platform", "api"):
            for function in calling(parsed(path), name, ""):
                yield str(path), function


def calling(node: ast.AST, name: str, inside: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        within = inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{inside}.{child.name}".lstrip(".")
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == name:
            yield within
        yield from calling(child, name, within)


def test_only_the_worker_has_repositories_of_all_projects() -> None:
    assert {path for path, _ in callers("all_projects")} == WORKER_MODULES.keys()
    for kind in (UnitOfWork, ReadUnitOfWork):
        assert not hasattr(kind, "all_projects"), "the API's transactions cannot name it"


def test_the_routes_have_the_database_of_the_api() -> None:
    assert get_type_hints(AppContext)["deps"] is ServiceDependencies
    assert get_type_hints(ServiceDependencies)["database"] is Database
    assert get_type_hints(WorkerDependencies)["database"] is WorkerDatabase
    for path in python_files():
        text = path.read_text() if path.parts[:2] == ("api", "windlass_api") and "routers" in path.parts else ""
        assert "WorkerDependencies" not in text, path
        assert "WorkerDatabase" not in text, path


def test_the_use_cases_that_read_beyond_one_project_are_listed() -> None:
    for name, listed in BEYOND_ONE_PROJECT.items():
        assert {function for _, function in callers(name)} == listed.keys(), name


def test_no_repository_is_built_without_a_scope() -> None:
    parameters = inspect.signature(SqlRepository).parameters
    assert parameters["scope"].default is inspect.Parameter.empty
    assert inspect.signature(SqlProjectData).parameters["project"].default is inspect.Parameter.empty
    assert "project" not in inspect.signature(SqlAllProjectsData).parameters
    assert {each.name for each in fields(WorkerDependencies)} == {each.name for each in fields(ServiceDependencies)}
