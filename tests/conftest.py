"""Rules for every test: loopback network only, no user settings, no skips in CI."""

import ipaddress
import os
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # xdist has no types

# Test workers with several threads each would oversubscribe the cores; child processes inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in [name for name in os.environ if name.startswith("WINDLASS_")]:
    if not _name.startswith("WINDLASS_TESTCLUSTER_"):  # settings of the test cluster
        del os.environ[_name]


# Example run times on a busy machine are meaningless.
settings.register_profile("windlass", deadline=None)
settings.load_profile("windlass")


def _block_network(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple) or address[0] == "localhost":  # a tuple is an IP address, else a Unix socket
        return
    if not ipaddress.ip_address(address[0].split("%")[0]).is_loopback:
        raise ConnectionRefusedError(f"a test tried to connect to {address[0]}")


sys.addaudithook(_block_network)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure in CI."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


_EACH_ALONE = "tests/docs/test_commands_run.py"
"""The file of the longest tests; each has a server of its own, so any worker may run it, and they begin first."""


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]  # as above
    """Distributes tests by file, since the tests of a file share servers and models."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_EACH_ALONE) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_EACH_ALONE))
