"""The console in Chromium, with a real application on a real port. One browser for all tests of a module.

Playwright has an event loop in the thread of the tests while it runs, in which tests of other modules could start none.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.factories.browser import browser_path, build_console
from tests.factories.console import SECONDS, Console, ConsoleData, open_console
from tests.factories.http_servers import serve
from tests.fakes.backends import FakeClock
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import stub_model_server

from windlass_api.app import create_app
from windlass_api.console import read_console


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = browser_path()
    build_console()
    read_console.cache_clear()
    with sync_playwright() as playwright:
        # Without a sandbox: CI runs as root, in which Chromium's does not start.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[ConsoleData]:
    """A platform with a project full of objects, whose every text of a user is a script."""
    expect.set_options(timeout=SECONDS * 1000)
    # The browser has the real time.
    clock = FakeClock(datetime.now(UTC) - timedelta(minutes=10))
    harness = ControlPlaneHarness(tmp_path_factory.mktemp("console"), clock=clock)
    with harness.client, stub_model_server() as model:
        data = ConsoleData(harness, model)
        data.fill()
        with serve(create_app(harness.app_context)) as port:
            data.url = f"http://127.0.0.1:{port}"
            yield data
    harness.close()


@pytest.fixture
def console(browser: Browser, data: ConsoleData) -> Iterator[Console]:
    """A browser's window in which an admin is signed in."""
    with open_console(browser, data, data.admin_key) as opened:
        yield opened
