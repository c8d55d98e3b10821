"""The two ways in which a command of the bed ends badly."""

UNABLE = 77
"""Exit code of a machine that cannot run a bed, the one by which test harnesses know a skip."""
FAILED = 1
DOWN = 3
"""Exit code of ``status`` when the bed is not, or not wholly, up."""


class BedError(Exception):
    """Something did not work; the message says what, and where to read more."""


class UnableError(BedError):
    """This machine lacks something that the bed needs."""
