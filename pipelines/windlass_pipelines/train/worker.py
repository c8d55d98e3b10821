"""What every Ray Train worker runs: sets up its rank, runs the attempt, and says how it ended."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import ray.train
import torch
from torch import nn

from windlass.domain.reports import ClaimReply, Outcome
from windlass.runtime.context import RunContext
from windlass.runtime.reporter import Reporter
from windlass_pipelines.train.attempt import AttemptRun, threads_for
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.core import Silence, Voice
from windlass_pipelines.train.logs import captured
from windlass_pipelines.train.outcome import Conclusion, FencedOutError, StoppedError, TrainingError

_log = logging.getLogger(__name__)
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def train(config: dict[str, str]) -> dict[str, Any] | None:
    """Run one attempt. ``config`` has the path of the run context and the claim; neither is a secret.

    Returns:
        On rank 0 a dumped ``Conclusion``, else None.
    """
    context = RunContext.model_validate_json(Path(config["context"]).read_bytes())
    claim = ClaimReply.model_validate_json(config["claim"])
    torch.set_num_threads(threads_for(context.spec.resources.gpus_per_worker))
    place = ray.train.get_context()
    ranks = Ranks(place.get_world_rank(), place.get_world_size(), _device(place.get_local_rank()))
    with ExitStack() as stack:
        voice: Voice = Silence()
        if ranks.first:
            reporter = Reporter(context, claim.attempt, "rank0")
            stack.callback(reporter.close)
            stack.enter_context(captured(reporter.log))
            voice = cast("Voice", reporter)
        conclusion = conclude(AttemptRun(context, claim, ranks, voice, _wrapper(ranks)))
    return conclusion.model_dump(mode="json") if ranks.first else None


def conclude(attempt: AttemptRun) -> Conclusion:
    """Run the attempt and turn its expected ends into a conclusion; what is not expected goes through."""
    try:
        return attempt.run()
    except FencedOutError:
        return Conclusion(outcome=Outcome.STOPPED, code="fenced", fenced=True)
    except StoppedError as error:
        _log.info("stopped: %s", error.code)
        return Conclusion(outcome=Outcome.STOPPED, code=error.code, trained_seconds=attempt.trained_seconds)
    except TrainingError as error:
        _log.error("%s: %s", error.code, error.message)
        return _failed(attempt, error.code, error.message)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY):
            _log.exception("out of memory")
            return _failed(attempt, "out_of_memory", f"a smaller batch_size or max_length may fit: {str(error)[:500]}")
        _log.exception("training failed")
        raise
    except Exception:
        _log.exception("training failed")
        raise


def _failed(attempt: AttemptRun, code: str, message: str) -> Conclusion:
    seconds = attempt.trained_seconds
    return Conclusion(outcome=Outcome.FAILED, code=code, message=message[:4000], trained_seconds=seconds)


def _device(local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def _wrapper(ranks: Ranks) -> Callable[[nn.Module], nn.Module]:
    if ranks.size == 1:
        return lambda module: module
    # imported here: a single worker needs none of it, and it costs start-up time
    from ray.train.torch import prepare_model  # noqa: PLC0415 - imported when used: it is slow to load

    return lambda module: cast("nn.Module", prepare_model(module, parallel_strategy="ddp"))
