"""``python -m windlass_api.uninstall``: ends what an installation runs in its cluster, before Helm deletes it."""

import logging
import sys

from windlass.cluster_settings import ClusterSettings
from windlass.domain.errors import InvalidError
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.errors import KubeForbiddenError
from windlass.kube.workloads import ControlPlaneWorkloads
from windlass.pipeline_settings import PipelineSettings
from windlass.services.secrets import SecretHasher
from windlass.settings import SecretSettings
from windlass.telemetry import set_up_logging
from windlass_api import process
from windlass_api.pipeline_ports import kfp_run_folders

_log = logging.getLogger(__name__)


def _run() -> None:
    set_up_logging()
    settings, secret = ClusterSettings(), SecretSettings()
    if secret.pepper is None:
        raise InvalidError("the id of the control plane is not known", hint="set WINDLASS_SECRETS_PEPPER")
    try:
        client = KubeClient(load_configuration(settings.kubeconfig))
    except KubeForbiddenError as error:
        raise InvalidError(error.message) from error
    hasher = SecretHasher(secret.pepper.get_secret_value().encode())
    workloads = ControlPlaneWorkloads(
        client,
        settings.system_namespace,
        hasher.control_plane_id(),
        kfp_run_folders(PipelineSettings(), client, settings.system_namespace),
    )
    ended = workloads.end()
    _log.info("the workloads have ended", extra=ended._asdict())


def main() -> int:
    """End the workloads; the exit code is not 0 if something may still run."""
    return process.exit_code(_run)


if __name__ == "__main__":
    sys.exit(main())
