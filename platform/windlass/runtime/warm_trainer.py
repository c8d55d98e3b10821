"""How a warm trainer gets its run (docs/adr/0057)."""

import time

from pydantic import ValidationError

from windlass.domain.errors import UnavailableError
from windlass.kit.backoff import Backoff
from windlass.runtime.context import RunContext, WarmTrainerContext
from windlass.runtime.http import internal_client
from windlass.runtime.json_requests import send_json
from windlass.wire.runs import WARM_TRAINERS_PATH

_REPLY_SECONDS = 60.0
"""The control plane answers within half of it, with or without a run."""
_PAUSE_SECONDS = 0.1
"""A replica that stops answers at once."""
_BACKOFF = Backoff(0.5, 10.0)


def wait_for_run(context: WarmTrainerContext) -> RunContext:
    """Wait until a run has claimed this warm trainer, and return its context; outages are waited for.

    Raises:
        FencedError: the run has ended.
        UnauthenticatedError: the control plane has another pepper now.
        UnavailableError: the control plane has another version, whose run context cannot be read.
    """
    url = f"{context.api_url}{WARM_TRAINERS_PATH}/{context.project}/{context.name}/run"
    headers = {"authorization": f"Bearer {context.token}"}
    failures = 0
    with internal_client(timeout=_REPLY_SECONDS, headers=headers) as http:
        while True:
            try:
                reply = send_json(http, "GET", url)
            except UnavailableError:
                failures += 1
                time.sleep(_BACKOFF.delay(failures))
                continue
            failures = 0
            if reply is not None:
                break
            time.sleep(_PAUSE_SECONDS)
    try:
        return RunContext.model_validate(reply)
    except ValidationError as error:
        raise UnavailableError("the response of the control plane is not a valid run context") from error
