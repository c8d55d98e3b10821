"""Part one: sentiment classification of product reviews, compared with the lexicon baseline."""

import time
from collections import Counter

from windlass.cli.demo.console import DemoConsole, DemoError
from windlass.cli.demo.lexicon import lexicon_labels
from windlass.cli.demo.scores import Scores, score
from windlass.cli.demo.setup import cache, clean, ensure_base_model, fetch_example_files, serve, train, upload
from windlass.cli.session import Session
from windlass.domain.datasets import Split
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.sdk import Client

DATASET, MODEL, ENDPOINT = "reviews", "sentiment", "sentiment"
BASE_MODEL = "minilm-l6"
SEED = 0
METHOD = {"type": "lora", "rank": 16, "alpha": 32.0, "target_modules": "all-linear"}
TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "max_length": 64, "seed": SEED}
GATES = ["weighted_f1 >= 0.7"]
CLEANING = (
    {"op": "drop-missing"},
    {"op": "deduplicate"},
    {"op": "split", "train": 0.8, "validation": 0.2, "by_group": True, "stratify": True, "seed": SEED},
)

_EXAMPLES = 5


def run(session: Session, console: DemoConsole) -> None:
    """Upload, clean, train, serve, predict, compare."""
    client = session.client
    console.title("Part one: sentiment of 3,708 sentences of product reviews")
    with console.phase("Download the reviews and the base model"):
        files = fetch_example_files(console, "reviews")
        ensure_base_model(console, client, BASE_MODEL)
    with console.phase("Upload and validate the reviews"):
        options = IngestOptions(columns={"text": "text", "label": "label", "group": "review"}, validation_fraction=0)
        version = upload(console, session, DATASET, Task.TEXT_CLASSIFICATION, files, options)
    with console.phase("Clean and hold out 20 %, split by review"):
        cleaned = clean(console, client, version, CLEANING)
    with console.phase(f"Fine-tune {BASE_MODEL} with LoRA, evaluate, register"):
        spec = {
            "name": "reviews-demo",
            "task": Task.TEXT_CLASSIFICATION,
            "base_model": BASE_MODEL,
            "dataset": cleaned.ref,
            "method": METHOD,
            "training": TRAINING,
            "evaluation": {"gates": GATES},
            "model": MODEL,
        }
        tuned = train(console, session, spec)
    with console.phase("Serve the model"):
        serve(console, client, ENDPOINT, tuned)
    with console.phase("Classify the held-out sentences with the model and with the lexicon"):
        _compare(console, client, cleaned.ref)


def _compare(console: DemoConsole, client: Client, ref: str) -> None:
    rows = [(str(row["text"]), str(row["label"])) for row in client.datasets.rows(ref, split=Split.VALIDATION)]
    texts, truth = [text for text, _ in rows], [label for _, label in rows]
    started = time.perf_counter()
    tuned = _predictions(client, texts)
    tuned_ms = (time.perf_counter() - started) / len(texts) * 1000
    started = time.perf_counter()
    lexicon = lexicon_labels(texts, cache(), console.message)
    lexicon_ms = (time.perf_counter() - started) / len(texts) * 1000
    most_frequent = Counter(truth).most_common(1)[0][0]
    baseline = score(truth, [most_frequent] * len(truth))
    scored = score(truth, tuned), score(truth, lexicon)
    console.message(f"{len(texts)} held-out sentences, classified over HTTP")
    console.table(
        ["method", "accuracy", "weighted F1", "macro F1", "ms per sentence"],
        [
            _row(f"{MODEL}, fine-tuned here", scored[0], tuned_ms),
            _row("lexicon (vaderSentiment 3.3.2)", scored[1], lexicon_ms),
            _row(f"always '{most_frequent}'", baseline, None),
        ],
        strong=0,
    )
    differing = [
        [text, label, tuned_label, lexicon_label]
        for (text, label), tuned_label, lexicon_label in zip(rows, tuned, lexicon, strict=True)
        if tuned_label == label != lexicon_label and len(text) < 100  # noqa: PLR2004 - fits on one line of a terminal
    ]
    console.message("Examples that only the fine-tuned model classifies correctly:")
    console.table(["sentence", "label", MODEL, "lexicon"], differing[:_EXAMPLES])
    if scored[0].weighted_f1 <= scored[1].weighted_f1:
        raise DemoError("the fine-tuned model is not better than the lexicon")


def _predictions(client: Client, texts: list[str]) -> list[str]:
    return [prediction.label for prediction in client.endpoints.predict(ENDPOINT, texts, top_k=1)]


def _row(name: str, scores: Scores, milliseconds: float | None) -> list[str]:
    values = [f"{value:.3f}" for value in scores]
    return [name, *values, "-" if milliseconds is None else f"{milliseconds:.1f}"]
