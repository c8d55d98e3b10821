"""Generates the blocking client from the asynchronous one: ``python -m docs.generate_sync_sdk``.

It does not import the SDK. ruff formats the generated modules. ``make docs`` runs it, and a test compares the result.
"""

import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).parents[1] / "platform" / "windlass" / "sdk"
SOURCE, TARGET = SDK / "_async", SDK / "_sync"
WRITTEN_BY_HAND = frozenset({"__init__.py", "io.py", "pages.py"})
"""Modules with a counterpart in ``_sync`` that is not generated."""

_HEADER = "# Generated from {source} by docs/generate_sync_sdk.py; do not edit.\n"
_REPLACEMENTS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", r"\1"),
    (r"\bAsyncPaginator\b", "CursorPage"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\ba(close|read|iter_bytes)\b", r"\1"),
    (r"windlass\.sdk\._async\b", "windlass.sdk._sync"),
    (r", for asyncio\b", ""),
)


def generated_modules() -> dict[Path, str]:
    """Return the text of each generated module by its path."""
    return {
        TARGET / source.name: _formatted(_HEADER.format(source=f"_async/{source.name}") + blocking(source.read_text()))
        for source in sorted(SOURCE.glob("*.py"))
        if source.name not in WRITTEN_BY_HAND
    }


def blocking(text: str) -> str:
    """Return the blocking form of an asynchronous module."""
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text


def _formatted(text: str) -> str:
    """Sort the imports, remove unused ones, and format."""
    name = str(TARGET / "generated.py")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--quiet", "--fix-only", "--select", "I001,F401"], ["format"]):
        text = subprocess.run(
            [*ruff, *command, "--stdin-filename", name, "-"], input=text, capture_output=True, text=True, check=True
        ).stdout
    return text


def main() -> None:
    """Write the generated modules."""
    for path, text in generated_modules().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
