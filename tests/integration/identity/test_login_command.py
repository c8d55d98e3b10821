"""``windlass login`` and ``logout`` against a served control plane and a real provider."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.factories.http_servers import serve
from tests.factories.oidc_provider import OidcServer
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.services.keys import Keys


@pytest.fixture
def url(harness: ControlPlaneHarness) -> Iterator[str]:
    harness.clock.at = datetime.now(UTC)
    with serve(harness.app) as port:
        yield f"http://127.0.0.1:{port}"


def windlass(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True, check=False, timeout=60
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "windlass.cli", *arguments]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "WINDLASS_HOME": str(home / "no")}


def test_a_user_signs_in_uses_the_session_and_signs_out(
    url: str, harness: ControlPlaneHarness, server: OidcServer, tmp_path: Path
) -> None:
    server.set_claims("s-20", preferred_username="ada", groups=["platform-team"])
    (tmp_path / "config" / "windlass").mkdir(parents=True)
    config = tmp_path / "config" / "windlass" / "config.toml"
    config.write_text('project = "ours"\n')
    argv = command("login", url)
    with subprocess.Popen(argv, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as login:
        assert login.stderr is not None
        shown = login.stderr.readline() + login.stderr.readline()
        where = re.search(r"http://\S+", shown)
        assert where is not None, shown
        server.approve_device(where[0], "s-20")
        assert "signed in as ada until" in login.communicate(timeout=60)[1]
        assert login.returncode == 0
    credential = config.parent / "credential"
    assert stat.S_IMODE(credential.stat().st_mode) == 0o600
    assert 'project = "ours"' in config.read_text()
    listed = windlass(tmp_path, "session", "list", "-o", "name")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("ses_")
    secret = credential.read_text().strip()
    assert windlass(tmp_path, "logout").returncode == 0
    assert not credential.exists()
    assert harness.client_for_key(secret).get("/v1/whoami").status_code == 401
    refused = windlass(tmp_path, "session", "list")
    assert (refused.returncode, "windlass login" in refused.stderr) == (3, True)


def test_a_key_is_stored_after_it_was_tried(url: str, harness: ControlPlaneHarness, tmp_path: Path) -> None:
    key = tmp_path / "ada.key"
    key.write_text("wlk_wrong_key\n")
    refused = windlass(tmp_path, "login", url, "--key-file", str(key))
    assert refused.returncode == 3
    assert not (tmp_path / "config").exists()
    key.write_text(Keys(harness.deps, ADMIN).create("ada")[1] + "\n")
    assert "signed in as ada" in windlass(tmp_path, "login", url, "--key-file", str(key)).stderr
    assert windlass(tmp_path, "key", "list", "-o", "name").stdout.startswith("key_")
    assert windlass(tmp_path, "logout").returncode == 0
    assert key.exists(), "the key is the user's"
    assert harness.client_for_key(key.read_text().strip()).get("/v1/whoami").status_code == 200
