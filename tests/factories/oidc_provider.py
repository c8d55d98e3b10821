"""A real OpenID Connect provider: the npm package oidc-provider, which needs Node.js and npm."""

import fcntl
import hashlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import pytest

_SOURCE = Path(__file__).parents[1] / "oidc_provider"
_CACHE = Path(__file__).parents[2] / ".cache"
CLIENT, SECRET = "windlass", "a-secret-of-the-tests"
DEVICE_CLIENT = "windlass-cli"
MACHINE, MACHINE_SECRET = "nightly", "another-secret-of-the-tests"
AUDIENCE = "windlass-api"
REDIRECT_URI = "http://127.0.0.1:9/v1/auth/callback"


def _installed() -> Path:
    """Return the folder of the server with its packages, which are installed once for each lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    lock = (_SOURCE / "package-lock.json").read_bytes()
    folder = _CACHE / f"oidc-provider-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "server.mjs"):
            shutil.copy(_SOURCE / name, folder / name)
        if not (folder / ".complete").exists():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=240)
            (folder / ".complete").touch()
    return folder


@dataclass
class OidcServer:
    """A running provider. Every name may sign in; ``set_claims`` says what its tokens contain."""

    port: int
    claims_file: Path
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the provider, with new keys."""
        command = ["node", "server.mjs", str(self.port), str(self.claims_file), REDIRECT_URI]
        self.process = subprocess.Popen(command, cwd=_installed(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert b"ready" in self.process.stdout.readline()

    def stop(self) -> None:
        """Stop the provider."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def restart(self) -> None:
        """Replace the provider by one with other keys."""
        self.stop()
        self.start()

    @property
    def issuer(self) -> str:
        """The issuer's URL."""
        return f"http://127.0.0.1:{self.port}"

    def set_claims(self, subject: str, **claims: Any) -> None:
        """Set the claims of a subject, for tokens that are issued from now on."""
        self.claims[subject] = claims
        self.claims_file.write_text(json.dumps(self.claims))

    def sign_in(self, url: str, subject: str) -> str:
        """Sign in at the provider's pages, as a browser does, and return the URL to which the browser is sent back."""
        with httpx2.Client(timeout=30) as browser:
            location = url
            while not location.startswith(REDIRECT_URI):
                reply = browser.get(location)
                while reply.status_code == 200:
                    reply = _submit(browser, reply, subject)
                assert reply.is_redirect, reply.text
                location = urljoin(str(reply.url), reply.headers["location"])
        return location

    def approve_device(self, url: str, subject: str) -> None:
        """Enter the code of the device flow, sign in and approve."""
        with httpx2.Client(timeout=30, follow_redirects=True) as browser:
            reply = browser.get(url)
            while "<form" in reply.text:
                reply = _submit(browser, reply, subject)
        assert "signed in" in reply.text.lower() or "success" in reply.text.lower(), reply.text

    def access_token(self, audience: str = AUDIENCE) -> str:
        """Return an access token of the machine ``MACHINE``."""
        form = {"grant_type": "client_credentials", "scope": "api", "resource": f"urn:{audience}"}
        reply = httpx2.post(f"{self.issuer}/token", data=form, auth=(MACHINE, MACHINE_SECRET), timeout=30)
        token: str = reply.json()["access_token"]
        return token


def _submit(browser: httpx2.Client, page: httpx2.Response, subject: str) -> httpx2.Response:
    """Submit the first form of a page; a name is asked for at the sign-in."""
    form = re.search(r"<form[^>]*action=\"([^\"]*)\"[^>]*>(.*?)</form>", page.text, re.DOTALL)
    assert form is not None, page.text
    fields: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", form[2]):
        attributes = dict(re.findall(r"([a-z_]+)=\"([^\"]*)\"", tag))
        if "name" in attributes:
            fields[attributes["name"]] = unescape(attributes.get("value", ""))
    if "login" in fields:
        fields |= {"login": subject, "password": "any"}
    return browser.post(urljoin(str(page.url), unescape(form[1])), data=fields)


def query_of(url: str) -> dict[str, str]:
    """Return the query of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def oidc_server(folder: Path) -> Iterator[OidcServer]:
    """Run a provider."""
    server = OidcServer(_free_port(), folder / "claims.json")
    server.claims_file.write_text("{}")
    server.start()
    try:
        yield server
    finally:
        server.stop()
