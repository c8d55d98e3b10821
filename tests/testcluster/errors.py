"""Errors and exit codes of the commands."""

EXIT_UNSUPPORTED = 77
"""Exit code on a machine that cannot run the cluster; test harnesses treat 77 as a skip."""
EXIT_FAILED = 1
EXIT_DOWN = 3
"""Exit code of ``status`` when a component or all of the cluster is down."""


class LocalClusterError(Exception):
    """A command failed."""


class UnsupportedHostError(LocalClusterError):
    """This machine lacks a prerequisite."""
