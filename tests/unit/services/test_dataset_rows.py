"""Pages of rows are bounded in bytes, whatever the rows contain."""

import io
import json
from collections.abc import Iterable

import pytest

from windlass.domain.errors import BadRequestError
from windlass.services import dataset_rows
from windlass.services.dataset_rows import (
    ALL_ROWS,
    MAX_CELL_CHARACTERS,
    PAGE_BYTES,
    RowFilter,
    RowPage,
    TruncatedCell,
    read_page,
)


def pages(rows: list[dict[str, object]], limit: int = 200, wanted: RowFilter = ALL_ROWS) -> list[RowPage]:
    """Read all pages."""
    stream = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    found = [read_page(stream, limit, None, wanted)]
    while found[-1].next_cursor:
        found.append(read_page(stream, limit, found[-1].next_cursor, wanted))
    return found


def test_small_rows_fill_a_page_up_to_the_limit() -> None:
    rows: list[dict[str, object]] = [{"text": f"row {number}"} for number in range(25)]
    found = pages(rows, limit=10)
    assert [len(page.rows) for page in found] == [10, 10, 5]
    assert [row for page in found for row in page.rows] == rows
    assert all(page.truncated == [] for page in found)


@pytest.mark.parametrize("character", ["x", "\x01", "\\", "\N{SNOWMAN}"])
def test_large_rows_end_a_page_early_and_their_texts_are_marked(character: str) -> None:
    text = character * (4 << 20)
    found = pages([{"text": text, "label": str(number)} for number in range(5)])
    assert [row["label"] for page in found for row in page.rows] == ["0", "1", "2", "3", "4"]
    for page in found:
        assert len(page.rows) * len(text) <= PAGE_BYTES + len(text)
        assert page.truncated == [TruncatedCell(item, "/text", len(text)) for item in range(len(page.rows))]
        assert all(row["text"] == text[:MAX_CELL_CHARACTERS] for row in page.rows)


def test_a_truncated_text_of_a_conversation_has_a_pointer() -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a" * 100_000}]
    (page,) = pages([{"messages": messages}])
    assert page.truncated == [TruncatedCell(0, "/messages/1/content", 100_000)]


def test_a_row_beyond_the_line_limit_is_omitted_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_rows, "MAX_LINE_BYTES", 1000)
    (page,) = pages([{"text": "first"}, {"text": "x" * 3_000_000}, {"text": "last"}])
    assert page.rows == [{"text": "first"}, {}, {"text": "last"}]
    assert page.truncated == [TruncatedCell(1, "", 3_000_013)]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (RowFilter(label="a"), range(0, 50, 2)),
        (RowFilter(label="A"), []),
        (RowFilter(text="ROW 1"), [1, *range(10, 20)]),
        (RowFilter(label="b", text="roW 1"), [1, *range(11, 20, 2)]),
        (RowFilter(text="true"), [7]),
        (RowFilter(text="deep"), [3]),
        (RowFilter(text="label"), []),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 200])
def test_a_filter_returns_the_same_rows_whatever_the_length_of_a_page(
    wanted: RowFilter, numbers: Iterable[int], limit: int
) -> None:
    rows: list[dict[str, object]] = [{"text": f"row {number}", "label": "ab"[number % 2]} for number in range(50)]
    rows[7]["flag"] = True
    rows[3]["messages"] = [{"content": "a deep text"}]
    found = pages(rows, limit, wanted)
    assert [row for page in found for row in page.rows] == [rows[number] for number in numbers]
    assert all(len(page.rows) <= limit for page in found)


def test_a_page_without_a_match_ends_after_a_part_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_rows, "SCAN_BYTES", 100)
    rows: list[dict[str, object]] = [{"text": f"row {number}"} for number in range(40)]
    found = pages(rows, wanted=RowFilter(text="row 39"))
    assert len(found) > 5
    assert [len(page.rows) for page in found[:-1]] == [0] * (len(found) - 1)
    assert found[-1].rows == [{"text": "row 39"}]


def test_a_filter_reads_the_part_of_a_text_that_is_cut_and_no_row_beyond_the_line_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (page,) = pages(
        [{"text": "x" * MAX_CELL_CHARACTERS + "needle"}, {"text": "short"}], wanted=RowFilter(text="needle")
    )
    assert page.truncated == [TruncatedCell(0, "/text", MAX_CELL_CHARACTERS + 6)]
    assert page.rows == [{"text": "x" * MAX_CELL_CHARACTERS}]
    monkeypatch.setattr(dataset_rows, "MAX_LINE_BYTES", 1000)
    (page,) = pages([{"text": "x" * 3000}, {"text": "x"}], wanted=RowFilter(text="x"))
    assert page == RowPage([{"text": "x"}], [], None)


@pytest.mark.parametrize("cursor", ["", "!", "LTE=", "MQ=="])
def test_a_cursor_of_another_file_is_rejected(cursor: str) -> None:
    with pytest.raises(BadRequestError):
        read_page(io.BytesIO(b'{"text": "a"}\n'), 10, cursor)
