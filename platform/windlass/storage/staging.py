"""The errors of appending to a staging file, which every object store raises."""

from windlass.domain.errors import ConflictError, TooLargeError


def wrong_offset(offset: int, length: int) -> ConflictError:
    """Return the error of an append to a file of another length."""
    return ConflictError(
        f"the upload offset is {offset}, but {length} bytes were received",
        hint=f"send the rest from byte {length} with the header Upload-Offset: {length}",
        context={"received": length},
    )


def concurrent_append() -> ConflictError:
    """Return the error of an append while another one runs."""
    return ConflictError(
        "another request is writing this file", hint="wait for it, then read how many bytes were received"
    )


def longer_than_declared(limit: int) -> TooLargeError:
    """Return the error of a file that exceeds its limit."""
    return TooLargeError(f"the file is longer than its declared {limit} bytes", hint="send the file as declared")
