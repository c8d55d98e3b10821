"""The demonstration's own arithmetic and story; its whole run is an end-to-end test."""

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score

from windlass.cli.demo import reviews, support
from windlass.cli.demo.scores import score
from windlass.cli.demo.stage import Stage
from windlass.domain.specs import JobSpec

_LABELS = st.sampled_from(["negative", "neutral", "positive"])


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(_LABELS, _LABELS), min_size=1, max_size=60))
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with warnings.catch_warnings(action="ignore"):
        weighted, macro = (f1_score(truth, predicted, average=average) for average in ("weighted", "macro"))
    found = score(truth, predicted)
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.weighted_f1 == pytest.approx(weighted)
    assert found.macro_f1 == pytest.approx(macro)


@pytest.mark.parametrize(("truth", "predicted"), [([], []), (["a"], ["a", "b"])])
def test_nothing_to_score_is_an_error(truth: list[str], predicted: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        score(truth, predicted)


@pytest.mark.parametrize(
    ("part", "task", "data"), [(reviews, "text-classification", "reviews@1"), (support, "chat", "support@2")]
)
def test_the_constants_make_valid_jobs(part: object, task: str, data: str) -> None:
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


def test_the_story_is_plain_text_where_nobody_watches_and_counts_its_seconds() -> None:
    shown = io.StringIO()
    stage = Stage(Console(file=shown, width=80))
    with stage.phase("Do it"):
        stage.say("a \x1b[2J word")
        stage.table(["who", "what"], [["x", "\x1b[2Jy"]], strong=0)
    with pytest.raises(RuntimeError), stage.phase("Break"):
        raise RuntimeError
    stage.summary()
    text = shown.getvalue()
    assert "> Do it" in text
    assert "\x1b" not in text
    assert text.count("Do it") == 2
    assert text.count("Break") == 1
