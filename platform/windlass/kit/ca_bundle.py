"""The certificate authorities that an installation trusts beside those of the system.

An environment variable names the file in every process. The control plane writes its content to the Secret of each pod
that it starts, because a pod cannot mount ConfigMaps of another namespace (ADR 0051).
"""

import os
from pathlib import Path
from typing import Final

CA_BUNDLE_VARIABLE: Final = "WINDLASS_CA_BUNDLE"
"""Environment variable with the path of a PEM file. In pods the file may be missing: then there is no private CA."""
CA_BUNDLE_FILE: Final = "ca.crt"
"""Name of the file in the Secrets of pods."""


def ca_bundle() -> Path | None:
    """Return the file with the authorities; None if there is none."""
    path = os.environ.get(CA_BUNDLE_VARIABLE)
    return Path(path) if path and Path(path).is_file() else None


def ca_bundle_files() -> dict[str, str]:
    """Return what the Secret of a pod needs, so that the pod trusts the same authorities."""
    path = ca_bundle()
    return {} if path is None else {CA_BUNDLE_FILE: path.read_text("ascii")}
