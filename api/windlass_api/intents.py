"""Carries out the outbox: intents that committed together with the fact that wants them."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

from windlass.domain.errors import WindlassError
from windlass.domain.records import Intent
from windlass.services.backing import Backing
from windlass_api.metrics import INTENTS

_log = logging.getLogger(__name__)

_PARALLEL = 4
_RETRY_SECONDS = (1, 2, 5, 15, 60)


def _no_words(intent: Intent, problem: str) -> bool:
    del intent, problem
    return False


class Intents:
    """Gives due intents to idle hands: one that takes long, as the start of Ray does, keeps no other waiting.

    ``do`` carries one out, and may be called again for the same: a crash between any two lines loses nothing.
    ``explain`` says to whom it matters why one fails, and tells whether it is given up. ``after`` is called after each.
    """

    def __init__(
        self,
        backing: Backing,
        lease: timedelta,
        do: Callable[[Intent], None],
        *,
        after: Callable[[], None],
        explain: Callable[[Intent, str], bool] = _no_words,
    ) -> None:
        self._backing, self._lease, self._do, self._after, self._explain = backing, lease, do, after, explain
        self._hands = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="intent")
        self.busy: list[Future[None]] = []

    def turn(self) -> bool:
        """Hand out what is due."""
        self.busy = [future for future in self.busy if not future.done()]
        for intent in self._claim(_PARALLEL - len(self.busy)):
            future = self._hands.submit(self._carry_out, intent)
            future.add_done_callback(lambda _: self._after())
            self.busy.append(future)
        return False

    def close(self) -> None:
        """Let the hands finish what they hold."""
        self._hands.shutdown(cancel_futures=True)

    def _claim(self, limit: int) -> list[Intent]:
        with self._backing.database.read() as work:
            if limit < 1 or not work.outbox.due():
                return []
        with self._backing.database.write() as work:
            return work.outbox.claim(limit, self._lease)

    def _carry_out(self, intent: Intent) -> None:
        try:
            self._do(intent)
        except Exception as error:  # noqa: BLE001 - a poisoned intent must not stop the others; it is tried again later
            pause = _RETRY_SECONDS[min(intent.tries, len(_RETRY_SECONDS)) - 1]
            known = isinstance(error, WindlassError)
            facts = {"kind": intent.kind, "subject": intent.subject, "error": str(error)}
            _log.error("intent failed", extra=facts, exc_info=None if known else error)
            INTENTS.labels(intent.kind, "failed").inc()
            given_up = self._explain(intent, str(error))
            with self._backing.database.write() as work:
                if given_up:
                    work.outbox.done(intent)
                else:
                    work.outbox.retry(intent, timedelta(seconds=pause))
            return
        with self._backing.database.write() as work:
            work.outbox.done(intent)
        INTENTS.labels(intent.kind, "done").inc()
