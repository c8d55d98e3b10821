"""The rows of a data subject are counted, and left out of what is published."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.domain.datasets import DataRequest, Split
from windlass.domain.erasures import ErasureQuery, normalize_search_text
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.data.erasing import row_matcher
from windlass_pipelines.data.processing import process

_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=3, max_size=12)
_SUBJECTS = _TEXTS.filter(lambda text: len(normalize_search_text(text)) >= 3)


def request(folder: Path, rows: list[dict[str, Any]], query: ErasureQuery, *, search: bool = False) -> DataRequest:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(content, "utf-8", newline="\n")
    return DataRequest(
        operation="search" if search else "clean",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=(((folder / "train.jsonl").as_uri(), Split.TRAIN),),
        names=("train.jsonl",),
        erase=query,
        output=(folder / "out").as_uri(),
    )


def published_values(folder: Path) -> list[str]:
    """Every string in the published rows, and the text of every other published file."""
    values = []
    for path in (folder / "out").rglob("*"):
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
            values += [value for row in rows for value in row.values() if isinstance(value, str)]
        elif path.is_file():
            values.append(path.read_text("utf-8"))
    return values


@settings(max_examples=25, deadline=None)
@given(subject=_SUBJECTS, before=_TEXTS, after=_TEXTS, as_group=st.booleans(), upper=st.booleans())
def test_no_published_file_contains_an_erased_text(
    tmp_path_factory: Any, subject: str, before: str, after: str, *, as_group: bool, upper: bool
) -> None:
    shown = subject.upper() if upper and subject.upper().lower() == subject.lower() else subject
    place = {"text": "a text", "group": f"{before}{shown}"} if as_group else {"text": f"{before}{shown}{after}"}
    kept = {"text": "0123 stays 0123", "label": "b"}
    folder = tmp_path_factory.mktemp("erasing")
    query = ErasureQuery(contains=(subject,))
    process(request(folder, [{**place, "label": "a"}, kept], query), folder, folder_transfer())
    published = [value for value in published_values(folder) if value not in kept.values() and "<html" not in value]
    assert not [each for each in published if subject in each or normalize_search_text(subject) in each.lower()]
    assert row_matcher(query)(kept) or kept["text"] in published_values(folder)


def test_a_search_counts_each_input_and_publishes_nothing(tmp_path: Path) -> None:
    rows = [{"text": "from Ada", "label": "a"}, {"text": "from Bob", "label": "a"}, {"text": "x", "label": "ADA"}]
    query = ErasureQuery(contains=("ada",))
    result = process(request(tmp_path, rows, query, search=True), tmp_path, folder_transfer())
    assert (result.accepted, result.matches) == (True, (2,))
    assert not (tmp_path / "out").exists()


def test_a_search_of_unreadable_rows_is_not_accepted(tmp_path: Path) -> None:
    broken = request(tmp_path, [], ErasureQuery(contains=("ada",)), search=True)
    (tmp_path / "train.jsonl").write_text('{"text": "from Ada", "label"\n')
    result = process(broken, tmp_path, folder_transfer())
    assert (result.accepted, result.matches) == (False, ())


def test_every_message_of_a_conversation_is_searched() -> None:
    matches = row_matcher(ErasureQuery(contains=("ada l",), rows=({"text": "Hello  Ada"},)))
    question, answer = {"role": "user", "content": "hello ada"}, {"role": "assistant", "content": "Hi, ADA\nL."}
    other = {"role": "user", "content": "hello adam"}
    assert matches({"messages": [question]})
    assert matches({"messages": [other, answer]})
    assert not matches({"messages": [other]})


def test_all_columns_of_an_entry_must_be_equal() -> None:
    matches = row_matcher(ErasureQuery(rows=({"group": "c1", "label": "x"}, {"group": "c2"})))
    assert matches({"text": "", "label": "X", "group": "c1"})
    assert matches({"text": "", "label": None, "group": "c2"})
    assert not matches({"text": "", "label": "y", "group": "c1"})
    assert not matches({"text": "c2", "label": "x"})
