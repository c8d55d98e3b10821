"""Text from the command line, standard input and files."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from windlass.domain.errors import InvalidError

_CONVERT = "convert it, for example: iconv -f ISO-8859-1 -t UTF-8"


class TextCommand(TyperCommand):
    """A command whose arguments are texts: the error of a text that looks like an option names ``--``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "option_name", None)
            if option is None or not hasattr(error, "possibilities"):
                raise
            raise InvalidError(
                f"no such option: {option}",
                hint=f"put -- before a text that begins with -: {ctx.command_path} NAME -- '{option} ...'",
            ) from None


def read_stdin(limit: int = -1, encoding: str = "utf-8", hint: str = _CONVERT) -> str:
    """Read standard input, at most ``limit`` bytes. ``hint`` is the way out of another encoding.

    Raises:
        InvalidError: it has another encoding.
    """
    return decode_text(sys.stdin.buffer.read(limit), "standard input", encoding, hint)


def decode_text(content: bytes, source: str, encoding: str = "utf-8", hint: str = _CONVERT) -> str:
    """Decode the content of ``source``; a byte order mark at its beginning is left out.

    Raises:
        InvalidError: it has another encoding; the message has the line and the byte.
    """
    try:
        return content.decode("utf-8-sig" if encoding.lower() in {"utf-8", "utf8"} else encoding)
    except LookupError:
        raise InvalidError(f"--encoding {encoding}: unknown encoding", hint="for example latin-1") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise InvalidError(
            f"{source} is not {encoding.upper()}: "
            f"byte 0x{content[error.start]:02x} at line {line}, byte {column} of the line",
            hint=hint,
        ) from error


def reject_file_names(texts: Iterable[str], hint: str) -> None:
    """Refuse texts that are the name of an existing file: its content was meant.

    Raises:
        InvalidError: a text is the name of a file.
    """
    for text in texts:
        if _is_file(text):
            raise InvalidError(f"{text!r} is a file, not a text", hint=hint.format(file=text))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a file name, or a NUL byte
        return False
