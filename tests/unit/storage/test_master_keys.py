"""Master keys in a file wrap data keys for one project."""

import base64
from pathlib import Path

import pytest

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.storage.master_keys import FileMasterKeys

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
DATA_KEY = b"d" * 32


def keys(tmp_path: Path, *lines: str) -> FileMasterKeys:
    path = tmp_path / "master-keys"
    path.write_text("\n".join(lines))
    return FileMasterKeys.read(path)


def test_the_first_key_wraps_and_the_others_unwrap(tmp_path: Path) -> None:
    wrapped = keys(tmp_path, f"old:{OLD}").wrap(DATA_KEY, "prj_1")
    both = keys(tmp_path, f"new:{NEW}", "", f"old:{OLD}")
    assert (both.current, both.others) == ("new", ("old",))
    assert both.unwrap("old", wrapped, "prj_1") == DATA_KEY
    assert both.unwrap("new", both.wrap(DATA_KEY, "prj_1"), "prj_1") == DATA_KEY
    assert both.wrap(DATA_KEY, "prj_1") != both.wrap(DATA_KEY, "prj_1")


def test_a_wrapped_key_is_of_one_project_and_one_master_key(tmp_path: Path) -> None:
    old = keys(tmp_path, f"key:{OLD}")
    wrapped = old.wrap(DATA_KEY, "prj_1")
    with pytest.raises(UnavailableError, match="prj_2"):
        old.unwrap("key", wrapped, "prj_2")
    with pytest.raises(UnavailableError, match="another master key"):
        keys(tmp_path, f"key:{NEW}").unwrap("key", wrapped, "prj_1")
    with pytest.raises(UnavailableError, match="does not have"):
        keys(tmp_path, f"new:{NEW}").unwrap("key", wrapped, "prj_1")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (OLD,),
        (f":{OLD}",),
        ("key:",),
        ("key:c2hvcnQ=",),
        ("key:no base64!",),
        (f"key:{OLD}", f"key:{NEW}"),
        (f"a b:{OLD}",),
    ],
)
def test_a_malformed_file_is_refused_without_its_keys_in_the_message(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(InvalidError, match="not valid") as refused:
        keys(tmp_path, *lines)
    assert OLD not in f"{refused.value}{refused.value.hint}"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cannot be read"):
        FileMasterKeys.read(tmp_path / "none")


def test_the_keys_are_not_shown(tmp_path: Path) -> None:
    shown = repr(keys(tmp_path, f"key:{OLD}"))
    assert OLD not in shown
    assert repr(bytes([1]) * 32) not in shown
