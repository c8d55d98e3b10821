"""Logging of server processes: one JSON object per line on standard error, including records of libraries."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_OWN_PACKAGES = ("windlass", "windlass_api", "windlass_operators")


class JsonLines(logging.Formatter):
    """Formats ``timestamp``, ``level``, ``logger``, ``event``, the fields of ``extra``, and ``exception``.

    Fields that begin with an underscore are omitted: libraries such as Ray add them to every record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; values that JSON does not support are converted to strings."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {name: value for name, value in extra.items() if not name.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging() -> None:
    """Send records of level INFO and above to standard error; replaces existing handlers.

    INFO is the level of starts, stops and changes of state. Libraries log at INFO per request; theirs begin at WARNING.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in _OWN_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
