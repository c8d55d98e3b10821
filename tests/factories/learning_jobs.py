"""Trainings of which tests require a result, with the limits that tests assert and ``make margins`` measures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.factories.training_runs import job_spec

from windlass.domain.specs import JobSpec


@dataclass(frozen=True)
class LearningJob:
    """A training and the limits of its metrics."""

    name: str
    task: str
    training: Mapping[str, Any]
    method: Mapping[str, Any] = field(default_factory=lambda: {"type": "full"})
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)

    def spec(self, seed: int = 0) -> JobSpec:
        return job_spec(self.task, training={**self.training, "seed": seed}, method=self.method)

    def margins(self, evaluation: Mapping[str, Any]) -> dict[str, float]:
        """Return by how much each metric is better than its limit; it is negative when it is worse."""
        above = {name: evaluation[name] - limit for name, limit in self.at_least.items()}
        return above | {name: limit - evaluation[name] for name, limit in self.at_most.items()}


_CLASSIFY = {"epochs": 40, "batch_size": 8, "precision": "fp32"}
CLASSIFIERS = (
    LearningJob(
        "classifier, full",
        "text-classification",
        {**_CLASSIFY, "learning_rate": 1e-2},
        at_least={"accuracy": 1.0},
        at_most={"eval_loss": 0.1},
    ),
    LearningJob(
        "classifier, LoRA",
        "text-classification",
        {**_CLASSIFY, "learning_rate": 3e-3},
        {"type": "lora", "rank": 8},
        at_least={"accuracy": 1.0},
        at_most={"eval_loss": 0.3},
    ),
)
_CHAT = {"batch_size": 4, "learning_rate": 1e-2, "eval_every_steps": 100}
_CHAT_LIMITS: dict[str, Any] = {"at_least": {"exact_answer_rate": 1.0}, "at_most": {"perplexity": 1.2}}
CHATS = (
    LearningJob("chat", "chat", {**_CHAT, "epochs": 50, "packing": False}, **_CHAT_LIMITS),
    LearningJob("chat, packed", "chat", {**_CHAT, "epochs": 100, "packing": True}, **_CHAT_LIMITS),
)
"""Packing takes fewer steps per epoch."""
