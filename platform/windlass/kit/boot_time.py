"""The clock of every lease and timeout: it never jumps, and it also runs while the machine is suspended."""

import time


def boot_seconds() -> float:
    """Return the seconds since boot. ``time.monotonic`` stands still in suspend; the wall clock can be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
