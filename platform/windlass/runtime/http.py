"""HTTP clients for requests between processes of Windlass, and to the identity provider.

Those between processes ignore ``HTTP_PROXY`` and ``.netrc`` of the environment: a proxy cannot reach the loopback
address, and it would see run tokens and the texts of users.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx2

from windlass.kit.ca_bundle import ca_bundle


def internal_client(*, timeout: httpx2.Timeout | float, headers: Mapping[str, str] | None = None) -> httpx2.Client:
    """Return a client for requests to another process of Windlass."""
    return httpx2.Client(timeout=timeout, headers=headers, trust_env=False, verify=TlsContext(ssl.PROTOCOL_TLS_CLIENT))


def internal_async_client(*, timeout: httpx2.Timeout | float, max_connections: int) -> httpx2.AsyncClient:
    """Return an asynchronous client for requests to another process of Windlass."""
    limits, context = httpx2.Limits(max_connections=max_connections), TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False, verify=context)


def external_client(*, timeout: float, direct: bool = False) -> httpx2.Client:
    """Return a client for requests to another server than ours, such as the identity provider.

    It follows no redirect, and uses the proxy that the environment names unless ``direct`` is set.
    """
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.Client(timeout=timeout, follow_redirects=False, trust_env=not direct, verify=context)


class TlsContext(ssl.SSLContext):
    """Loads the certificate authorities of the system and of the installation with the first TLS connection.

    That takes 60 ms of CPU time, and most processes of Windlass use plain HTTP only.
    """

    _is_loaded = False

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a TLS connection of an asynchronous client."""
        self._load()
        return super().wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """Begin a TLS connection."""
        self._load()
        return super().wrap_socket(*arguments, **options)

    def _load(self) -> None:
        if not self._is_loaded:
            self.load_default_certs()
            if (private := ca_bundle()) is not None:
                self.load_verify_locations(private)
            self._is_loaded = True
