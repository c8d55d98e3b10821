"""`windlass dataset erase` and `windlass erasure`: counts without text, a confirmation, the certificate."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.inline_processor import InlineProcessor
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.cli.erasing import parse_conditions, read_rows_file
from windlass.domain.errors import InvalidError
from windlass.services.erasing import Erasing


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    """A control plane whose loops for erasures run in a thread."""
    (tmp_path / "server").mkdir()
    harness = ControlPlaneHarness(tmp_path / "server", processor=InlineProcessor(tmp_path / "work"))
    harness.create_project("default")
    harness.create_dataset("default")
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(0.05):
            Erasing(harness.worker.deps, harness.worker.processing.processor).step()
            harness.worker.processing.poll()
            harness.dispatch_outbox()

    worker = threading.Thread(target=work)
    worker.start()
    yield harness
    stopped.set()
    worker.join()
    harness.close()


def test_rows_are_counted_confirmed_and_certified(cli: Windlass, tmp_path: Path) -> None:
    found = cli("dataset", "erase", "reviews", "--text-contains", "TEXT 3", "--dry-run")
    assert (found.code, "reviews@1: 2 of 8 rows" in found.err) == (0, True), found.err
    assert "text 3" not in (found.out + found.err).lower()
    [listed] = json.loads(cli("erasure", "list", "-o", "json").out)
    refused = cli("erasure", "confirm", listed["id"])
    assert (refused.code, "--yes is required" in refused.err) == (2, True), refused.err
    confirmed = cli("erasure", "confirm", listed["id"], "--yes")
    assert confirmed.code == 0, confirmed.err
    assert "reviews@2" in cli("dataset", "list", "reviews").out
    file = tmp_path / "certificate.json"
    assert cli("erasure", "certificate", listed["id"], "--file", str(file)).code == 0
    assert json.loads(file.read_text())["rows_erased"] == 2
    nothing = cli("dataset", "erase", "reviews", "--where", "text=text 3")
    assert (nothing.code, "no version of dataset reviews has such rows" in nothing.err) == (0, True), nothing.err


def test_a_rows_file_has_texts_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('ada@example.com\n\n{"group": "c1", "label": "x"}\n')
    assert read_rows_file(path) == (["ada@example.com"], [{"group": "c1", "label": "x"}])


@pytest.mark.parametrize("content", ["{not json", '{"group": 17}', b"\xff\xfe\x00"])
def test_a_rows_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidError):
        read_rows_file(path)


@pytest.mark.parametrize("conditions", [["group"], ["group=a", "group=b"]])
def test_conditions_name_each_column_once(conditions: list[str]) -> None:
    assert parse_conditions(["group=a=b", "label=x"]) == {"group": "a=b", "label": "x"}
    with pytest.raises(InvalidError):
        parse_conditions(conditions)
