"""Part two: a chat model is fine-tuned to reproduce the answers of a support desk."""

from windlass.cli.demo.console import DemoConsole, DemoError
from windlass.cli.demo.setup import clean, ensure_base_model, fetch_example_files, serve, train, upload
from windlass.cli.safe_text import lines, one_line
from windlass.cli.session import Session
from windlass.domain.datasets import Split
from windlass.domain.ingest import IngestOptions
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

_MAX_CELL = 60


def run(session: Session, console: DemoConsole) -> None:
    """Upload, clean, train, show before and after, serve, stream an answer."""
    client = session.client
    console.title("Part two: a chat model of 135 M parameters for a support desk")
    with console.phase("Download the conversations and the base model"):
        files = fetch_example_files(console, "support")
        ensure_base_model(console, client, BASE_MODEL)
    with console.phase("Upload and validate the conversations"):
        version = upload(console, session, DATASET, Task.CHAT, files, IngestOptions(validation_fraction=0))
    with console.phase("Clean; evaluate on the training rows, because the model has to reproduce them"):
        cleaned = clean(console, client, version, CLEANING)
    with console.phase(f"Fine-tune {BASE_MODEL} with LoRA, evaluate, register"):
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
        tuned = train(console, session, spec)
        _before_and_after(console, client, f"{tuned.model}@{tuned.number}")
    with console.phase("Serve the model"):
        serve(console, client, ENDPOINT, tuned)
    with console.phase("Chat over HTTP; the first answer is streamed"):
        _ask(session, console, cleaned.ref)


def _before_and_after(console: DemoConsole, client: Client, reference: str) -> None:
    """Print the answers of the base model and of the fine-tuned model to the same questions."""
    samples = client.models.report(reference).samples
    if not samples or any(sample.before is None for sample in samples):
        raise DemoError("the evaluation has no answers of the base model")
    before = sum((sample.before or "").strip() == sample.expected.strip() for sample in samples)
    after = sum(sample.exact for sample in samples)
    shown = [[_shorten(text) for text in (sample.prompt, sample.before or "", sample.after)] for sample in samples]
    console.table(["question", "before", "after"], shown)
    console.message(f"exact answers: {before} of {len(samples)} before, {after} of {len(samples)} after")


def _ask(session: Session, console: DemoConsole, ref: str) -> None:
    conversations = [row["messages"] for row in session.client.datasets.rows(ref, split=Split.TRAIN)]
    exact = 0
    for index, messages in enumerate(conversations):
        question, expected = messages[:-1], messages[-1]["content"].strip()
        if index:
            answer = session.client.endpoints.chat(ENDPOINT, question, max_tokens=96, temperature=0).text
        else:
            console.message(f"you:     {one_line(question[-1]['content'])}")
            answer = _streamed(session, question)
        exact += answer.strip() == expected
    console.message(f"{exact} of {len(conversations)} answers match the dataset exactly")
    if exact < len(conversations) * 0.9:
        raise DemoError("the served model gives other answers than in its evaluation")


def _streamed(session: Session, question: list[dict[str, str]]) -> str:
    pieces = []
    session.write(f"  {MODEL}: ")
    for delta in session.client.endpoints.chat_stream(ENDPOINT, question, max_tokens=96, temperature=0):
        pieces.append(delta.text)
        session.write(lines(delta.text))
    session.write("\n")
    return "".join(pieces)


def _shorten(text: str) -> str:
    flat = one_line(text)
    return flat if len(flat) <= _MAX_CELL else flat[: _MAX_CELL - 1] + "…"
