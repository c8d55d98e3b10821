"""Parsing of job files, flags, cleaning steps, split fractions and durations."""

import inspect
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from windlass.cli.cleaning import STEP_ORDER, parse_split, steps_from_file, steps_from_flags
from windlass.cli.commands.dataset import clean
from windlass.cli.specs import load_document, load_spec, merge, parse_assignments, parse_duration
from windlass.domain.datasets import CleaningStep, SplitRows
from windlass.domain.errors import InvalidError

NO_FLAGS: dict[str, Any] = {
    "drop_missing": False,
    "normalize": False,
    "dedupe": False,
    "near": False,
    "mask": False,
    "map_label": (),
    "merge_labels": False,
    "split": None,
    "by_group": False,
    "stratify": False,
    "seed": 0,
}


def test_merge_is_deep_and_leaves_its_inputs_unchanged() -> None:
    base = {"training": {"epochs": 1, "seed": 2}, "model": "m"}
    assert merge(base, {"training.epochs": 5, "method.type": "lora", "name": None}) == {
        "training": {"epochs": 5, "seed": 2},
        "model": "m",
        "method": {"type": "lora"},
    }
    assert base == {"training": {"epochs": 1, "seed": 2}, "model": "m"}


def test_assignment_values_are_yaml() -> None:
    assert parse_assignments(["training.seed=3", "evaluation.gates=['a > 1']", "name=x=y", "deploy=null"]) == {
        "training.seed": 3,
        "evaluation.gates": ["a > 1"],
        "name": "x=y",
        "deploy": None,
    }


@pytest.mark.parametrize("text", ["seed", "=1", "Training.seed=1", "a..b=1", "a=[", "__class__.x-y=1"])
def test_malformed_assignments_are_rejected(text: str) -> None:
    with pytest.raises(InvalidError, match="--set"):
        parse_assignments([text])


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)])
def test_durations_have_units(text: str, length: int) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-3s", "1w", "9" * 12])
def test_malformed_durations_are_rejected(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "line 1"),
        ("- 1", "mapping"),
        ("!!python/object/apply:os.system ['true']", "job.yaml"),
        ("x" * (1 << 20) + "yz", "larger"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_invalid_job_file_is_rejected_with_its_cause(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidError, match=message):
        load_spec(file)


def test_job_file_can_be_stdin_with_a_spec_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"spec: {model: m}")))
    assert load_spec(Path("-")) == {"model": "m"}


@settings(deadline=None)  # a busy machine must not fail the test
@given(
    st.fixed_dictionaries(
        {
            "drop_missing": st.booleans(),
            "normalize": st.booleans(),
            "dedupe": st.booleans(),
            "mask": st.booleans(),
            "map_label": st.sampled_from([(), ("a=b", "c=d=e")]),
            "merge_labels": st.booleans(),
            "split": st.sampled_from([None, "0.8/0.2", "70/20/10"]),
        }
    )
)
def test_flags_become_valid_cleaning_steps(flags: dict[str, Any]) -> None:
    given_flags = {**NO_FLAGS, **flags}
    if not any(flags.values()):
        with pytest.raises(InvalidError, match="no cleaning steps"):
            steps_from_flags(given_flags)
        return
    steps = steps_from_flags(given_flags)
    assert len(TypeAdapter(list[CleaningStep]).validate_python(steps)) == sum(map(bool, flags.values()))


def test_the_order_of_the_steps_is_the_order_of_the_flags_in_the_help() -> None:
    flags = dict.fromkeys(NO_FLAGS, True) | {"split": "0.5/0.5", "seed": 3, "map_label": ("a=b",)}
    steps = steps_from_flags(flags)
    assert [step["op"] for step in steps] == [
        *("drop-missing", "normalize-text", "mask-personal-data", "map-labels", "merge-labels", "deduplicate", "split")
    ]
    assert (steps[3]["labels"], steps[5]["near"], steps[6]["seed"]) == ({"a": "b"}, True, 3)
    assert f"The order is: {', '.join(STEP_ORDER)}." in str(clean.__doc__)
    parameters = [name.replace("_", "-") for name in inspect.signature(clean).parameters]
    assert [name for name in parameters if name in STEP_ORDER] == list(STEP_ORDER)


@pytest.mark.parametrize("text", ["a", "=b", "a="])
def test_a_label_without_its_new_name_is_rejected(text: str) -> None:
    with pytest.raises(InvalidError, match="--map-label"):
        steps_from_flags({**NO_FLAGS, "map_label": (text,)})


@pytest.mark.parametrize("flag", [{"near": True}, {"by_group": True}, {"stratify": True}, {"seed": 1}])
def test_flag_without_its_required_flag_is_rejected(flag: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="require"):
        steps_from_flags({**NO_FLAGS, "mask": True, **flag})


@settings(deadline=None)  # a busy machine must not fail the test
@given(st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_fractions_and_percentages_make_valid_split_steps(train: int, validation: int, per_cent: bool) -> None:
    test = 100 - train - validation
    if test < 0:
        return
    parts = [part if per_cent else part / 100 for part in (train, validation, test)]
    assert SplitRows(**parse_split("/".join(map(str, parts)))).train == pytest.approx(train / 100)


@pytest.mark.parametrize("text", ["0.8", "0.8/0.3", "0.8/x", "1/0/0/0", "-0.2/1.2", "nan/1"])
def test_malformed_split_is_rejected(text: str) -> None:
    with pytest.raises(InvalidError, match="--split"):
        parse_split(text)


def test_steps_come_from_a_file_or_from_flags(tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text("steps:\n- op: drop-missing\n- {op: deduplicate, near: true}\n")
    assert steps_from_file(file, NO_FLAGS) == [{"op": "drop-missing"}, {"op": "deduplicate", "near": True}]
    with pytest.raises(InvalidError, match="cannot be combined"):
        steps_from_file(file, {**NO_FLAGS, "mask": True})
    file.write_text("op: drop-missing\n")
    with pytest.raises(InvalidError, match="list of steps"):
        steps_from_file(file, NO_FLAGS)
    assert load_document(file) == {"op": "drop-missing"}


@pytest.mark.parametrize("from_stdin", [True, False])
def test_bytes_that_are_not_utf8_are_named_with_line_and_byte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, from_stdin: bool
) -> None:
    content = "model: m\nname: Überraschung\n".encode("latin-1")
    path = Path("-") if from_stdin else tmp_path / "job.yaml"
    if from_stdin:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), errors="surrogateescape"))
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidError, match="is not UTF-8: byte 0xdc at line 2, byte 7 of the line"):
        load_document(path)
