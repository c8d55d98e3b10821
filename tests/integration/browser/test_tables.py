"""A table in the playground: pasted, classified, copied and saved, without a formula that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.factories.console import CANARY, Console, ConsoleData

_BATCH = 256
_ADDED = ["prediction_label", "prediction_score", "prediction_truncated", "prediction_model"]


def _classify(body: dict[str, Any]) -> dict[str, Any]:
    """Return the length of each text as its label; formulas of users are labels too."""
    predictions = [[{"label": f"=LEN({len(text)})", "score": 0.5}] for text in body["inputs"]]
    truncated = [index for index, text in enumerate(body["inputs"]) if "long" in text]
    return {"model": "m@1", "predictions": predictions, "truncated": truncated}


@pytest.fixture
def page(console: Console, data: ConsoleData) -> Iterator[Page]:
    """The playground's tab for tables."""
    data.model.respond = _classify
    console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.open("/projects/ours/endpoints/texts")
    console.page.get_by_role("tab", name="Table").click()
    yield console.page
    data.model.respond = None


def test_a_table_from_a_spreadsheet_is_classified_copied_and_saved(console: Console, page: Page) -> None:
    rows = [["1", "good, really", "x"], ["2", CANARY, '=HYPERLINK("http://a")'], ["-3", "", "-x"], ["4", "long", "+1"]]
    pasted = "id\treview\tnote\n" + "".join("\t".join(row) + "\n" for row in rows)
    page.get_by_label("Table to classify").fill(pasted)
    expect(page.get_by_role("combobox", name="Column of the texts")).to_have_value("review")
    page.get_by_role("button", name="Classify 4 rows").click()
    result = page.get_by_role("region", name="Classified rows").locator("tbody tr")
    expect(result).to_have_count(4)
    expect(result.nth(0)).to_contain_text("=LEN(12)")
    expect(result.nth(1)).to_contain_text(CANARY)
    expect(page.get_by_text("4 rows, of which 1 without a text")).to_be_visible()
    assert console.faults() == []
    console.picture("table-wide")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download as CSV").click()
    assert downloading.value.suggested_filename == "texts-scored.csv"
    saved = downloading.value.path().read_bytes().decode("utf-8-sig")
    model = "m@1"
    expected = [
        ["id", "review", "note", *_ADDED],
        ["1", "good, really", "x", "'=LEN(12)", "0.5", "false", model],
        ["2", CANARY, '\'=HYPERLINK("http://a")', f"'=LEN({len(CANARY)})", "0.5", "false", model],
        ["-3", "", "'-x", "", "", "", ""],
        ["4", "long", "+1", "'=LEN(4)", "0.5", "true", model],
    ]
    assert list(csv.reader(io.StringIO(saved))) == expected
    page.get_by_role("button", name="Copy the table").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert list(csv.reader(io.StringIO(copied), delimiter="\t")) == expected
    console.require_safe()


def test_a_column_is_chosen_and_many_rows_are_sent_in_batches(page: Page, data: ConsoleData) -> None:
    before = len(data.model.requests)
    page.get_by_label("The first row has the names of the columns").uncheck()
    page.get_by_label("Table to classify").fill("".join(f"a,{'b' * 9}\n" for _ in range(_BATCH + 1)))
    column = page.get_by_role("combobox", name="Column of the texts")
    expect(column).to_have_value("2")
    column.click()
    page.get_by_role("option", name="1").click()
    page.get_by_role("button", name=f"Classify {_BATCH + 1} rows").click()
    expect(page.get_by_text(f"{_BATCH + 1} rows; the first 100 are shown")).to_be_visible()
    expect(page.get_by_role("region", name="Classified rows").locator("tbody tr").nth(0)).to_contain_text("=LEN(1)")
    assert len(data.model.requests) == before + 2


def test_lines_of_prose_are_one_column(page: Page) -> None:
    page.get_by_label("Table to classify").fill("text\nGood, very good\nBad\n")
    page.get_by_role("button", name="Classify 2 rows").click()
    rows = page.get_by_role("region", name="Classified rows").locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("Good, very good")
    expect(rows.nth(0)).to_contain_text("=LEN(15)")
