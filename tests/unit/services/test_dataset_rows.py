"""Pages of rows are bounded in bytes, whatever the rows contain."""

import io
import json

import pytest

from windlass.domain.errors import BadRequestError
from windlass.services import dataset_rows
from windlass.services.dataset_rows import MAX_CELL_CHARACTERS, PAGE_BYTES, RowPage, TruncatedCell, read_page


def pages(rows: list[dict[str, object]], limit: int = 200) -> list[RowPage]:
    """Read all pages."""
    stream = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    found = [read_page(stream, limit, None)]
    while found[-1].next_cursor:
        found.append(read_page(stream, limit, found[-1].next_cursor))
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


@pytest.mark.parametrize("cursor", ["", "!", "LTE=", "MQ=="])
def test_a_cursor_of_another_file_is_rejected(cursor: str) -> None:
    with pytest.raises(BadRequestError):
        read_page(io.BytesIO(b'{"text": "a"}\n'), 10, cursor)
