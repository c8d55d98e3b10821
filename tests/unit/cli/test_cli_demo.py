"""The scores and the console output of the demo; `make demo` runs as an end-to-end test."""

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score

from windlass.cli.demo import reviews, support
from windlass.cli.demo.console import DemoConsole
from windlass.cli.demo.scores import score
from windlass.domain.specs import JobSpec

_LABELS = st.sampled_from(["negative", "neutral", "positive"])


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(_LABELS, _LABELS), min_size=1, max_size=60))
def test_scores_equal_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with warnings.catch_warnings(action="ignore"):
        weighted, macro = (f1_score(truth, predicted, average=average) for average in ("weighted", "macro"))
    scores = score(truth, predicted)
    assert scores.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert scores.weighted_f1 == pytest.approx(weighted)
    assert scores.macro_f1 == pytest.approx(macro)


@pytest.mark.parametrize(("truth", "predicted"), [([], []), (["a"], ["a", "b"])])
def test_empty_or_unequal_labels_are_rejected(truth: list[str], predicted: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        score(truth, predicted)


@pytest.mark.parametrize(
    ("part", "task", "data"), [(reviews, "text-classification", "reviews@1"), (support, "chat", "support@2")]
)
def test_constants_make_valid_job_specs(part: object, task: str, data: str) -> None:
    spec = {
        "task": task,
        "base_model": part.BASE_MODEL,  # type: ignore[attr-defined]  # a module
        "dataset": data,
        "method": part.METHOD,  # type: ignore[attr-defined]  # a module
        "training": part.TRAINING,  # type: ignore[attr-defined]  # a module
        "evaluation": {"gates": part.GATES},  # type: ignore[attr-defined]  # a module
        "model": part.MODEL,  # type: ignore[attr-defined]  # a module
    }
    assert JobSpec.model_validate(spec).evaluation.gates


def test_console_prints_plain_text_to_a_file_and_records_finished_phases() -> None:
    shown = io.StringIO()
    console = DemoConsole(Console(file=shown, width=80))
    with console.phase("Do it"):
        console.message("a \x1b[2J word")
        console.table(["name", "value"], [["x", "\x1b[2Jy"]], strong=0)
    with pytest.raises(RuntimeError), console.phase("Break"):
        raise RuntimeError
    console.summary()
    text = shown.getvalue()
    assert "> Do it" in text
    assert "\x1b" not in text
    assert text.count("Do it") == 2
    assert text.count("Break") == 1


def test_a_table_in_a_file_is_wider_than_the_console_that_writes_it() -> None:
    shown = io.StringIO()
    console = DemoConsole(Console(file=shown, width=80))
    row = ["lexicon (vaderSentiment 3.3.2)", "0.588", "0.617", "0.489", "0.1"]
    console.table(["method", "accuracy", "weighted F1", "macro F1", "ms per sentence"], [row])
    _, line = shown.getvalue().splitlines()
    assert line.split("   ")[1] == row[0]
    assert line.split()[-4:] == row[1:]
