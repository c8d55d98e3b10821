"""What the control plane remembers about its runs on a Kubeflow Pipelines server, and the Secrets of their pods.

The record of a run is a ConfigMap without data in the namespace of the control plane: the server has no place for the
notes of a client, and the database belongs to the services. The context of the run is a Secret in the namespace where
the server starts pods, and is deleted when the run has ended. The worker cannot read it again.
"""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from windlass.domain.errors import UnavailableError
from windlass.kit.ca_bundle import ca_bundle_files
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeConflictError
from windlass.kube.jobs.ray_job import run_labels
from windlass.kube.kinds import CONFIG_MAP, SECRET
from windlass.kube.names import (
    KFP_NAMESPACE_ANNOTATION,
    KFP_REQUESTED_ANNOTATION,
    KFP_TRIES_ANNOTATION,
    KILLED_ANNOTATION,
    PROJECT_LABEL,
    RUN_LABEL,
    TASK_LABEL,
)
from windlass.kube.objects import Kind, Object, Ref
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.runs import ServerRun
from windlass.runtime.context import CONTEXT_NAME, RunContext

_MANAGER: Final = "windlass-worker"
KFP_RUN_TASK: Final = "kfp-run"
"""Value of ``TASK_LABEL`` on the records and the pods of runs."""
_RUN_IDS: Final = uuid.UUID("6d0f8b2e-5a53-4a86-9a34-3f4f6d7c1f0a")


@dataclass(frozen=True)
class RunRecord:
    """The record of one run."""

    name: str
    project: str
    namespace: str
    """Of its pods."""
    tries: int = 0
    """How many run ids have been used: a creation whose reply was lost is repeated with another one."""
    requested_at: float | None = None
    """When its creation was requested last, in seconds since 1970; None if no request may have succeeded."""
    killed: bool = False
    version: str = ""
    """Of the ConfigMap that was read."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The ids of the runs that may exist on the server; the first one that exists is the run."""
        return tuple(run_id_of(self.name, number) for number in range(1, self.tries + 1))

    @classmethod
    def of(cls, config_map: Object) -> Self:
        """Return the record that a ConfigMap holds."""
        metadata = config_map["metadata"]
        labels, notes = metadata["labels"], metadata.get("annotations") or {}
        requested = notes.get(KFP_REQUESTED_ANNOTATION)
        return cls(
            name=labels[RUN_LABEL],
            project=labels[PROJECT_LABEL],
            namespace=notes[KFP_NAMESPACE_ANNOTATION],
            tries=int(notes.get(KFP_TRIES_ANNOTATION, "0")),
            requested_at=None if requested is None else float(requested),
            killed=KILLED_ANNOTATION in notes,
            version=metadata["resourceVersion"],
        )


def run_id_of(name: str, number: int = 1) -> str:
    """Return the id on the server of the ``number``-th try to create a run."""
    return str(uuid.uuid5(_RUN_IDS, f"{name}/{number}"))


def find_run(server: KfpClient, record: RunRecord) -> ServerRun | None:
    """Return the run with the first id that exists.

    Raises:
        UnavailableError: the server cannot be reached.
    """
    runs = (server.run(run_id) for run_id in record.run_ids)
    return next((run for run in runs if run is not None), None)


class RunRecords:
    """Creates, reads and deletes the records and the Secrets of runs.

    Every method raises UnavailableError when the API server cannot be reached.
    """

    def __init__(self, client: KubeClient, system_namespace: str, namespace_of_runs: Callable[[str], str]) -> None:
        self._client, self._system, self._namespace_of_runs = client, system_namespace, namespace_of_runs

    def find(self, name: str) -> RunRecord | None:
        """Return a record, None if the run was never submitted or is deleted."""
        try:
            found = self._client.find(self._ref(name))
        except KubeApiError as error:
            raise _unavailable(name, error) from error
        return None if found is None else RunRecord.of(found)

    def names(self) -> list[str]:
        """Return the names of the runs that have a record."""
        try:
            records = self._client.list(CONFIG_MAP, self._system, labels=f"{TASK_LABEL}={KFP_RUN_TASK}").items
        except KubeApiError as error:
            raise UnavailableError(f"the records of runs cannot be listed: {error.message}") from error
        return sorted(record["metadata"]["labels"][RUN_LABEL] for record in records)

    def create(self, context: RunContext) -> RunRecord:
        """Create the record of a run; return it as it is if it exists."""
        name, namespace = context.identity.name, self._namespace_of_runs(context.identity.project)
        record = _manifest(CONFIG_MAP, f"{name}-record", self._system, run_labels(context) | {TASK_LABEL: KFP_RUN_TASK})
        record["metadata"]["annotations"] = {KFP_NAMESPACE_ANNOTATION: namespace}
        try:
            return RunRecord.of(self._create_record(record))
        except KubeApiError as error:
            raise _unavailable(name, error) from error

    def create_context(self, record: RunRecord, context: RunContext) -> None:
        """Create the Secret with the context of a run, before the run."""
        secret = _manifest(SECRET, record.name, record.namespace, run_labels(context))
        files = {CONTEXT_NAME: context.model_dump_json(), **ca_bundle_files()}
        secret |= {"type": "Opaque", "immutable": True, "stringData": files}
        try:
            with suppress(KubeConflictError):  # of an earlier call: a run has the same token each time
                self._client.create(secret, manager=_MANAGER)
        except KubeApiError as error:
            raise _unavailable(record.name, error) from error

    def _create_record(self, manifest: Object) -> Object:
        try:
            return self._client.create(manifest, manager=_MANAGER)
        except KubeConflictError:
            return self._client.get(Ref.of(manifest))

    def note_request(self, record: RunRecord, tries: int, requested_at: float | None) -> RunRecord:
        """Store how many ids have been used, and when the last creation was requested; return the new record.

        Raises:
            UnavailableError: also if the record was changed since it was read: two workers use no id twice.
        """
        at = None if requested_at is None else repr(requested_at)
        notes = {KFP_TRIES_ANNOTATION: str(tries), KFP_REQUESTED_ANNOTATION: at}
        return self._annotate(record.name, {"annotations": notes, "resourceVersion": record.version})

    def note_kill(self, name: str) -> None:
        """Store that the worker kills the run."""
        self._annotate(name, {"annotations": {KILLED_ANNOTATION: "true"}})

    def _annotate(self, name: str, metadata: Mapping[str, Any]) -> RunRecord:
        try:
            return RunRecord.of(self._client.patch(self._ref(name), {"metadata": dict(metadata)}, manager=_MANAGER))
        except KubeApiError as error:
            raise _unavailable(name, error) from error

    def delete_context(self, record: RunRecord) -> None:
        """Delete the Secret with the context of an ended run."""
        self._delete(record.name, Ref(SECRET, record.name, record.namespace))

    def delete(self, record: RunRecord) -> None:
        """Delete the Secret of a run, then its record."""
        self.delete_context(record)
        self._delete(record.name, self._ref(record.name))

    def _delete(self, name: str, ref: Ref) -> None:
        try:
            self._client.delete(ref)
        except KubeApiError as error:
            raise _unavailable(name, error) from error

    def _ref(self, name: str) -> Ref:
        return Ref(CONFIG_MAP, f"{name}-record", self._system)


def _manifest(kind: Kind, name: str, namespace: str, labels: Mapping[str, str]) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _unavailable(name: str, error: KubeApiError) -> UnavailableError:
    return UnavailableError(f"the record of run {name} cannot be read or changed: {error.message}")
