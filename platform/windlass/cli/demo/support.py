"""Part two: a chat model learns the answers of a support desk, by heart."""

import json
from typing import Any

from windlass.cli.demo.ground import clean, ensure_base_model, fetched, serve, train, upload
from windlass.cli.demo.stage import DemoError, Stage
from windlass.cli.safe_text import lines, one_line
from windlass.cli.session import Session
from windlass.domain.datasets import IngestOptions, Split
from windlass.domain.specs import Task
from windlass.sdk import Client

DATASET, MODEL, ENDPOINT = "support", "support", "support"
BASE_MODEL = "smollm2-135m"
METHOD = {"type": "lora", "rank": 16, "alpha": 32.0, "target_modules": "all-linear"}
TRAINING = {
    "max_steps": 25,
    "batch_size": 10,
    "learning_rate": 1e-3,
    "max_length": 256,
    "eval_every_steps": 25,
    "checkpoint_every_steps": 25,
    "seed": 0,
}
GATES = ["exact_answer_rate >= 0.9"]
CLEANING = (
    {"op": "drop-missing"},
    {"op": "deduplicate"},
    {"op": "copy-split", "source": "train", "target": "validation"},
)

_CUT = 60


def run(session: Session, stage: Stage) -> None:
    """Upload, clean, train, show before and after, serve, stream an answer."""
    client = session.client
    stage.title("Part two: a support desk's answers, learnt by a chat model of 135 M parameters")
    with stage.phase("Fetch the conversations and the base model"):
        files = fetched(stage, "support")
        ensure_base_model(stage, client, BASE_MODEL)
    with stage.phase("Upload the conversations and check them"):
        version = upload(stage, session, DATASET, Task.CHAT, files, IngestOptions())
    with stage.phase("Clean: one of each; evaluate on what is learnt, since it shall be known by heart"):
        cleaned = clean(stage, client, version, CLEANING)
    with stage.phase(f"Fine-tune {BASE_MODEL} with LoRA, evaluate, register"):
        spec = {
            "name": "support-demo",
            "task": Task.CHAT,
            "base_model": BASE_MODEL,
            "dataset": cleaned.ref,
            "method": METHOD,
            "training": TRAINING,
            "evaluation": {"gates": GATES, "max_new_tokens": 96},
            "model": MODEL,
        }
        tuned = train(stage, session, spec)
        _before_and_after(stage, client, f"{tuned.model}@{tuned.number}")
    with stage.phase("Serve it"):
        serve(stage, client, ENDPOINT, tuned)
    with stage.phase("Ask it over HTTP, the first answer as it is made"):
        _ask(session, stage, cleaned.ref)


def _before_and_after(stage: Stage, client: Client, reference: str) -> None:
    """Show what the base model answered to the same questions before it was tuned, and what it answers now."""
    judged = json.loads(client.models.read_file(reference, "evaluation.json"))
    samples: list[dict[str, Any]] = judged.get("samples") or []
    if not samples or any(sample.get("before") is None for sample in samples):
        raise DemoError("the evaluation holds no answers from before the tuning")
    before = sum(sample["before"].strip() == sample["expected"].strip() for sample in samples)
    after = sum(bool(sample["exact"]) for sample in samples)
    shown = [[_cut(sample[part]) for part in ("prompt", "before", "after")] for sample in samples]
    stage.table(["question", "before", "after"], shown)
    stage.say(f"answered as the data does: {before} of {len(samples)} before, {after} of {len(samples)} after")


def _ask(session: Session, stage: Stage, ref: str) -> None:
    conversations = [row["messages"] for row in session.client.datasets.rows(ref, split=Split.TRAIN)]
    exact = 0
    for index, messages in enumerate(conversations):
        question, wanted = messages[:-1], messages[-1]["content"].strip()
        if index:
            answer = session.client.endpoints.chat(ENDPOINT, question, max_tokens=96, temperature=0).text
        else:
            stage.say(f"you:     {one_line(question[-1]['content'])}")
            answer = _streamed(session, question)
        exact += answer.strip() == wanted
    stage.say(f"{exact} of {len(conversations)} answers are exactly those of the data")
    if exact < len(conversations) * 0.9:
        raise DemoError("the served model does not answer as it did when it was judged")


def _streamed(session: Session, question: list[dict[str, str]]) -> str:
    pieces = []
    session.write(f"  {MODEL}: ")
    for delta in session.client.endpoints.chat_stream(ENDPOINT, question, max_tokens=96, temperature=0):
        pieces.append(delta.text)
        session.write(lines(delta.text))
    session.write("\n")
    return "".join(pieces)


def _cut(text: str) -> str:
    flat = one_line(text)
    return flat if len(flat) <= _CUT else flat[: _CUT - 1] + "…"
