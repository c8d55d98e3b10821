"""Where the server is looked for, and to whom a key is given."""

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


def _found(home: Path, config: Path, **given: str) -> Connection:
    variables = {f"WINDLASS_{name.upper()}": value for name, value in given.items() if name.isupper()}
    named = {name: value for name, value in given.items() if not name.isupper()}
    return resolve(**named, home=home, config=config, environment=variables)  # type: ignore[arg-type]  # url, key, project alone


def test_arguments_win_over_environment_over_config_over_data_folder(home: Path, config: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    assert _found(home, none).url == "http://127.0.0.1:8741"
    assert _found(home, config).url == "https://config.test"
    assert _found(home, config, URL="https://env.test", KEY="wlk_env").url == "https://env.test"
    both = _found(home, config, URL="https://env.test", KEY="wlk_env", url="https://arg.test", key="wlk_arg")
    assert (both.url, both.key, both.source) == ("https://arg.test", "wlk_arg", "argument")


def test_the_project_has_the_same_order_and_a_default(home: Path, config: Path, tmp_path: Path) -> None:
    assert _found(home, tmp_path / "none.toml").project == "default"
    assert _found(home, config).project == "configured"
    assert _found(home, config, PROJECT="env").project == "env"
    assert _found(home, config, PROJECT="env", project="arg").project == "arg"


@pytest.mark.parametrize("url", ["https://other.test", "http://127.0.0.1:9999"])
def test_a_stored_key_never_goes_to_another_server(home: Path, config: Path, url: str) -> None:
    with pytest.raises(UnauthenticatedError, match=url):
        _found(home, config, url=url)


def test_each_stored_key_goes_to_its_own_server(home: Path, config: Path) -> None:
    assert _found(home, config).key == "wlk_config"
    assert _found(home, config, url="http://127.0.0.1:8741/").key == "wlk_home"


def test_nothing_known_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as raised:
        _found(tmp_path, tmp_path / "none.toml")
    assert "windlass up" in raised.value.hint


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8741", "http://", "http://user:password@host", "http://host/?key=1"]
)
def test_what_is_no_server_url_is_refused(home: Path, config: Path, url: str) -> None:
    with pytest.raises(InvalidError):
        _found(home, config, url=url, key="k")


@pytest.mark.parametrize("key", ["wlk one", "wlk\nInjected: header", "schlüssel"])
def test_a_key_that_would_break_a_header_is_refused_without_showing_it(home: Path, config: Path, key: str) -> None:
    with pytest.raises(UnauthenticatedError) as raised:
        _found(home, config, url="https://arg.test", key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("text", ["url = 3", "adress = 'x'", "not toml"])
def test_a_config_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(InvalidError, match=r"config\.toml"):
        resolve(home=tmp_path, config=config, environment={})


def test_a_broken_server_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(InvalidError, match=r"server\.json"):
        _found(tmp_path, tmp_path / "none.toml")


def test_a_key_file_is_read_and_a_missing_one_named(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("wlk_file\n")
    nowhere = tmp_path / "none.toml"
    found = resolve(url="https://arg.test", key_file=file, home=home, config=nowhere, environment={})
    assert found.key == "wlk_file"
    file.unlink()
    with pytest.raises(UnauthenticatedError, match="key"):
        resolve(url="https://arg.test", key_file=file, home=home, config=nowhere, environment={})


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:1", True), ("http://localhost", True), ("http://[::1]:1", True), ("https://arg.test", False)],
)
def test_only_loopback_is_this_machine(url: str, local: bool) -> None:
    assert Connection(url, "k", "p", "argument").local is local


def test_the_data_folder_is_the_users_unless_chosen() -> None:
    assert default_home({"WINDLASS_HOME": "/data/w"}) == Path("/data/w")
    assert default_home({}).name == "windlass"
