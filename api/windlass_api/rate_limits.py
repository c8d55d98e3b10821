"""Rate limits of requests: per API key, per process of the platform, and per project (ADR 0063).

The limits of concurrent requests (``concurrency``) share the server among callers; these bound what one may use.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import Scope

from windlass.domain.errors import RateLimitedError
from windlass.kit.token_bucket import BucketState, TokenBuckets
from windlass.settings import LimitSettings
from windlass_api.metrics import RATE_LIMITED

RequestKind = Literal["management", "prediction"]
Partition = Literal["key", "project"]

_PREDICTION = re.compile(r"^/v1/projects/[^/]+/endpoints/[^/]+(:predict|/chat/completions)$")
_SCOPE_KEY = "windlass.rate_limits"


@dataclass(frozen=True)
class _Policy:
    """A rate limit and its name in the headers of responses."""

    name: str
    buckets: TokenBuckets
    window: int


@dataclass
class AppliedLimits:
    """The limits that apply to one request, and its state in them."""

    kind: RequestKind
    states: dict[_Policy, BucketState] = field(default_factory=dict)
    project: str = ""
    """The project that the request was counted for."""


class RateLimits:
    """Counts the requests of this process. Predictions and other requests have separate limits."""

    def __init__(self, limits: LimitSettings) -> None:
        rates: dict[tuple[RequestKind, Partition], float] = {
            ("management", "key"): limits.request_rate_per_key,
            ("management", "project"): limits.request_rate_per_project,
            ("prediction", "key"): limits.prediction_rate_per_key,
            ("prediction", "project"): limits.prediction_rate_per_project,
        }
        seconds = limits.rate_burst_seconds
        self._policies = {
            (kind, partition): _Policy(f"{kind}-per-{partition}", TokenBuckets(rate, seconds), math.ceil(seconds))
            for (kind, partition), rate in rates.items()
            if rate > 0
        }

    def count_for_caller(self, scope: Scope, caller: str) -> None:
        """Count an authenticated request for its caller.

        Raises:
            RateLimitedError: the caller exceeds its rate.
        """
        kind: RequestKind = "prediction" if _PREDICTION.match(scope["path"]) else "management"
        applied = scope[_SCOPE_KEY] = AppliedLimits(kind)
        self._count(applied, "key", caller, caller)

    def count_for_project(self, scope: Scope, project: str, name: str) -> None:
        """Count a request for its project, once. Call it when the caller is a member: others may not use it up.

        Args:
            scope: the scope of the request.
            project: the id of the project.
            name: its name, for the error.

        Raises:
            RateLimitedError: the requests of the project exceed its rate.
        """
        applied = scope.get(_SCOPE_KEY)
        if isinstance(applied, AppliedLimits) and applied.project != project:
            applied.project = project
            self._count(applied, "project", project, f"project {name}")

    def _count(self, applied: AppliedLimits, partition: Partition, key: str, name: str) -> None:
        policy = self._policies.get((applied.kind, partition))
        if policy is None:
            return
        state = applied.states[policy] = policy.buckets.take(key)
        if not state.allowed:
            RATE_LIMITED.labels(applied.kind, partition).inc()
            rate = f"{state.capacity} requests at once, then {state.capacity / policy.window:g} a second"
            raise RateLimitedError(
                f"{name} has sent too many {applied.kind} requests: the limit is {rate}",
                hint="repeat the request after the time of Retry-After",
                context={"policy": policy.name, "limit": state.capacity, "window_seconds": policy.window},
                retry_after=math.ceil(state.retry_seconds),
            )


def rate_limit_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the RateLimit headers of a response: those of the limits that are used up by more than half.

    Responses below that, which are nearly all, are not made longer for a limit that does not concern the client.
    """
    applied = scope.get(_SCOPE_KEY)
    if not isinstance(applied, AppliedLimits):
        return []
    close = [(policy, state) for policy, state in applied.states.items() if 2 * state.remaining < state.capacity]
    if not close:
        return []
    policies = ", ".join(f'"{policy.name}";q={state.capacity};w={policy.window}' for policy, state in close)
    states = ", ".join(f'"{policy.name}";r={state.remaining};t={_reset(state)}' for policy, state in close)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]


def _reset(state: BucketState) -> int:
    """Return the seconds until the whole quota is available; for a refused request those of Retry-After."""
    return math.ceil(state.full_seconds if state.allowed else state.retry_seconds)
