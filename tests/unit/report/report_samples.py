"""Report data of two finished jobs, and a validation report with findings."""

import math
import random
from datetime import UTC, datetime

from windlass.domain.datasets import Finding, Histogram, Split, SplitReport, ValidationReport
from windlass.domain.ingest import Encoding, FileFormat, FileReport
from windlass.domain.specs import Gate, LoraMethod, ResolvedTraining, Task
from windlass.domain.training_report import (
    BaseModelInfo,
    ChatSample,
    ClassScore,
    ConfusionMatrix,
    Curve,
    DatasetInfo,
    GateResult,
    Mistake,
    TrainingReport,
)

STEPS = 182
EDGES = tuple(range(0, 136, 8))
REVIEWS_DATA = DatasetInfo(
    name="reviews",
    version=2,
    version_id="dsv_01jd3n4t7q2v7w9k4m6p0r1s3t",
    rows={Split.TRAIN: 2_966, Split.VALIDATION: 742},
    labels={
        Split.TRAIN: {"positive": 1632, "negative": 1104, "neutral": 230},
        Split.VALIDATION: {"positive": 402, "negative": 285, "neutral": 55},
    },
    tokens={
        Split.TRAIN: Histogram(edges=EDGES, counts=(180, 690, 745, 560, 330, 196, 110, 66, 38, 22, 12, 7, 5, 3, 1, 1)),
        Split.VALIDATION: Histogram(edges=EDGES, counts=(41, 175, 190, 139, 80, 52, 30, 16, 9, 5, 3, 1, 0, 1, 0, 0)),
    },
    truncated=4,
)
MISTAKES = (
    ("It did what it was supposed to do, and then it quit.", "negative", "positive", 0.991, 4.7),
    (
        "You can't go wrong with it, unless of course you drop it in a pool, as I did.",
        "positive",
        "negative",
        0.983,
        4.1,
    ),
    ("the lens cap is attached by a string.", "neutral", "negative", 0.942, 3.6),
    ("I have yet to find a flaw.", "positive", "negative", 0.917, 2.9),
)
SCORES = {
    "negative": ClassScore(precision=0.8264, recall=0.8351, f1=0.8307, support=285),
    "neutral": ClassScore(precision=0.4545, recall=0.3636, f1=0.404, support=55),
    "positive": ClassScore(precision=0.8734, recall=0.8905, f1=0.8818, support=402),
}
ANSWERS = (
    ("What is MIDI?", "A popular standard for connecting electronic instruments.", "A standard for instruments."),
    ("What is a file?", "A named run of bytes that a system keeps for you.", None),
    ("How do I print?", "Choose the printer first; then press print.", None),
    ("Is it plugged in?", "Yes.\nIt always was.", None),
)


def _curve(steps: range, ends: tuple[float, float], pace: float, noise: float, *, seed: int) -> Curve:
    start, end = ends
    source = random.Random(seed)
    return tuple((s, end + (start - end) * math.exp(-s / pace) + source.gauss(0, noise)) for s in steps)


def _reviews_curves(f1: float) -> dict[str, Curve]:
    steps, evaluations = range(1, STEPS + 1), range(26, STEPS + 1, 26)
    return {
        "train_loss": _curve(steps, (1.12, 0.38), 38, 0.05, seed=1),
        "eval_loss": _curve(evaluations, (1.05, 0.462), 40, 0.004, seed=2),
        "eval_weighted_f1": tuple((s, f1 - 0.42 * math.exp(-s / 30)) for s in evaluations),
        "eval_accuracy": tuple((s, f1 + 0.01 - 0.36 * math.exp(-s / 30)) for s in evaluations),
        "learning_rate": tuple((s, 1e-3 * min(s / 18, (STEPS - s) / (STEPS - 18))) for s in steps),
        "tokens_per_second": _curve(steps, (900, 1530), 5, 40, seed=3),
        "grad_norm": _curve(steps, (6.4, 2.1), 30, 0.4, seed=4),
    }


def _scores(f1: float, loss: float) -> dict[str, float]:
    shares = {"accuracy": f1 + 0.0107, "precision": f1 - 0.0018, "recall": f1 + 0.0107, "weighted_f1": f1}
    return {**shares, "macro_f1": f1 - 0.137, "eval_loss": loss}


def reviews(*, passed: bool = True) -> TrainingReport:
    """Return the report data of a classification job."""
    f1 = 0.8213 if passed else 0.7214
    gate = Gate(metric="weighted_f1", operator=">=", threshold=0.78)
    return TrainingReport(
        project="retail",
        job="job_01jd3n5x8q2v7w9k4m6p0r1s3t",
        model="review-sentiment",
        task=Task.TEXT_CLASSIFICATION,
        finished_at=datetime(2026, 11, 22, 9, 41, tzinfo=UTC),
        base_model=BaseModelInfo(name="minilm-l6", licence="Apache-2.0", parameters=22_714_755, trainable=812_547),
        data=REVIEWS_DATA,
        method=LoraMethod(),
        training=ResolvedTraining(epochs=2, batch_size=32, learning_rate=1e-3, max_length=96),
        steps=STEPS,
        device="CPU, 1 thread",
        wall_seconds=118.4,
        training_seconds=96.2,
        environment={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.1", "ray": "2.60.0"},
        curves=_reviews_curves(f1),
        evaluation=_scores(f1, 0.4671),
        evaluation_before=_scores(0.2131, 1.0962),
        classes=SCORES,
        confusion=ConfusionMatrix(labels=tuple(SCORES), counts=((238, 12, 35), (18, 20, 17), (32, 12, 358))),
        mistakes=tuple(
            Mistake(text=text, expected=expected, predicted=predicted, confidence=confidence, loss=loss)
            for text, expected, predicted, confidence, loss in MISTAKES
        ),
        gates=(GateResult(gate=gate, value=f1, passed=passed),),
    )


def support() -> TrainingReport:
    """Return the report data of a chat job: nine of ten answers match exactly."""
    steps, exact = range(1, 41), (0.0, 0.1, 0.4, 0.8, 0.9, 0.9, 0.9, 0.9)
    lengths = Histogram(edges=(0, 16, 32, 48, 64, 96, 128), counts=(0, 2, 4, 2, 1, 1))
    samples = (
        ChatSample(
            prompt=prompt, expected=expected, before=f"{prompt} Many ways.", after=after or expected, exact=not after
        )
        for prompt, expected, after in ANSWERS
    )
    gate = Gate(metric="exact_answer_rate", operator=">=", threshold=0.8)
    base = BaseModelInfo(name="smollm2-135m", licence="Apache-2.0", parameters=134_515_008, trainable=4_884_480)
    changed = {
        "model": "support-bot",
        "task": Task.CHAT,
        "base_model": base,
        "data": DatasetInfo(
            name="support",
            version=3,
            version_id="dsv_01jd3n4t7q2v7w9k4m6p0r1s3t",
            rows={Split.TRAIN: 10, Split.VALIDATION: 10},
            tokens={Split.TRAIN: lengths},
        ),
        "steps": 40,
        "attempts": 2,
        "curves": {
            "train_loss": _curve(steps, (3.9, 0.04), 7, 0.005, seed=5),
            "eval_loss": _curve(range(5, 41, 5), (3.9, 0.04), 7, 0.001, seed=6),
            "eval_exact_answer_rate": tuple(zip(range(5, 41, 5), exact, strict=True)),
            "learning_rate": tuple((s, 1e-3 * (1 - s / 40)) for s in steps),
        },
        "evaluation": {"exact_answer_rate": 0.9, "perplexity": 1.041, "eval_loss": 0.0402},
        "evaluation_before": {"exact_answer_rate": 0.0, "perplexity": 61.3, "eval_loss": 4.116},
        "classes": {},
        "confusion": None,
        "mistakes": (),
        "samples": tuple(samples),
        "gates": (GateResult(gate=gate, value=0.9, passed=True),),
    }
    return reviews().model_copy(update=changed)


def validation() -> ValidationReport:
    """Return the validation report of an upload with errors and warnings."""
    findings = (
        (
            "overlap",
            "error",
            "14 rows of validation are also in train",
            "split again, or allow the overlap",
            None,
            14,
        ),
        ("rare-label", "warning", "the label 'neutral' has 8 % of the rows", "", None, 1),
        ("missing-label", "warning", "the label is missing", "clean with drop-missing or fill-missing", 218, 12),
        ("long-rows", "info", "4 rows have more than 96 tokens", "", 1204, 4),
    )
    duplicates = {Split.TRAIN: (31, 64), Split.VALIDATION: (2, 9)}
    return ValidationReport(
        findings=tuple(
            Finding(
                code=code,
                severity=severity,
                message=message,
                action=action,
                file="reviews.csv" if line else None,
                line=line,
                pointer="/label" if code == "missing-label" else None,
                count=count,
            )
            for code, severity, message, action, line, count in findings
        ),
        files=(
            FileReport(name="reviews.csv", format=FileFormat.CSV, encoding=Encoding.UTF_8, delimiter=";", rows=3720),
        ),
        splits={
            split: SplitReport(
                rows=REVIEWS_DATA.rows[split],
                labels=REVIEWS_DATA.labels[split],
                missing=12 if split is Split.TRAIN else 0,
                exact_duplicates=exact,
                near_duplicates=near,
                groups=247,
                tokens=REVIEWS_DATA.tokens[split],
                tokens_mean=24.3,
                tokens_max=131,
            )
            for split, (exact, near) in duplicates.items()
        },
        personal_data={"email": 12, "phone": 3, "iban": 0},
        overlap={"validation": 14},
        tokenizer="minilm-l6",
        steps=({"op": "deduplicate", "rows_in": 3801, "rows_out": 3708}, {"op": "split", "rows": 3708}),
    )
