"""The Ray Serve application of a RayService: ``build`` is the import path in its Serve configuration.

The replica code is that of the embedded mode. Scaling is not part of the arguments: Serve restarts the replicas of an
application whose arguments change.
"""

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from ray.serve import Application

from windlass.domain.endpoints import ServedApp
from windlass.serving.credentials import PROXY_CALLBACK, PROXY_CALLBACK_VARIABLE, proxy_headers
from windlass_pipelines.serve.deployments import application


class ServeArguments(BaseModel):
    """The arguments of the application in the Serve configuration; without secrets, since Serve logs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    app: ServedApp
    threads: int = Field(ge=1)
    """CPU threads of a replica: those of its pod."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a replica."""


def build(arguments: ServeArguments) -> Application:
    """Return the application; Ray Serve calls it in a process of the cluster.

    Raises:
        RuntimeError: Serve's HTTP proxy of this cluster does not authenticate requests.
    """
    require_authentication(os.environ)
    return application(
        arguments.app,
        hosts=(),  # the credential protects against DNS rebinding too
        threads=arguments.threads,
        # A worker pod has one logical CPU, so it runs one replica.
        actor_options={"num_cpus": 1, "num_gpus": arguments.gpus},
        scaling={"num_replicas": 1},
    )


def require_authentication(environment: Mapping[str, str]) -> None:
    """Check that Serve's HTTP proxy was started with our middleware and a credential.

    Raises:
        RuntimeError: it was not; every pod that reaches it could send requests.
    """
    if environment.get(PROXY_CALLBACK_VARIABLE) != PROXY_CALLBACK:
        raise RuntimeError(
            f"the image does not set {PROXY_CALLBACK_VARIABLE}={PROXY_CALLBACK}: use the image windlass/ray"
        )
    if not proxy_headers(environment):
        raise RuntimeError("the pod has no credential for Serve's HTTP proxy")
