"""Tests that share one installation, in fixtures of the scope ``package``, for which pytest needs this file."""
