"""Text classification: an encoder with a head over the label names of the training rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from windlass_pipelines.report.facts import ClassScore, ConfusionMatrix, Mistake
from windlass_pipelines.train.batches import Example, by_length
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.models import load_classifier, load_tokenizer
from windlass_pipelines.train.outcome import TrainingError
from windlass_pipelines.train.rows import Row
from windlass_pipelines.train.tasks import Judgement, TensorBatch, to_device
from windlass_pipelines.train.tasks.scores import class_scores, log_softmax, metrics_of

_EVALUATION_ROWS = 64
_MISTAKES = 50


class TextClassification:
    """Rows are ``{"text", "label"}``."""

    def __init__(self, base_model: Path, labels: tuple[str, ...], max_length: int) -> None:
        self.labels = labels
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._tokenizer = load_tokenizer(base_model)
        self._max_length = max_length

    @classmethod
    def from_rows(cls, base_model: Path, rows: Sequence[Row], max_length: int) -> "TextClassification":
        """Take the labels of the training rows, in alphabetical order.

        Raises:
            TrainingError: ``too_few_labels``.
        """
        labels = tuple(sorted({str(row["label"]) for row in rows}))
        if len(labels) < 2:  # noqa: PLR2004 - one label needs no classifier
            raise TrainingError("too_few_labels", f"the train split has {len(labels)} label; classification needs two")
        return cls(base_model, labels, max_length)

    def load(self, folder: Path) -> nn.Module:
        """Return the encoder with a head for the labels."""
        return load_classifier(folder, self.labels)

    def encode(self, rows: Sequence[Row]) -> tuple[list[Example], int]:
        """Tokenise the texts.

        Raises:
            TrainingError: ``unknown_label``: a held-out row has a label that no training row has.
        """
        unknown = sorted({str(row["label"]) for row in rows} - self._numbers.keys())
        if unknown:
            raise TrainingError("unknown_label", f"label {unknown[0]!r} is in a held-out split and not in train")
        if not rows:
            return [], 0
        encoded = self._tokenizer([str(row["text"]) for row in rows], truncation=False, verbose=False)["input_ids"]
        cut = sum(len(ids) > self._max_length for ids in encoded)
        if cut:
            # cut by the tokenizer and not by slicing: the end marks stay
            texts = [str(row["text"]) for row in rows]
            encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length)["input_ids"]
        targets = [self._numbers[str(row["label"])] for row in rows]
        return [
            Example(np.asarray(ids, dtype=np.int32), np.asarray([target], dtype=np.int64))
            for ids, target in zip(encoded, targets, strict=True)
        ], cut

    def arrange(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples unchanged."""
        return list(examples)

    def collate(self, examples: Sequence[Example]) -> TensorBatch:
        """Pad right. ``input_ids``, ``attention_mask``: (rows, tokens); ``labels``: (rows,)."""
        longest = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), longest), self._tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = example.ids
            mask[row, : len(example.ids)] = 1
        labels = np.concatenate([example.targets for example in examples])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
        }

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the summed cross-entropy."""
        return functional.cross_entropy(_logits(model, batch).float(), batch["labels"], reduction="sum")

    def evaluate(self, model: nn.Module, examples: Sequence[Example], ranks: Ranks) -> dict[str, float]:
        """Return loss, accuracy and F1."""
        scores = metrics_of(*self._predict(model, examples, ranks))
        kept = ("accuracy", "weighted_f1", "macro_f1")
        return {"loss": scores["eval_loss"]} | {name: scores[name] for name in kept}

    def before(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks
    ) -> Judgement | None:
        """Return None: a head that was never trained guesses."""
        del model, rows, examples, ranks
        return None

    def judge(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks, before: Judgement | None
    ) -> Judgement:
        """Return the scores, those of each class, the confusion matrix and the worst mistakes."""
        del before
        logits, truth = self._predict(model, examples, ranks)
        scores = class_scores(truth, logits.argmax(axis=1), len(self.labels))
        return Judgement(
            metrics=metrics_of(logits, truth),
            classes={
                label: ClassScore(
                    precision=float(scores.precision[i]),
                    recall=float(scores.recall[i]),
                    f1=float(scores.f1[i]),
                    support=int(scores.support[i]),
                )
                for i, label in enumerate(self.labels)
            },
            confusion=ConfusionMatrix(labels=self.labels, counts=tuple(map(tuple, scores.confusion.tolist()))),
            mistakes=self._mistakes(rows, logits, truth),
        )

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights, configuration and tokenizer."""
        target: Any = model
        target.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _predict(
        self, model: nn.Module, examples: Sequence[Example], ranks: Ranks
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return logits (rows, labels) and true labels (rows,), in row order."""
        logits = torch.zeros(len(examples), len(self.labels))
        with torch.inference_mode():
            for rows in by_length([len(example.ids) for example in examples], _EVALUATION_ROWS)[
                ranks.rank :: ranks.size
            ]:
                batch = to_device(self.collate([examples[i] for i in rows]), ranks.device)
                logits[torch.from_numpy(rows.copy())] = _logits(model, batch).float().cpu()
        truth = np.concatenate([example.targets for example in examples])
        return ranks.total(logits).double().numpy(), truth

    def _mistakes(
        self, rows: Sequence[Row], logits: NDArray[np.float64], truth: NDArray[np.int64]
    ) -> tuple[Mistake, ...]:
        likely = log_softmax(logits)
        guess = logits.argmax(1)
        wrong = np.flatnonzero(guess != truth)
        losses = -likely[wrong, truth[wrong]]
        return tuple(
            Mistake(
                text=str(rows[i]["text"]),
                expected=self.labels[truth[i]],
                predicted=self.labels[guess[i]],
                confidence=float(np.exp(likely[i, guess[i]])),
                loss=float(-likely[i, truth[i]]),
            )
            for i in wrong[np.argsort(-losses, kind="stable")][:_MISTAKES]
        )


def _logits(model: nn.Module, batch: TensorBatch) -> Tensor:
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits
