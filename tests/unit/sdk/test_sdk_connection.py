"""Resolution of the server URL, and which server receives which key."""

import json
from pathlib import Path

import pytest

from windlass.domain.errors import InvalidError, UnauthenticatedError, UnavailableError
from windlass.sdk.connection import Connection, default_home, resolve


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "server.json").write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:8741"}))
    (folder / "admin.key").write_text("wlk_home\n")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('url = "https://config.test"\nkey = "wlk_config"\nproject = "configured"\n')
    return path


def _resolve(home: Path, config: Path, **given: str) -> Connection:
    variables = {f"WINDLASS_{name.upper()}": value for name, value in given.items() if name.isupper()}
    named = {name: value for name, value in given.items() if not name.isupper()}
    return resolve(**named, home=home, config=config, environment=variables)  # type: ignore[arg-type]  # url, key, project alone


def test_url_precedence_is_argument_environment_config_data_directory(home: Path, config: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    assert _resolve(home, none).url == "http://127.0.0.1:8741"
    assert _resolve(home, config).url == "https://config.test"
    assert _resolve(home, config, URL="https://env.test", KEY="wlk_env").url == "https://env.test"
    both = _resolve(home, config, URL="https://env.test", KEY="wlk_env", url="https://arg.test", key="wlk_arg")
    assert (both.url, both.key, both.source) == ("https://arg.test", "wlk_arg", "argument")


def test_project_has_the_same_precedence_and_a_default(home: Path, config: Path, tmp_path: Path) -> None:
    assert _resolve(home, tmp_path / "none.toml").project == "default"
    assert _resolve(home, config).project == "configured"
    assert _resolve(home, config, PROJECT="env").project == "env"
    assert _resolve(home, config, PROJECT="env", project="arg").project == "arg"


@pytest.mark.parametrize("url", ["https://other.test", "http://127.0.0.1:9999"])
def test_stored_key_is_never_sent_to_another_server(home: Path, config: Path, url: str) -> None:
    with pytest.raises(UnauthenticatedError, match=url):
        _resolve(home, config, url=url)


def test_stored_key_is_used_for_its_own_server(home: Path, config: Path) -> None:
    assert _resolve(home, config).key == "wlk_config"
    assert _resolve(home, config, url="http://127.0.0.1:8741/").key == "wlk_home"


def test_missing_configuration_hints_at_windlass_up(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as raised:
        _resolve(tmp_path, tmp_path / "none.toml")
    assert "windlass up" in raised.value.hint


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8741", "http://", "http://user:password@host", "http://host/?key=1"]
)
def test_invalid_server_url_is_rejected(home: Path, config: Path, url: str) -> None:
    with pytest.raises(InvalidError):
        _resolve(home, config, url=url, key="k")


@pytest.mark.parametrize("key", ["wlk one", "wlk\nInjected: header", "schlüssel"])
def test_key_with_invalid_characters_is_rejected_without_showing_it(home: Path, config: Path, key: str) -> None:
    with pytest.raises(UnauthenticatedError) as raised:
        _resolve(home, config, url="https://arg.test", key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("text", ["url = 3", "adress = 'x'", "not toml"])
def test_error_names_an_invalid_config_file(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(InvalidError, match=r"config\.toml"):
        resolve(home=tmp_path, config=config, environment={})


def test_error_names_an_invalid_server_file(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(InvalidError, match=r"server\.json"):
        _resolve(tmp_path, tmp_path / "none.toml")


def test_key_file_is_read_and_a_missing_file_raises(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("wlk_file\n")
    nowhere = tmp_path / "none.toml"
    connection = resolve(url="https://arg.test", key_file=file, home=home, config=nowhere, environment={})
    assert connection.key == "wlk_file"
    file.unlink()
    with pytest.raises(UnauthenticatedError, match="key"):
        resolve(url="https://arg.test", key_file=file, home=home, config=nowhere, environment={})


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:1", True), ("http://localhost", True), ("http://[::1]:1", True), ("https://arg.test", False)],
)
def test_only_loopback_addresses_are_local(url: str, local: bool) -> None:
    assert Connection(url, "k", "p", "argument").is_local is local


def test_default_home_is_overridden_by_windlass_home() -> None:
    assert default_home({"WINDLASS_HOME": "/data/w"}) == Path("/data/w")
    assert default_home({}).name == "windlass"
