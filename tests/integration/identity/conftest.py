"""A control plane whose users sign in at a real OpenID Connect provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.oidc_provider import AUDIENCE, CLIENT, DEVICE_CLIENT, REDIRECT_URI, SECRET, OidcServer, oidc_server
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.projects import PlatformRole
from windlass.identity.metadata import IssuerMetadata, provider_client
from windlass.identity.oidc import OidcClient, OidcProvider
from windlass.services.sign_in import SignInPolicy


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcServer]:
    with oidc_server(tmp_path_factory.mktemp("oidc")) as running:
        yield running


@pytest.fixture
def provider(server: OidcServer) -> Iterator[OidcProvider]:
    client = OidcClient(
        issuer=server.issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        redirect_uri=REDIRECT_URI,
        device_client_id=DEVICE_CLIENT,
        audience=AUDIENCE,
    )
    with provider_client(server.issuer) as http:
        yield OidcProvider(client, IssuerMetadata(server.issuer, http))


@pytest.fixture
def harness(tmp_path: Path, provider: OidcProvider) -> Iterator[ControlPlaneHarness]:
    policy = SignInPolicy({"platform-team": PlatformRole.ADMIN, "auditors": PlatformRole.VIEWER})
    built = ControlPlaneHarness(tmp_path, identity=provider, sign_in=policy)
    with built.client:
        yield built
    built.close()
