"""Every port has a contract suite, and every fake of a port runs it."""

import ast
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT, parsed, python_files

PORTS = {
    node.name: path
    for path in python_files()
    if path.parent == Path("platform/windlass/ports")
    for node in parsed(path).body
    if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
}
PART_OF = {
    "CommitHook": "Database",
    "ReadUnitOfWork": "Database",
    "UnitOfWork": "Database",
    "ReadProjectData": "Database",
    "ProjectData": "Database",
    "ReadAuditChain": "AuditChain",
    "ReadUsageData": "Database",
    "ReadAllProjectsData": "Database",
    "AllProjectsData": "Database",
    "PlatformData": "Database",
    "WorkerDatabase": "Database",
    "WorkerReadUnitOfWork": "Database",
    "WorkerUnitOfWork": "Database",
    "ReadOutbox": "Outbox",
    "ReadRepository": "Repository",
    "ReadAdmissionStore": "AdmissionStore",
    "ReadJobTelemetryStore": "JobTelemetryStore",
    "ReadRequestLoadStore": "RequestLoadStore",
    "ReadEndpointTrafficStore": "EndpointTrafficStore",
    "ReadRequestUsageStore": "RequestUsageStore",
    "ReadTombstoneStore": "TombstoneStore",
}
"""Ports that are tested as a part of another one: what a transaction offers, and the reading half of a store."""
WITHOUT_SUITE = {
    "AdmissionStore": "one adapter and no fake: tests/integration/api/test_admission_queue.py",
    "AuditChain": "one adapter and no fake: tests/integration/db/test_audit_chain.py",
    "Clock": "two functions of the kernel; the fake is moved by tests",
    "ClusterView": "the adapter needs a watch: tests/unit/kube/test_kube_cluster_view.py, and on a real cluster",
    "Database": "one adapter and no fake: tests/integration/db",
    "DataKeys": "the adapter reads the database: tests/integration/api/test_data_keys.py; the fakes hold a key",
    "IdentityProvider": "one adapter and no fake: tests/integration/identity, on a real provider",
    "JobTelemetryStore": "one adapter and no fake: tests/integration/db/test_metric_chunks.py",
    "JoinableRay": "the adapter needs Ray: tests/integration/orchestration/test_ray_head.py; no fake",
    "MasterKeys": "one adapter and no fake: tests/unit/storage/test_master_keys.py",
    "ProjectResources": "the adapter needs an API server: tests/unit/kube/test_kube_quota_writer.py, real cluster",
    "RayCluster": "the adapter needs Ray: tests/integration/orchestration/test_ray_head.py; the fakes hold an address",
    "Repository": "one adapter and no fake: tests/integration/db/test_repository.py",
    "RunFolders": "one adapter and no fake: tests/integration/api/test_retention.py",
    "EndpointTrafficStore": "one adapter and no fake: tests/integration/api/test_endpoint_traffic.py",
    "RequestUsageStore": "one adapter and no fake: tests/integration/api/test_request_usage.py",
    "TombstoneStore": "one adapter and no fake: tests/integration/api/test_deletion.py",
    "UrlSigner": "one adapter and no fake: tests/integration/storage/test_presigned_urls.py, on a real S3 server",
    "UptimeStore": "one adapter and no fake: tests/integration/api/test_leases.py",
}
"""Ports whose contract is tested on their one adapter. A second adapter or a fake with behaviour needs a suite."""


def suites() -> dict[str, list[Path]]:
    """Return the test modules in which a class inherits the contract of a port."""
    found: dict[str, list[Path]] = {}
    for path in python_files():
        if path.parts[0] != "tests" or not path.name.startswith("test_"):
            continue
        for node in parsed(path).body:
            for base in node.bases if isinstance(node, ast.ClassDef) else []:
                name = ast.unparse(base)
                if name.endswith("Contract"):
                    found.setdefault(name.removesuffix("Contract"), []).append(path)
    return found


@pytest.mark.parametrize("port", sorted(PORTS))
def test_a_port_has_a_contract_suite_that_an_adapter_runs(port: str) -> None:
    assert PART_OF.get(port, port) in {**suites(), **WITHOUT_SUITE}


def test_the_lists_of_exceptions_are_up_to_date() -> None:
    assert {*PART_OF, *PART_OF.values(), *WITHOUT_SUITE} <= set(PORTS)
    assert set(WITHOUT_SUITE) & set(suites()) == set(), "it has a suite now"


def test_a_fake_that_names_its_port_runs_the_contract_of_the_port() -> None:
    """A fake says which port it stands in for: ````ports.Name```` in its docstring."""
    for path in python_files():
        if path.parts[:2] != ("tests", "fakes"):
            continue
        for node in parsed(path).body:
            text = ast.get_docstring(node) or "" if isinstance(node, ast.ClassDef) else ""
            port = next((name for name in PORTS if text.startswith(f"``ports.{name}``")), None)
            if isinstance(node, ast.ClassDef) and port is not None and port not in WITHOUT_SUITE:
                tested = "".join((ROOT / suite).read_text(encoding="utf-8") for suite in suites()[port])
                assert node.name in tested, f"{node.name} does not run {port}Contract"
