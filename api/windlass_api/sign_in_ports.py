"""The identity provider and the policy of sign-ins, from the settings."""

from datetime import timedelta

from windlass.domain.projects import PlatformRole
from windlass.identity.metadata import IssuerMetadata, provider_client, require_secure
from windlass.identity.oidc import OidcClient, OidcProvider
from windlass.identity_settings import OidcSettings
from windlass.ports import IdentityProvider
from windlass.services.sign_in import SignInPolicy

CALLBACK_PATH = "/v1/auth/callback"
"""Where the identity provider sends browsers back."""


def identity_provider(settings: OidcSettings) -> IdentityProvider | None:
    """Return the identity provider; None: there is none.

    Raises:
        InvalidError: a setting is not acceptable.
    """
    if not settings.issuer:
        return None
    public_url = require_secure(settings.public_url, "WINDLASS_OIDC_PUBLIC_URL").rstrip("/")
    client = OidcClient(
        issuer=settings.issuer,
        client_id=settings.client_id,
        client_secret=settings.client_secret.get_secret_value() if settings.client_secret else "",
        redirect_uri=public_url + CALLBACK_PATH,
        scope=settings.scope,
        device_client_id=settings.device_client_id,
        audience=settings.audience,
        name_claim=settings.name_claim,
        groups_claim=settings.groups_claim,
        algorithms=settings.algorithms,
    )
    return OidcProvider(client, IssuerMetadata(settings.issuer, provider_client(settings.issuer)))


def sign_in_policy(settings: OidcSettings) -> SignInPolicy:
    """Return what a sign-in gives."""
    viewers = dict.fromkeys(settings.platform_viewer_groups, PlatformRole.VIEWER)
    admins = dict.fromkeys(settings.platform_admin_groups, PlatformRole.ADMIN)
    return SignInPolicy(
        platform_roles=viewers | admins,
        session_lifetime=timedelta(hours=settings.session_hours),
        secure_cookies=settings.public_url.startswith("https:"),
    )
