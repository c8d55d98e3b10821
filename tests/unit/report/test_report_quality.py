"""What the report says about the quality of the model: warnings, simple models, unused rows, registered weights."""

from tests.unit.report.report_samples import reviews

from windlass.domain.datasets import Deduplicate, Split, SplitRows
from windlass.domain.reports import JobWarning
from windlass.domain.training_report import ClassScore, ConfusionMatrix, KeptWeights, TrainingReport
from windlass_pipelines.report import model_card, training

STEPS = (Deduplicate(), SplitRows(train=0.8, validation=0.2, stratify=True, source=Split.TRAIN))


def report() -> TrainingReport:
    sample = reviews()
    return sample.model_copy(
        update={
            "data": sample.data.model_copy(
                update={"also_trained_on": 742, "dropped": {Split.TRAIN: 14}, "steps": STEPS}
            ),
            "warnings": (JobWarning(code="model_collapsed", message="the model predicts one label"),),
            "baselines": {"majority_class": {"accuracy": 0.5418, "weighted_f1": 0.3807}},
            "kept": KeptWeights(step=26, loss=0.41, last_loss=0.4671),
        }
    )


def test_page_and_card_show_warnings_simple_models_and_rows_that_were_not_used() -> None:
    for text in (training.render(report()), model_card.render(report())):
        assert "the model predicts one label" in text
        assert "Always the most frequent label" in text
        assert "0.381" in text
        assert "no answer begins within 96 tokens: 14 rows of train" in text


def test_page_and_card_say_how_the_held_out_rows_were_chosen() -> None:
    text = model_card.render(report())
    assert "by these steps: deduplicate, split (train 80" in text
    for part in ("validation 20", "labels in proportion; seed 0"):
        assert part in text
        assert part in training.render(report())


def test_rows_that_were_trained_on_are_never_called_held_out() -> None:
    for text in (training.render(report()), model_card.render(report())):
        assert ", the rows it was trained on" in text
        assert "eld-out" not in text


def test_the_page_names_the_step_whose_weights_are_registered_and_both_losses() -> None:
    expected = "The weights of step 26 are registered: evaluation loss 0.410, after the last step 0.467."
    assert expected in training.render(report())
    same = report().model_copy(update={"kept": KeptWeights(step=report().steps, loss=0.4, last_loss=0.4)})
    assert "are registered" not in training.render(same)


def test_a_matrix_of_eight_labels_has_a_row_of_its_own_and_dense_columns() -> None:
    def page(size: int) -> str:
        labels = tuple(f"label-{i}" for i in range(size))
        counts = tuple(tuple(9 if i == j else 1 for j in range(size)) for i in range(size))
        scores = {label: ClassScore(precision=0.5, recall=0.5, f1=0.5, support=16) for label in labels}
        update = {"classes": scores, "confusion": ConfusionMatrix(labels=labels, counts=counts)}
        return training.render(reviews().model_copy(update=update))

    assert 'class="heat dense"' in page(8)
    assert 'class="heat"' in page(5)
    assert page(8).count('class="grid"') == page(5).count('class="grid"') + 1
