"""Text in files that spreadsheets open."""

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: with an apostrophe before it. Numbers are none."""
    if not text.startswith(_FORMULA_PREFIXES):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
