"""What is read: job files and flags, cleaning flags, shares, lengths of time."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from windlass.cli.cleaning import shares, steps_from_file, steps_from_flags
from windlass.cli.specs import assignments, documents, load, merged, seconds
from windlass.domain.datasets import CleaningStep, SplitRows
from windlass.domain.errors import InvalidError

NO_FLAGS: dict[str, Any] = {
    "drop_missing": False,
    "normalize": False,
    "dedupe": False,
    "near": False,
    "mask": False,
    "split": None,
    "by_group": False,
    "stratify": False,
    "seed": 0,
}


def test_merging_reaches_into_the_spec_and_changes_neither_side() -> None:
    base = {"training": {"epochs": 1, "seed": 2}, "model": "m"}
    assert merged(base, {"training.epochs": 5, "method.type": "lora", "name": None}) == {
        "training": {"epochs": 5, "seed": 2},
        "model": "m",
        "method": {"type": "lora"},
    }
    assert base == {"training": {"epochs": 1, "seed": 2}, "model": "m"}


def test_assignments_are_yaml_values() -> None:
    assert assignments(["training.seed=3", "evaluation.gates=['a > 1']", "name=x=y", "deploy=null"]) == {
        "training.seed": 3,
        "evaluation.gates": ["a > 1"],
        "name": "x=y",
        "deploy": None,
    }


@pytest.mark.parametrize("text", ["seed", "=1", "Training.seed=1", "a..b=1", "a=[", "__class__.x-y=1"])
def test_other_assignments_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="--set"):
        assignments([text])


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)])
def test_lengths_of_time_have_units(text: str, length: int) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-3s", "1w", "9" * 12])
def test_other_lengths_of_time_are_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        seconds(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1", "line 1"),
        ("- 1", "mapping"),
        ("!!python/object/apply:os.system ['true']", "job.yaml"),
        ("x" * (1 << 20) + "yz", "larger"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_job_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, words: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidError, match=words):
        load(file)


def test_standard_input_and_a_spec_key_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("spec: {model: m}"))
    assert load(Path("-")) == {"model": "m"}


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.fixed_dictionaries(
        {
            "drop_missing": st.booleans(),
            "normalize": st.booleans(),
            "dedupe": st.booleans(),
            "mask": st.booleans(),
            "split": st.sampled_from([None, "0.8/0.2", "70/20/10"]),
        }
    )
)
def test_flags_become_steps_that_the_server_takes(flags: dict[str, Any]) -> None:
    given_flags = {**NO_FLAGS, **flags}
    if not any(flags.values()):
        with pytest.raises(InvalidError, match="no step"):
            steps_from_flags(given_flags)
        return
    steps = steps_from_flags(given_flags)
    assert len(TypeAdapter(list[CleaningStep]).validate_python(steps)) == sum(map(bool, flags.values()))


def test_rows_are_made_equal_before_they_are_compared_and_split_last() -> None:
    flags = {**NO_FLAGS, "split": "0.5/0.5", "dedupe": True, "near": True, "mask": True, "normalize": True, "seed": 3}
    steps = steps_from_flags(flags)
    assert [step["op"] for step in steps] == ["normalize-text", "mask-personal-data", "deduplicate", "split"]
    assert steps[2]["near"] is True
    assert steps[3]["seed"] == 3


@pytest.mark.parametrize("flag", [{"near": True}, {"by_group": True}, {"stratify": True}, {"seed": 1}])
def test_a_flag_that_needs_another_says_so(flag: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="need"):
        steps_from_flags({**NO_FLAGS, "mask": True, **flag})


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_shares_per_cent_or_of_one_always_fit_the_split_step(train: int, validation: int, per_cent: bool) -> None:
    test = 100 - train - validation
    if test < 0:
        return
    parts = [part if per_cent else part / 100 for part in (train, validation, test)]
    assert SplitRows(**shares("/".join(map(str, parts)))).train == pytest.approx(train / 100)


@pytest.mark.parametrize("text", ["0.8", "0.8/0.3", "0.8/x", "1/0/0/0", "-0.2/1.2", "nan/1"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="--split"):
        shares(text)


def test_steps_come_from_a_file_or_from_flags(tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text("steps:\n- op: drop-missing\n- {op: deduplicate, near: true}\n")
    assert steps_from_file(file, NO_FLAGS) == [{"op": "drop-missing"}, {"op": "deduplicate", "near": True}]
    with pytest.raises(InvalidError, match="not from both"):
        steps_from_file(file, {**NO_FLAGS, "mask": True})
    file.write_text("op: drop-missing\n")
    with pytest.raises(InvalidError, match="list of steps"):
        steps_from_file(file, NO_FLAGS)
    assert documents(file) == {"op": "drop-missing"}
