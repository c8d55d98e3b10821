"""How the files of an upload are read: the options of the user, and what was used for each file."""

from encodings.aliases import aliases
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints

from windlass.domain.jobs import DomainModel
from windlass.domain.specs import Spec
from windlass.domain.text import EventCode, TextConstraints


class FileFormat(StrEnum):
    """The format of an uploaded file; ``json`` is an array of objects."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


class RowFormat(StrEnum):
    """The layout of an example in a row of the file."""

    TEXT_LABEL = "text-label"
    MESSAGES = "messages"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt-completion"
    ALPACA = "alpaca"


def _codec(name: str) -> str:
    """Return Python's name of a codec; ``codecs.lookup`` would import modules by, and keep forever, names of users."""
    normal = name.lower().replace("-", "_").replace(" ", "_")
    return aliases.get(normal, normal)


class Encoding(StrEnum):
    """A character encoding. Other names of the same encodings, such as ``latin-1`` or ``cp1252``, are accepted."""

    UTF_8 = "utf-8"
    UTF_16 = "utf-16"
    UTF_16LE = "utf-16le"
    UTF_16BE = "utf-16be"
    ISO_8859_1 = "iso-8859-1"
    ISO_8859_2 = "iso-8859-2"
    ISO_8859_15 = "iso-8859-15"
    WINDOWS_1250 = "windows-1250"
    WINDOWS_1251 = "windows-1251"
    WINDOWS_1252 = "windows-1252"
    WINDOWS_1253 = "windows-1253"
    WINDOWS_1254 = "windows-1254"
    WINDOWS_1257 = "windows-1257"
    KOI8_R = "koi8-r"
    MACINTOSH = "macintosh"
    SHIFT_JIS = "shift_jis"
    EUC_JP = "euc-jp"
    EUC_KR = "euc-kr"
    BIG5 = "big5"
    GB18030 = "gb18030"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Find an encoding by another name that Python knows for it."""
        codec = _codec(str(value)).removesuffix("_sig")
        return next((member for member in cls if _codec(member.value) == codec), None)


class Quoting(StrEnum):
    """Whether ``"`` quotes the fields of a delimited file."""

    MINIMAL = "minimal"
    """A field that begins with a quote ends with a quote; inside, a quote is doubled (RFC 4180)."""
    NONE = "none"
    """A quote is an ordinary character."""


Column = Annotated[str, TextConstraints(min_length=1, max_length=200)]
MAX_LINE_BYTES = 4 << 20
"""Maximum length of a line, of an object in a JSON array, and of a value in Parquet."""
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""Names of the common delimiters, for the command line and reports."""
DELIMITER_PATTERN = r"^(\t|[^\w\s\"\x00-\x1f\x7f-\x9f])$"
Delimiter = Annotated[str, StringConstraints(pattern=DELIMITER_PATTERN)]


class IngestOptions(Spec):
    """How to read the files. ``columns`` maps a field (``text``, ``label``, ``group``) to a column of the file."""

    file_format: FileFormat | None = Field(
        default=None, description="default: by the file name's extension (.gz allowed)"
    )
    encoding: Encoding | None = Field(
        default=None, description="of CSV, TSV and JSON files; default: by the byte order mark, else detected"
    )
    delimiter: Delimiter | None = Field(
        default=None, description="one character between the fields; default: a tab in TSV, detected in CSV"
    )
    quoting: Quoting | None = Field(
        default=None,
        description='`minimal`: fields may be quoted with `"`; `none`: `"` is an ordinary character; '
        "default: `minimal`, detected where the delimiter is a tab",
    )
    header: bool = Field(
        default=True,
        description="whether the first row of CSV and TSV names the columns; else they are numbered from 1",
    )
    row_format: RowFormat | None = Field(default=None, description="default: by the task and the columns")
    columns: dict[EventCode, Column] = Field(default_factory=dict, max_length=16)
    """Column of the file by field: text, label, group."""
    allow_overlap: bool = Field(default=False, description="accept rows that are in both train and a held-out split")
    skip_unsupported: bool = Field(
        default=False,
        description="leave out rows with tool calls or content other than text; otherwise they reject the file",
    )
    validation_fraction: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="fraction of the training rows that are held out when no file is for validation; 0: none",
    )


class FileReport(DomainModel):
    """How one file was read."""

    name: str
    """Name of the file."""
    format: FileFormat
    """Format of the content."""
    encoding: Encoding | None = Field(default=None, description="null: the format has no choice of encodings")
    delimiter: str | None = Field(default=None, description="null: the format has no delimiter")
    quoting: Quoting | None = Field(default=None, description="null: the format has no quoting")
    rows: int = 0
    """Rows that were read, with invalid ones."""

    @property
    def properties(self) -> str:
        """Format, encoding, delimiter and quoting, for people."""
        parts: list[str] = [self.format, *filter(None, [self.encoding])]
        if self.delimiter is not None:
            parts.append(f"delimiter {DELIMITER_NAMES.get(self.delimiter, self.delimiter)}")
        if self.quoting is Quoting.NONE:
            parts.append("quotes are ordinary characters")
        return ", ".join(parts)
