"""Part one: a sentence encoder learns to tell what product reviews say, and is held against the lexicon method."""

import time
from collections import Counter

from windlass.cli.demo.ground import cache, clean, ensure_base_model, fetched, serve, train, upload
from windlass.cli.demo.lexicon import lexicon_labels
from windlass.cli.demo.scores import Scores, score
from windlass.cli.demo.stage import DemoError, Stage
from windlass.cli.session import Session
from windlass.domain.datasets import IngestOptions, Split
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

_BATCH = 256
_SHOWN = 5


def run(session: Session, stage: Stage) -> None:
    """Upload, clean, train, serve, predict, compare."""
    client = session.client
    stage.title("Part one: what do customers feel? 3,708 sentences of product reviews")
    with stage.phase("Fetch the reviews and the base model"):
        files = fetched(stage, "reviews")
        ensure_base_model(stage, client, BASE_MODEL)
    with stage.phase("Upload the reviews and check them"):
        options = IngestOptions(columns={"text": "text", "label": "label", "group": "review"})
        version = upload(stage, session, DATASET, Task.TEXT_CLASSIFICATION, files, options)
    with stage.phase("Clean, and hold out a fifth: whole reviews, so that no reviewer is on both sides"):
        cleaned = clean(stage, client, version, CLEANING)
    with stage.phase(f"Fine-tune {BASE_MODEL} with LoRA, evaluate, register"):
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
        tuned = train(stage, session, spec)
    with stage.phase("Serve it"):
        serve(stage, client, ENDPOINT, tuned)
    with stage.phase("Ask it about the held-out sentences, and the lexicon method too"):
        _compare(stage, client, cleaned.ref)


def _compare(stage: Stage, client: Client, ref: str) -> None:
    rows = [(str(row["text"]), str(row["label"])) for row in client.datasets.rows(ref, split=Split.VALIDATION)]
    texts, truth = [text for text, _ in rows], [label for _, label in rows]
    began = time.perf_counter()
    tuned = _predictions(client, texts)
    tuned_ms = (time.perf_counter() - began) / len(texts) * 1000
    began = time.perf_counter()
    lexicon = lexicon_labels(texts, cache(), stage.say)
    lexicon_ms = (time.perf_counter() - began) / len(texts) * 1000
    commonest = Counter(truth).most_common(1)[0][0]
    always = score(truth, [commonest] * len(truth))
    scored = score(truth, tuned), score(truth, lexicon)
    stage.say(f"{len(texts)} held-out sentences, answered over HTTP")
    stage.table(
        ["method", "accuracy", "weighted F1", "macro F1", "ms per sentence"],
        [
            _row(f"{MODEL}, fine-tuned here", scored[0], tuned_ms),
            _row("lexicon (vaderSentiment 3.3.2)", scored[1], lexicon_ms),
            _row(f"always '{commonest}'", always, None),
        ],
        strong=0,
    )
    differing = [
        [text, label, mine, other]
        for (text, label), mine, other in zip(rows, tuned, lexicon, strict=True)
        if mine == label != other and len(text) < 100  # noqa: PLR2004 - fits a terminal's line
    ]
    stage.say("Where the two differ, for example:")
    stage.table(["sentence", "people say", MODEL, "lexicon"], differing[:_SHOWN])
    if scored[0].weighted_f1 <= scored[1].weighted_f1:
        raise DemoError("the fine-tuned model is no better than the lexicon method")


def _predictions(client: Client, texts: list[str]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(texts), _BATCH):
        answer = client.endpoints.predict(ENDPOINT, texts[start : start + _BATCH], top_k=1)
        found += [labels[0].label for labels in answer.predictions]
    return found


def _row(name: str, scores: Scores, milliseconds: float | None) -> list[str]:
    shares = [f"{share:.3f}" for share in scores]
    return [name, *shares, "-" if milliseconds is None else f"{milliseconds:.1f}"]
