"""``python -m tests.bench.quality``: models trained with default settings, against a plain loop and simple models.

For each data set and seed: the product with default settings, the product with the loop's settings, a plain loop with
Transformers and peft, and TF-IDF with logistic regression, all on the same rows. The score is the weighted F1.
"""

import argparse
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import platformdirs
from tests.bench.quality.corpora import CORPORA, load, write_csv
from tests.bench.quality.plain_loop import Settings, weighted_f1
from tests.e2e.servers import ServerProcess, free_port

from windlass.domain.datasets import Split
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.examples import fetch
from windlass.sdk import Client

_REPORT = Path("build/bench-quality.md")
_BASE_MODEL = "minilm-l6"
_COLUMNS = ("product, defaults", "product, same settings", "plain loop", "TF-IDF and logistic regression")
_WAIT_SECONDS = 3600.0
Pairs = list[tuple[str, str]]


class _Product:
    """Trains through the API of a server."""

    def __init__(self, client: Client, folder: Path, cache: Path) -> None:
        self._client, self._folder = client, folder
        example = fetch(_BASE_MODEL, folder / _BASE_MODEL, cache, _print)
        self.base_model = example.files[0].parent
        client.base_models.add(_BASE_MODEL, str(self.base_model), licence=example.licence, source=example.source)
        client.base_models.wait(_BASE_MODEL, timeout=_WAIT_SECONDS)

    def upload(self, name: str, path: Path) -> str:
        """Upload a CSV file and return the reference of the version."""
        options = IngestOptions(columns={"text": "text", "label": "label", "group": "group"})
        created = self._client.datasets.upload(name, [path], task=Task.TEXT_CLASSIFICATION, options=options)
        return self._client.datasets.wait(created.ref, timeout=_WAIT_SECONDS).ref

    def split(self, ref: str, seed: int) -> str:
        """Deduplicate, hold out a fifth of the groups, and return the reference of the new version."""
        steps: list[Mapping[str, object]] = [
            {"op": "deduplicate"},
            {"op": "split", "train": 0.8, "validation": 0.2, "by_group": True, "stratify": True, "seed": seed},
        ]
        created = self._client.datasets.clean(ref, steps)
        return self._client.datasets.wait(created.ref, timeout=_WAIT_SECONDS).ref

    def rows(self, ref: str, split: Split) -> Pairs:
        """Return texts and labels of a split."""
        return [(str(row["text"]), str(row["label"])) for row in self._client.datasets.rows(ref, split=split)]

    def train(self, ref: str, training: Mapping[str, object], method: Mapping[str, object]) -> tuple[float, float]:
        """Run a job; return the weighted F1 of the model, and that of the TF-IDF baseline in its evaluation."""
        spec = {
            "task": Task.TEXT_CLASSIFICATION,
            "base_model": _BASE_MODEL,
            "dataset": ref,
            "model": ref.partition("@")[0],
            "method": method,
            "training": training,
            "resources": {"gpus_per_worker": self._client.pools.get("local").capacity},
        }
        job = self._client.jobs.create(spec)
        ended = self._client.jobs.wait(job.id, timeout=_WAIT_SECONDS)
        assert ended.state == "succeeded", ended.reason
        evaluation = self._client.models.version(f"{ended.model}@{ended.model_version}").evaluation
        return float(evaluation["weighted_f1"]), float(evaluation["weighted_f1"]) - float(
            evaluation["margin_over_baseline"]
        )


def _measure(product: _Product, ref: str, settings: Settings, seed: int) -> tuple[float, ...]:
    split = product.split(ref, seed)
    own = {"seed": seed}
    same = own | {name: value for name, value in asdict(settings).items() if name not in {"rank", "alpha"}}
    lora = {"type": "lora", "rank": settings.rank, "alpha": settings.alpha, "target_modules": "all-linear"}
    by_default, baseline = product.train(split, own, {"type": "lora"})
    with_same, _ = product.train(split, same, lora)
    train, held_out = (product.rows(split, part) for part in (Split.TRAIN, Split.VALIDATION))
    plain = weighted_f1(product.base_model, train, held_out, settings, seed)
    return by_default, with_same, plain, baseline


def _line(name: str, rows: int, seeds: Sequence[tuple[float, ...]]) -> str:
    cells = []
    for scores in zip(*seeds, strict=True):
        spread = f" ± {(max(scores) - min(scores)) / 2:.3f}" if len(scores) > 1 else ""
        cells.append(f"{statistics.mean(scores):.3f}{spread}")
    return f"| {name} | {rows:,} | {' | '.join(cells)} |"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=list(CORPORA), default=["reviews", "editorials", "tweets"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=None, help="only the first rows of each data set")
    options = parser.parse_args()
    cache, settings = platformdirs.user_cache_path("windlass") / "examples", Settings()
    lines = [f"| data | rows | {' | '.join(_COLUMNS)} |", f"|---|---|{'---|' * len(_COLUMNS)}"]
    with tempfile.TemporaryDirectory(prefix="windlass-bench-") as name:
        folder = Path(name)
        server = ServerProcess(folder / "home", free_port())
        try:
            product = _Product(server.start(), folder, cache)
            for corpus in options.data:
                rows = load(corpus, cache, options.rows)
                write_csv(rows, folder / f"{corpus}.csv")
                ref = product.upload(corpus, folder / f"{corpus}.csv")
                scores = [_measure(product, ref, settings, seed) for seed in range(options.seeds)]
                lines.append(_line(corpus, len(rows), scores))
                _print(lines[-1])
        finally:
            server.stop()
    head = f"Weighted F1, mean and half the range of {options.seeds} seeds, {platform.machine()}; loop: {settings}"
    text = "\n".join([head, "", *lines, ""])
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(text)
    _print(text)


if __name__ == "__main__":
    main()
