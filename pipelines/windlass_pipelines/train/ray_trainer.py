"""Ray Train's trainer without the processes that an already admitted training does not need."""

from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

_DISABLED_CALLBACKS = (
    # A detached process that outlives a killed controller. It polls Ray's state API, which a head without dashboard
    # does not serve, for 10 s at a time, and the end of a training waits for it. Ray removes the placement group with
    # the driver anyway.
    PlacementGroupCleanerCallback,
    # An actor that shards Ray datasets; the workers read the run's files instead.
    DatasetsCallback,
)


class StaticScalingPolicy(FixedScalingPolicy):  # type: ignore[misc]  # Ray is untyped
    """A fixed number of workers whose resources Windlass or Kueue has already admitted.

    Ray Train would start an actor that requests them from Ray's autoscaler, and wait until it runs.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Request no resources."""

    def _maybe_send_resource_request(self) -> None:
        """Request no resources."""


def build_trainer(world_size: int, train_loop: Callable[..., Any], **arguments: Any) -> Any:
    """Return a Ray Train trainer with ``world_size`` processes.

    A single process needs no process group, so driver and controller do not load torch.
    """
    base = DataParallelTrainer
    if world_size > 1:
        from ray.train.torch import TorchTrainer  # noqa: PLC0415 - loads torch

        from windlass_pipelines.train.process_group import DeviceTorchConfig  # noqa: PLC0415 - loads torch

        base = TorchTrainer
        arguments["torch_config"] = DeviceTorchConfig()

    class RayTrainer(base):  # type: ignore[misc, valid-type]  # Ray is untyped
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, _DISABLED_CALLBACKS)]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            arguments["scaling_policy"] = StaticScalingPolicy(self.scaling_config)
            return super()._initialize_and_run_controller(**arguments)

    return RayTrainer(train_loop, **arguments)
