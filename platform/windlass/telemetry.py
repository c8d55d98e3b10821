"""Logging of every server process: one JSON object a line on standard error, for our own records and for libraries'."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """Writes ``timestamp``, ``level``, ``logger``, ``event``, what the call gave as ``extra``, and ``exception``.

    Names that begin with an underscore are left out: libraries, Ray among them, mark every record of a process so.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; values that JSON does not know are written as text."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {name: value for name, value in given.items() if not name.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(level: int = logging.WARNING) -> None:
    """Send every record of ``level`` and above to standard error, in place of whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
