"""Reads the tokens that a model server reports in an event stream, while the stream is relayed."""

import json
import re
from typing import Final

from windlass.domain.usage import parse_usage

_COMMENT = re.compile(rb"^: usage (\d{1,9}) (\d{1,9})$", re.MULTILINE)
"""What Windlass's model server sends with each event, so that a stream that is cut off has its tokens too."""
_CHUNK = re.compile(rb'"usage": ?(\{[^{}]{1,200}\})')
"""The last chunk of OpenAI's API. Generated text cannot look like it: its quotation marks are escaped in JSON."""
_ERROR = b'data: {"error"'
_KEPT: Final = 256
"""Bytes of the end that are read again with the next part, since an event may be divided."""


class StreamUsage:
    """The tokens of a stream so far, and whether it has an error."""

    def __init__(self) -> None:
        self.tokens = (0, 0)
        self.has_failed = False
        self._end = b""

    def read(self, part: bytes) -> None:
        """Read the next part of the stream."""
        text = self._end + part
        if (reported := _last(_COMMENT, text)) is not None:
            self.tokens = int(reported[1]), int(reported[2])
        elif (chunk := _last(_CHUNK, text)) is not None:
            self.tokens = _tokens_of(chunk[1]) or self.tokens
        self.has_failed |= _ERROR in text
        self._end = text[-_KEPT:]


def _last(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - the last one is used
        pass
    return found


def _tokens_of(usage: bytes) -> tuple[int, int] | None:
    try:
        return parse_usage({"usage": json.loads(usage)})
    except ValueError:
        return None
