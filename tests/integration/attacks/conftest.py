"""A control plane with two tenants, which attack each other and the server. The tests of a file share it."""

from collections.abc import Iterator

import pytest
from tests.factories.example_tenants import ExampleTenant, build_tenant
from tests.fakes.harness import ControlPlaneHarness

from windlass_api import forwarding


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneHarness]:
    home = tmp_path_factory.mktemp("attacked") / "home"
    home.mkdir()
    built = ControlPlaneHarness(home)
    with built.client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(forwarding, "_LAG_SECONDS", 0.0)  # no model server runs: predictions fail at once
        built.create_base_model()
        yield built
    built.close()


@pytest.fixture(scope="module")
def ours(harness: ControlPlaneHarness) -> ExampleTenant:
    """The attacker's project."""
    return build_tenant(harness, "ours")


@pytest.fixture(scope="module")
def theirs(harness: ControlPlaneHarness) -> ExampleTenant:
    """The project that is attacked."""
    return build_tenant(harness, "theirs", pool="other")
