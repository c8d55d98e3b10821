"""The Argo workflows of runs that a Kubeflow Pipelines server does not show.

The server starts the workflow of a run before it stores the run. If it fails in between, the pods of the workflow run
and the API has nothing that could be terminated; if the run exists already, there is a second workflow.

Nothing is done where the worker cannot see workflows: in another cluster, or without the permission.
"""

from typing import Final

from windlass.domain.errors import UnavailableError
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeForbiddenError, NoKindMatchError
from windlass.kube.names import KFP_RUN_LABEL
from windlass.kube.objects import Kind, Ref

WORKFLOW: Final = Kind("argoproj.io/v1alpha1", "Workflow")


def delete_workflows(client: KubeClient, namespace: str, run_id: str, *, keep_first: bool = False) -> None:
    """Delete the workflows with a run id, and with them their pods. ``keep_first``: all but the oldest one.

    Raises:
        UnavailableError: the API server cannot be reached.
    """
    try:
        workflows = client.list(WORKFLOW, namespace, labels=f"{KFP_RUN_LABEL}={run_id}").items
        workflows.sort(key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))
        for workflow in workflows[1 if keep_first else 0 :]:
            client.delete(Ref.of(workflow), uid=workflow["metadata"]["uid"])
    except (KubeForbiddenError, NoKindMatchError):
        return
    except KubeApiError as error:
        raise UnavailableError(f"the workflows of run {run_id} cannot be deleted: {error.message}") from error
