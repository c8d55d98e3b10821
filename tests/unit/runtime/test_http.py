"""The clients for requests between processes load certificate authorities for TLS only."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.factories.private_ca import https_server, write_certificate

from windlass.kit.ca_bundle import CA_BUNDLE_VARIABLE
from windlass.runtime.http import TlsContext, internal_async_client, internal_client


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "server.pem")


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    with https_server(certificate) as address:
        yield address


def get(url: str) -> int:
    with internal_client(timeout=10) as client:
        return client.get(url).status_code


def get_async(url: str) -> int:
    async def request() -> int:
        async with internal_async_client(timeout=10, max_connections=1) as client:
            return (await client.get(url)).status_code

    return asyncio.run(request())


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", CA_BUNDLE_VARIABLE])
@pytest.mark.parametrize("request_status", [get, get_async])
def test_a_server_is_verified_with_the_authorities_of_the_system_and_of_the_installation(
    request_status: Callable[[str], int], variable: str, url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        request_status(url)
    monkeypatch.setenv(variable, str(certificate))
    assert request_status(url) == 204


def test_the_authorities_are_loaded_with_the_first_tls_connection(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificate.parent / "none"))
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    assert context.cert_store_stats()["x509"] == 0
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="127.0.0.1")
    assert context.cert_store_stats()["x509"] == 1
