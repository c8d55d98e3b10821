"""Any change of a sealed entry, and any removal, swap or insertion of entries is found and named."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.audit import (
    AuditEntry,
    AuditOutcome,
    ChainLink,
    ChainProblemKind,
    ChainState,
    FieldChange,
    StoredEntry,
    entry_hash,
    seal,
    verify_end,
    verify_entries,
    verify_saved,
)

START = ChainLink()
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001 - hypothesis takes naive ones
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ENTRIES = st.builds(
    AuditEntry,
    id=st.text(min_size=1),
    time=TIMES,
    actor=st.text(),
    key=st.none() | st.text(),
    address=st.text(),
    request_id=st.text(),
    project=st.none() | st.text(),
    action=st.text(),
    subject=st.text(),
    name=st.text(),
    outcome=st.sampled_from(AuditOutcome),
    code=st.text(),
    count=st.integers(1, 10**9),
    changes=st.dictionaries(st.text(), st.builds(FieldChange, before=VALUES, after=VALUES), max_size=3),
)
CONTENT = sorted(AuditEntry.model_fields.keys() - {"position", "previous_hash", "hash"})


def stored(entries: list[AuditEntry]) -> list[StoredEntry]:
    return [StoredEntry(entry.position or 0, entry) for entry in entries]


def entry(number: int) -> AuditEntry:
    time = datetime(2026, 11, 30, tzinfo=UTC) + timedelta(seconds=number)
    return AuditEntry(id=f"aud_{number}", time=time, actor="ada", project=None, action="key.create")


def chain(length: int) -> list[AuditEntry]:
    return list(seal([entry(number) for number in range(length)], START))


def link(sealed: AuditEntry) -> ChainLink:
    return ChainLink(position=sealed.position or 0, hash=sealed.hash or "")


@given(st.lists(ENTRIES, max_size=6))
def test_what_was_sealed_is_intact_also_after_a_way_through_json(entries: list[AuditEntry]) -> None:
    sealed = [AuditEntry.model_validate_json(each.model_dump_json()) for each in seal(entries, START)]
    last, problem = verify_entries(stored(sealed), START)
    assert problem is None
    assert last.position == len(entries)
    assert verify_end(last, link(sealed[-1]) if sealed else START) is None


@given(st.lists(ENTRIES, min_size=1, max_size=5), ENTRIES, st.data())
def test_a_change_of_any_field_is_found(entries: list[AuditEntry], other: AuditEntry, data: st.DataObject) -> None:
    sealed = list(seal(entries, START))
    at, name = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.sampled_from(CONTENT))
    changed = sealed[at].model_copy(update={name: getattr(other, name)})
    if changed == sealed[at]:
        return
    sealed[at] = changed
    last, problem = verify_entries(stored(sealed), START)
    assert problem is not None
    assert (problem.position, problem.kind, last.position) == (at + 1, ChainProblemKind.CHANGED, at)


@given(st.data())
def test_a_row_that_is_resealed_after_a_change_breaks_the_next_one(data: st.DataObject) -> None:
    sealed = chain(6)
    at = data.draw(st.integers(0, 4))
    changed = sealed[at].model_copy(update={"actor": "eve"})
    sealed[at] = changed.model_copy(update={"hash": entry_hash(changed)})
    _, problem = verify_entries(stored(sealed), START)
    assert problem is not None
    assert (problem.position, problem.kind) == (at + 2, ChainProblemKind.REORDERED)


@given(st.data())
def test_missing_rows_are_found(data: st.DataObject) -> None:
    sealed = chain(8)
    gone = data.draw(st.sets(st.integers(1, 8), min_size=1, max_size=7))
    left = [each for each in sealed if each.position not in gone]
    last, problem = verify_entries(stored(left), START)
    problem = problem or verify_end(last, link(sealed[-1]))
    assert problem is not None
    assert problem.position == min(gone)
    assert problem.kind is (ChainProblemKind.MISSING if left and max(gone) < 8 else problem.kind)
    assert problem.kind in {ChainProblemKind.MISSING, ChainProblemKind.TRUNCATED}


@given(st.data())
def test_swapped_rows_are_found(data: st.DataObject) -> None:
    sealed = chain(8)
    one, two = sorted(data.draw(st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True)))
    moved = dict(enumerate(sealed))
    moved[one], moved[two] = sealed[two], sealed[one]
    with_positions = [StoredEntry(at + 1, each.model_copy(update={"position": at + 1})) for at, each in moved.items()]
    _, problem = verify_entries(with_positions, START)
    assert problem is not None
    assert (problem.position, problem.kind) == (one + 1, ChainProblemKind.REORDERED)


@given(st.data())
def test_an_inserted_row_is_found(data: st.DataObject) -> None:
    sealed = chain(6)
    at = data.draw(st.integers(0, 5))
    before = link(sealed[at - 1]) if at else START
    [forged] = seal([entry(99)], before)
    rows = [
        *sealed[:at],
        forged,
        *(each.model_copy(update={"position": (each.position or 0) + 1}) for each in sealed[at:]),
    ]
    last, problem = verify_entries(stored(rows), START)
    problem = problem or verify_end(last, link(sealed[-1]))
    assert problem is not None
    assert problem.position in {at + 1, at + 2}


def test_a_row_that_cannot_be_read_counts_as_changed() -> None:
    rows = stored(chain(3))
    rows[1] = StoredEntry(2, None)
    _, problem = verify_entries(rows, START)
    assert problem is not None
    assert (problem.position, problem.kind) == (2, ChainProblemKind.CHANGED)


def test_a_saved_head_finds_a_chain_that_was_cut_and_one_that_was_written_anew() -> None:
    sealed = chain(5)
    saved, state = link(sealed[3]), ChainState(head=link(sealed[4]))
    assert verify_saved(saved, StoredEntry(4, sealed[3]), state) is None
    cut = verify_saved(saved, None, ChainState(head=link(sealed[2])))
    assert cut is not None
    assert (cut.position, cut.kind) == (4, ChainProblemKind.TRUNCATED)
    anew = list(seal([entry(number + 1) for number in range(5)], START))
    forged = verify_saved(saved, StoredEntry(4, anew[3]), ChainState(head=link(anew[4])))
    assert forged is not None
    assert (forged.position, forged.kind) == (4, ChainProblemKind.CHANGED)


def test_a_saved_head_that_the_retention_has_removed_is_compared_with_the_anchor_only() -> None:
    sealed = chain(5)
    state = ChainState(anchor=link(sealed[3]), head=link(sealed[4]))
    assert verify_saved(link(sealed[2]), None, state) is None
    assert verify_saved(link(sealed[3]), None, state) is None
    assert verify_saved(ChainLink(position=4, hash="f" * 64), None, state) is not None
    assert verify_saved(ChainLink(position=0, hash="f" * 64), None, ChainState(head=link(sealed[4]))) is not None


def test_the_hash_can_be_recomputed_from_the_json_of_an_entry() -> None:
    """The recipe of the guide, with nothing of Windlass."""
    import hashlib
    import json

    line = chain(2)[1].model_dump_json()
    fields: dict[str, Any] = json.loads(line)
    expected = fields.pop("hash")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == expected
