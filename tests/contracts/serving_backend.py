"""What every ``ports.ServingBackend`` does. An adapter's test class inherits this and provides the fixtures."""

import time
from collections.abc import Sequence

import pytest

from windlass.domain.endpoints import AppState, AppStatus, ServedApp
from windlass.ports import ServingBackend

_PATIENCE_SECONDS = 180


def settled(backend: ServingBackend, wish: Sequence[ServedApp] = ()) -> dict[str, AppStatus]:
    """Wait until all that is wished is ready or failed; return it by key. Apply ``wish`` meanwhile, as a worker."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if wish:
            backend.apply(wish)
        apps = {app.key: app for app in backend.status().apps if app.state is not AppState.LEAVING}
        if all(app.state is not AppState.DEPLOYING for app in apps.values()):
            return apps
        assert time.monotonic() < deadline, apps
        time.sleep(0.05)


class ServingBackendContract:
    """``apply`` is level-based, ``status`` is about the last wish, one bad application is its own problem."""

    @pytest.fixture
    def backend(self) -> ServingBackend:
        raise NotImplementedError

    @pytest.fixture
    def good(self) -> ServedApp:
        raise NotImplementedError

    @pytest.fixture
    def bad(self) -> ServedApp:
        """An application whose model cannot be loaded."""
        raise NotImplementedError

    def test_the_status_names_what_is_wished_from_the_first_moment(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        named = {app.key for app in backend.status().apps if app.state is not AppState.LEAVING}
        assert named == {good.key, bad.key}

    def test_a_bad_application_fails_with_a_reason_and_another_is_ready(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        apps = settled(backend)
        assert (apps[good.key].state, apps[good.key].ready_replicas) == (AppState.READY, 1)
        assert (apps[bad.key].state, apps[bad.key].ready_replicas) == (AppState.FAILED, 0)
        assert apps[bad.key].message
        assert backend.status().base_url.startswith("http")

    def test_applying_the_same_again_changes_nothing(self, backend: ServingBackend, good: ServedApp) -> None:
        backend.apply([good])
        before = settled(backend), backend.status().base_url
        backend.apply([good])
        assert (settled(backend), backend.status().base_url) == before

    def test_what_is_no_longer_wished_is_leaving_until_it_is_gone(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        settled(backend)
        backend.apply([bad])
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (status := backend.status()).complete or good.key in {app.key for app in status.apps}:
            assert [app.state for app in status.apps if app.key == good.key] in ([], [AppState.LEAVING])
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        assert {app.key for app in status.apps} == {bad.key}
