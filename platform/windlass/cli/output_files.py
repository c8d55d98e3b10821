"""Checks of the files that commands write."""

from pathlib import Path

from windlass.domain.errors import InvalidError


def require_folder(out: Path) -> None:
    """Check the folder of ``--out``, before anything is done.

    Raises:
        InvalidError: it does not exist.
    """
    folder = out.absolute().parent
    if not folder.is_dir():
        raise InvalidError(f"--out {out}: there is no folder {folder}", hint="create the folder first")
