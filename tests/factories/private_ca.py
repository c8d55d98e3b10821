"""A certificate that no system trusts, and a TLS server that uses it."""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SSL_REQUEST = 80877103
"""The code with which a PostgreSQL client asks for TLS."""
PASSWORD_REFUSED = "the password is refused, over TLS"


class _NoContent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def write_certificate(path: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 that this key has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    unsigned = unsigned.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    signed = unsigned.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(pem))
    return path


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def https_server(certificate: Path) -> Iterator[str]:
    """Serve HTTPS; yields the URL."""
    with HTTPServer(("127.0.0.1", 0), _NoContent) as server:
        server.socket = _context(certificate).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def postgres_tls_server(certificate: Path) -> Iterator[int]:
    """Accept the TLS connections of PostgreSQL clients, and refuse each client afterwards; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse_clients, args=(listener, _context(certificate)), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _refuse_clients(listener: socket.socket, context: ssl.SSLContext) -> None:
    fields = (b"SFATAL", b"C28P01", b"M" + PASSWORD_REFUSED.encode(), b"")
    body = b"\0".join(fields) + b"\0"
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        with raw:
            _, code = struct.unpack("!ii", raw.recv(8))
            if code != _SSL_REQUEST:
                continue
            raw.sendall(b"S")
            try:
                with context.wrap_socket(raw, server_side=True) as client:
                    client.recv(4096)
                    client.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)
            except OSError:  # the client does not trust the certificate
                continue
