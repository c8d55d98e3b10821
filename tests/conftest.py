"""What holds for every test: no network but this machine, no settings of the user, no skip in CI."""

import ipaddress
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

# Two workers of two threads each would fight over two cores; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in [name for name in os.environ if name.startswith("WINDLASS_")]:
    if not _name.startswith("WINDLASS_BED_"):  # where the test cluster is
        del os.environ[_name]


# A property holds or does not; how long an example takes on a busy machine says nothing about it.
settings.register_profile("windlass", deadline=None)
settings.load_profile("windlass")


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple) or address[0] == "localhost":  # a tuple is an IP address, else a Unix socket
        return
    if not ipaddress.ip_address(address[0].split("%")[0]).is_loopback:
        raise ConnectionRefusedError(f"a test tried to reach {address[0]}")


sys.addaudithook(_refuse_the_network)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A test that CI does not run is a promise that nobody keeps; elsewhere a skip is a skip."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI counts as a failure: {report.longrepr}"


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
