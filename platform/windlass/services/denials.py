"""Denied changes in the audit log. A flood of them cannot fill the disk."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from windlass.domain.audit import AuditEntry, AuditOutcome
from windlass.domain.errors import WindlassError
from windlass.services.base import ServiceDependencies
from windlass.services.transactions import repeat_on_conflict

_log = logging.getLogger(__name__)

ANONYMOUS = "anonymous"
"""The actor of requests without a valid credential."""
SUPPRESSED = "request.suppressed"
"""The action of an entry that has only the number of denied requests."""
OTHERS = "others"
"""The actor of such an entry for callers that have none of their own."""
WINDOW_SECONDS = 60.0
_SUPPRESSED_CALLERS = 16
"""Callers of one group that have an entry of their own with the number of their suppressed requests."""


@dataclass(frozen=True)
class DeniedRequest:
    """A request that was refused because of its credential."""

    actor: str
    """The user, or ``ANONYMOUS``."""
    key: str | None
    """Id of the API key; of an anonymous request the id that it named."""
    address: str
    request_id: str
    project: str | None
    """Name of the project of the path."""
    action: str
    name: str
    """Method and path."""
    code: str
    """Code of the error."""

    @property
    def caller(self) -> tuple[str, str]:
        """Whose requests are counted together: those of a user, or those of an address without a credential."""
        return (self.actor, self.address) if self.actor == ANONYMOUS else (self.actor, "")


@dataclass
class _Window:
    """The counts of one minute for one group of callers."""

    written: dict[tuple[str, str], int] = field(default_factory=dict)
    suppressed: dict[tuple[str, str], int] = field(default_factory=dict)

    def admit(self, caller: tuple[str, str], per_caller: int, all_callers: int) -> bool:
        """Return whether a request gets an entry of its own, and count it."""
        admitted = self.written.get(caller, 0) < per_caller and sum(self.written.values()) < all_callers
        if admitted:
            self.written[caller] = self.written.get(caller, 0) + 1
        else:
            self.suppress(caller, 1)
        return admitted

    def suppress(self, caller: tuple[str, str], count: int) -> None:
        """Count requests without an entry."""
        if caller not in self.suppressed and len(self.suppressed) >= _SUPPRESSED_CALLERS:
            caller = (OTHERS, "")
        self.suppressed[caller] = self.suppressed.get(caller, 0) + count


@dataclass
class DenialLog:
    """Writes an entry for each denied request, up to a number for each caller and for all callers in a minute.

    Users and anonymous requests are limited separately, so that a flood of the latter hides no user. The requests above
    the limit are counted, and written as one entry for each caller when the minute is over.
    """

    deps: ServiceDependencies
    per_caller: int
    all_callers: int
    on_suppressed: Callable[[], None] = lambda: None
    """Called when a step is due in a minute."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _users: _Window = field(default_factory=_Window, init=False)
    _anonymous: _Window = field(default_factory=_Window, init=False)
    _due: _Window = field(default_factory=_Window, init=False)
    """The suppressed requests of minutes that are over."""
    _ends_at: float = field(default=0.0, init=False)

    def admit(self, denied: DeniedRequest) -> bool:
        """Return whether a request is to be recorded, and count it; it writes nothing."""
        now = self.deps.clock.monotonic()
        with self._lock:
            if now >= self._ends_at:
                self._close_windows()
                self._ends_at = now + WINDOW_SECONDS
            admitted = self._window(denied).admit(denied.caller, self.per_caller, self.all_callers)
            wake = bool(self._due.suppressed) or not admitted
        if wake:
            self.on_suppressed()
        return admitted

    def record(self, denied: DeniedRequest) -> None:
        """Write the entry of a request in a transaction of its own. A failure is logged, and the request is counted."""
        try:
            self._write(denied, 1)
        except WindlassError as error:
            _log.error("a denied request could not be recorded", extra={"request": denied.name, "error": str(error)})
            with self._lock:
                self._window(denied).suppress(denied.caller, 1)
            self.on_suppressed()

    def step(self) -> float | None:
        """Write the numbers of the suppressed requests of minutes that are over; return when the next one is due."""
        with self._lock:
            left = self._ends_at - self.deps.clock.monotonic()
            if left <= 0:
                self._close_windows()
            waiting = self._users.suppressed or self._anonymous.suppressed
        self._write_due()
        return left if waiting else None

    def flush(self) -> None:
        """Write the numbers of the suppressed requests now."""
        with self._lock:
            self._close_windows()
        self._write_due()

    def _window(self, denied: DeniedRequest) -> _Window:
        return self._anonymous if denied.actor == ANONYMOUS else self._users

    def _close_windows(self) -> None:
        """Begin new counts; what was suppressed is due."""
        for window in (self._users, self._anonymous):
            for caller, count in window.suppressed.items():
                self._due.suppress(caller, count)
        self._users, self._anonymous = _Window(), _Window()

    def _write_due(self) -> None:
        while True:
            with self._lock:
                caller = next(iter(self._due.suppressed), None)
                if caller is None:
                    return
                count = self._due.suppressed.pop(caller)
            actor, address = caller
            entry = DeniedRequest(
                actor, None, address, request_id="", project=None, action=SUPPRESSED, name="", code=""
            )
            try:
                self._write(entry, count)
            except WindlassError:
                with self._lock:
                    self._due.suppress(caller, count)
                raise

    def _write(self, denied: DeniedRequest, count: int) -> None:
        def write() -> None:
            with self.deps.database.write() as uow:
                uow.memberships(denied.actor)  # row security lets its actor write the row
                project = None if denied.project is None else uow.projects.find({"name": denied.project})
                uow.audit.add(
                    AuditEntry(
                        id=self.deps.new_id("aud"),
                        time=self.deps.clock.now(),
                        actor=denied.actor,
                        key=denied.key,
                        address=denied.address,
                        request_id=denied.request_id,
                        project=project.id if project else None,
                        action=denied.action,
                        name=denied.name,
                        outcome=AuditOutcome.DENIED,
                        code=denied.code,
                        count=count,
                    )
                )

        repeat_on_conflict(write)
