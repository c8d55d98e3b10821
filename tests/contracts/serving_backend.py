"""The contract of every ``ports.ServingBackend``; test classes inherit it and provide the fixtures."""

import time
from collections.abc import Sequence

import pytest

from windlass.domain.endpoints import AppState, AppStatus, ServedApp
from windlass.ports import ServingBackend

_TIMEOUT_SECONDS = 180


def settled(backend: ServingBackend, desired: Sequence[ServedApp] = ()) -> dict[str, AppStatus]:
    """Wait until every application is ready or failed; return them by key. Applies ``desired`` in every round."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        if desired:
            backend.apply(desired)
        apps = {app.key: app for app in backend.status().apps if app.state is not AppState.TERMINATING}
        if all(app.state is not AppState.DEPLOYING for app in apps.values()):
            return apps
        assert time.monotonic() < deadline, apps
        time.sleep(0.05)


class ServingBackendContract:
    """``apply`` is level-based, ``status`` covers the last desired state, and a bad application affects no other."""

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

    def test_the_status_lists_desired_applications_at_once(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        named = {app.key for app in backend.status().apps if app.state is not AppState.TERMINATING}
        assert named == {good.key, bad.key}

    def test_a_bad_application_fails_with_a_reason_and_another_is_ready(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        apps = settled(backend)
        assert (apps[good.key].state, apps[good.key].ready_replicas) == (AppState.READY, 1)
        assert (apps[bad.key].state, apps[bad.key].ready_replicas) == (AppState.FAILED, 0)
        assert apps[bad.key].message
        assert apps[good.key].url.startswith("http")
        assert apps[good.key].url.endswith(f"/{good.key}")

    def test_applying_the_same_again_changes_nothing(self, backend: ServingBackend, good: ServedApp) -> None:
        backend.apply([good])
        before = settled(backend)
        backend.apply([good])
        assert settled(backend) == before

    def test_a_removed_application_is_terminating_until_it_is_gone(
        self, backend: ServingBackend, good: ServedApp, bad: ServedApp
    ) -> None:
        backend.apply([good, bad])
        settled(backend)
        backend.apply([bad])
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not (status := backend.status()).complete or good.key in {app.key for app in status.apps}:
            assert [app.state for app in status.apps if app.key == good.key] in ([], [AppState.TERMINATING])
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        assert {app.key for app in status.apps} == {bad.key}
