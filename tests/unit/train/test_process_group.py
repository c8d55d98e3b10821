"""Which backend connects the workers, by the devices that torch finds on each of them."""

from dataclasses import dataclass
from typing import Any

import pytest
from ray.train.torch.config import TorchConfig, _TorchBackend

from windlass_pipelines.train.process_group import DeviceTorchConfig


@dataclass
class Workers:
    """Answers what each worker finds."""

    cuda: list[bool]

    def execute(self, function: Any) -> list[bool]:
        assert function.__name__ == "is_available"
        return self.cuda


@pytest.mark.parametrize(
    ("chosen", "cuda", "used"),
    [
        ("nccl", [True, True], "nccl"),
        ("nccl", [True, False], "gloo"),
        ("nccl", [False, False], "gloo"),
        ("gloo", [True, True], "gloo"),
    ],
)
def test_nccl_is_used_only_if_torch_finds_cuda_on_every_worker(
    monkeypatch: pytest.MonkeyPatch, chosen: str, cuda: list[bool], used: str
) -> None:
    connected: list[str | None] = []
    monkeypatch.setattr(_TorchBackend, "on_start", lambda *arguments: connected.append(arguments[-1].backend))
    config: TorchConfig = DeviceTorchConfig(backend=chosen)
    config.backend_cls().on_start(Workers(cuda), config)
    assert connected == [used]
