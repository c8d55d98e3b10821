"""The chart with sign-in by an identity provider."""

from typing import Any

import pytest
from tests.charts.rendering import only, pod_templates, render

OIDC = {"issuer": "https://idp.example.org", "clientId": "windlass", "publicUrl": "https://windlass.example.org"}


def variables(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    [pod] = [pod for owner, pod in pod_templates(objects).items() if owner.endswith(f"windlass-{component}")]
    [container] = pod["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_the_api_gets_the_provider_and_reaches_it() -> None:
    groups = {"platformAdminGroups": ["ops", "leads"], "existingSecret": "windlass-oidc"}
    objects = render({"oidc": OIDC | groups, "networkPolicy": {"identityProviderPort": 8443}})
    found = variables(objects, "api")
    assert found["WINDLASS_OIDC_ISSUER"] == "https://idp.example.org"
    assert found["WINDLASS_OIDC_PLATFORM_ADMIN_GROUPS"] == "ops,leads"
    secret = found["WINDLASS_OIDC_CLIENT_SECRET"]["secretKeyRef"]
    assert secret == {"name": "windlass-oidc", "key": "client-secret"}
    ports = [
        port["port"]
        for rule in only(objects, "NetworkPolicy", "windlass-api")["spec"]["egress"]
        for port in rule["ports"]
    ]
    assert 8443 in ports


def test_without_an_issuer_nothing_refers_to_a_provider() -> None:
    assert "OIDC" not in str(render())


def test_the_public_url_makes_cookies_secure_without_a_provider() -> None:
    found = variables(render({"oidc": {"publicUrl": "https://windlass.example.org"}}), "api")
    assert {name for name in found if "OIDC" in name} == {"WINDLASS_OIDC_PUBLIC_URL"}


@pytest.mark.parametrize(
    "changes",
    [{"clientId": ""}, {"publicUrl": ""}, {"issuer": "http://idp.example.org"}, {"platformAdminGroups": ["a,b"]}],
    ids=str,
)
def test_incomplete_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="oidc"):
        render({"oidc": OIDC | changes})
