"""Ray Train's trainer without the processes that a training admitted by Windlass has no use for."""

from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

_UNUSED = (
    # A detached process that outlives a killed controller. It asks Ray's state API, which a head without dashboard
    # lacks, for 10 s at a time, and the end of a training waits for its answer. The placement group goes with the
    # driver anyway.
    PlacementGroupCleanerCallback,
    # An actor that shares out Ray datasets; the rows come from the run's own files.
    DatasetsCallback,
)


class AdmittedScaling(FixedScalingPolicy):  # type: ignore[misc]  # Ray is untyped
    """A fixed number of workers whose resources are there: Windlass or Kueue has admitted them.

    Ray Train would start an actor to ask Ray's own autoscaler for them, and wait until it runs.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ask nobody."""

    def _maybe_send_resource_request(self) -> None:
        """Ask nobody."""


def trainer_of(workers: int, loop: Callable[..., Any], **arguments: Any) -> Any:
    """Return a trainer of ``workers`` processes.

    One worker needs no process group, and so no torch in driver and controller.
    """
    base = DataParallelTrainer
    if workers > 1:
        from ray.train.torch import TorchTrainer  # noqa: PLC0415 - loads torch

        base = TorchTrainer

    class Trainer(base):  # type: ignore[misc, valid-type]  # Ray is untyped
        def _create_default_callbacks(self) -> list[Any]:
            return [one for one in super()._create_default_callbacks() if not isinstance(one, _UNUSED)]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            arguments["scaling_policy"] = AdmittedScaling(self.scaling_config)
            return super()._initialize_and_run_controller(**arguments)

    return Trainer(loop, **arguments)
