"""Runs the checks of a cluster in another process: the CLI imports neither the Kubernetes client nor the database."""

import json
import subprocess
import sys
from typing import Final

from windlass.cli import local_server
from windlass.domain.checks import CheckResult
from windlass.domain.errors import UnavailableError

NAMESPACE: Final = "windlass-system"
_SECONDS: Final = 420.0
"""More than the checks take: the pods of the network probe have two minutes each to start."""


def run(namespace: str, probe_image: str) -> list[CheckResult]:
    """Return the results for the cluster that KUBECONFIG selects, or whose pod this is.

    Raises:
        UnavailableError: required packages are not installed, or the checks do not end.
    """
    if missing := local_server.missing_extras(("api",)):
        raise UnavailableError(
            f"the packages of the checks are not installed: {', '.join(missing['api'])}",
            hint="pip install 'windlass[api]', or `helm test` checks inside of the cluster",
        )
    argv = [
        sys.executable,
        "-P",
        "-m",
        "windlass_api.preflight",
        "--namespace",
        namespace,
        "--probe-image",
        probe_image,
    ]
    try:
        ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("the checks do not end", hint="check the connection to the API server") from error
    if ended.returncode:
        raise UnavailableError("the checks failed", hint="their error is above")
    return [CheckResult.model_validate(json.loads(line)) for line in ended.stdout.splitlines()]
