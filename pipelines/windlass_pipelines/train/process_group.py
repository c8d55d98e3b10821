"""The process group of several workers, over the devices that they have."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from ray.train.torch.config import TorchConfig, _TorchBackend


class _DeviceTorchBackend(_TorchBackend):  # type: ignore[misc]  # Ray is untyped
    """Uses NCCL only if every worker has CUDA.

    Ray decides by the GPUs that it counts. Those are what the pool's nodes announce; torch may support none of them.
    """

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Correct the backend that Ray has chosen, then connect the workers."""
        if backend_config.backend == "nccl" and not all(worker_group.execute(torch.cuda.is_available)):
            backend_config = replace(backend_config, backend="gloo")
        super().on_start(worker_group, backend_config)


@dataclass
class DeviceTorchConfig(TorchConfig):  # type: ignore[misc]  # Ray is untyped
    """Ray's configuration of the process group."""

    @property
    def backend_cls(self) -> type[_DeviceTorchBackend]:
        """The class that connects the workers."""
        return _DeviceTorchBackend
