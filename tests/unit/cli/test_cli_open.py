"""``windlass open``."""

import json
import webbrowser

import pytest
from tests.unit.cli.conftest import Windlass


def test_it_prints_the_address_where_there_is_no_browser(
    cli: Windlass, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def fail(address: str) -> bool:
        opened.append(address)
        return False

    monkeypatch.setattr(webbrowser, "open", fail)
    shown = cli("open")
    assert shown.code == 0, shown.err
    assert shown.out.strip() == opened[0]
    assert opened[0].startswith(f"{url}/sign-in#code=wls_")
    printed = cli("open", "--print").out.strip()
    assert len(opened) == 1
    assert printed != opened[0], "each link is new"
    assert json.loads(cli("open", "--json").out)["url"].startswith(f"{url}/sign-in#code=")


def test_the_code_is_not_printed_if_a_browser_opens(cli: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    shown = cli("open")
    assert (shown.code, shown.out) == (0, "")
    assert "opened http://127.0.0.1:" in shown.err
    assert "code=" not in shown.err
