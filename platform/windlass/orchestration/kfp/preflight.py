"""Checks the Kubeflow Pipelines server of an installation."""

from typing import Final

from windlass.domain.checks import CheckResult, failed, passed
from windlass.domain.errors import UnavailableError
from windlass.orchestration.kfp.client import KfpClient

_CHECK: Final = "pipelines"


def check_pipeline_server(server: KfpClient, *, has_token: bool) -> CheckResult:
    """Check that the server can be used, and that it is of the kind that the settings are for.

    A multi-user server needs a token, and its runs are in the namespaces of projects.
    """
    try:
        multi_user = server.is_multi_user()
        if multi_user != has_token:
            return _mismatch(multi_user=multi_user)
        if not multi_user:
            server.check_access()
    except UnavailableError as error:
        action = "check pipelines.kfp in the values of helm/windlass, and that network policies permit its port"
        return failed(_CHECK, error.message, action)
    kind = "multi-user, with a service account token" if multi_user else "single-user"
    return passed(_CHECK, f"Kubeflow Pipelines at {server.host}: {kind}")


def _mismatch(*, multi_user: bool) -> CheckResult:
    if multi_user:
        result = "Kubeflow Pipelines is a multi-user server, and no token is configured"
        return failed(_CHECK, result, "set pipelines.kfp.multiUser in the values of helm/windlass")
    result = "a token is configured for Kubeflow Pipelines, but it is a single-user server"
    return failed(_CHECK, result, "unset pipelines.kfp.multiUser in the values of helm/windlass")
