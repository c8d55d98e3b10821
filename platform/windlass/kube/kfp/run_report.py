"""Reads how a run on a Kubeflow Pipelines server has ended, and why one does not start."""

from typing import Final

from windlass.domain.errors import UnavailableError
from windlass.domain.jobs import Reason
from windlass.domain.reasons import ClusterCode
from windlass.kube.kueue.pods import IMAGE_REASONS, cluster_reason, quoted
from windlass.orchestration.kfp.client import KfpClient, has_no_reply
from windlass.orchestration.kfp.runs import RunPhase, ServerRun, WorkflowNode, exception_of, problem_of
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendRun, BackendState

EXPLAIN_SECONDS: Final = 30.0
"""Time after which the manifest of a run whose step has not started is read for the cause, and then read again."""
_LOG_SECONDS: Final = 60.0
"""Time after which a log counts as gone: the server replies to a missing log as to a failure."""
_NO_CAUSE: Final = "Kubeflow Pipelines gives no cause"
_NO_RESULT: Final = "the pod of the run ended without a result"
_TERMINATED: Final = "the run was terminated in Kubeflow Pipelines"


class RunReader:
    """Reads the reports of runs; v2beta1 has neither their errors nor their logs."""

    def __init__(self, server: KfpClient) -> None:
        self._server = server
        self._log_fails_since: dict[str, float] = {}
        self._waiting: dict[str, tuple[float, Reason]] = {}

    def read_ended(self, name: str, run: ServerRun, now: float, *, killed: bool) -> BackendRun:
        """Return how an ended run has ended. ``killed``: whether the worker has killed it.

        Raises:
            UnavailableError: this cannot be read now.
        """
        if run.phase is RunPhase.SUCCEEDED:
            return BackendRun(name=name, state=BackendState.SUCCEEDED)
        nodes = self._server.nodes(run.run_id)
        result, raised = self._read_logs(run.run_id, nodes, now)
        self._log_fails_since.pop(run.run_id, None)
        if result is not None:
            state = BackendState(result.state)
            return BackendRun(name=name, state=state, message=result.message, reason=result.reason)
        if killed:
            return BackendRun(name=name, state=BackendState.LOST, message="the run was killed")
        if run.was_terminated:
            reason = cluster_reason(ClusterCode.PIPELINE_RUN_TERMINATED, _TERMINATED, "submit the job again")
            return BackendRun(name=name, state=BackendState.FAILED, message=_TERMINATED, reason=reason)
        cause = ": ".join(quoted(text) for text in (problem_of(nodes), raised) if text) or _NO_CAUSE
        return BackendRun(name=name, state=BackendState.LOST, message=f"{_NO_RESULT}: {cause}")

    def _read_logs(self, run_id: str, nodes: tuple[WorkflowNode, ...], now: float) -> tuple[RunResult | None, str]:
        """Return the result and the exception of the last try of the step that has written one to its log."""
        raised = ""
        tries = [node for node in nodes if node.is_executor]  # the server sorts nodes by their ids, which are hashes
        for node in sorted(tries, key=lambda node: node.startedAt or "", reverse=True):
            try:
                log = self._server.node_log(run_id, node.id)
            except UnavailableError as error:
                if has_no_reply(error) or now - self._log_fails_since.setdefault(run_id, now) < _LOG_SECONDS:
                    raise
                continue
            if (result := RunResult.of_log(log)) is not None:
                return result, ""
            raised = raised or exception_of(log)
        return None, raised

    def explain_waiting(self, name: str, run: ServerRun, now: float) -> Reason:
        """Return why the step of a run has not started. The text does not change while the cause is the same.

        The cause is read every ``EXPLAIN_SECONDS``.

        Raises:
            UnavailableError: it cannot be read now.
        """
        read_at, reason = self._waiting.get(name, (0.0, None))
        if reason is None or not 0 <= now - read_at < EXPLAIN_SECONDS:
            reason = self._read_cause(run)
            self._waiting[name] = now, reason
        return reason

    def forget(self, name: str) -> None:
        """Forget why the step of a run has not started."""
        self._waiting.pop(name, None)

    def _read_cause(self, run: ServerRun) -> Reason:
        problem = problem_of(self._server.nodes(run.run_id))
        message = f"the pod of the run does not start: {quoted(problem) or _NO_CAUSE}"
        if any(cause in problem for cause in IMAGE_REASONS):
            action = "correct the name of the image or the access to its registry"
            return cluster_reason(ClusterCode.IMAGE_PULL_FAILED, message, action)
        action = "see the pods of the run in its namespace, and the workflow controller of Kubeflow Pipelines"
        return cluster_reason(ClusterCode.PIPELINE_STEP_NOT_STARTED, message, action)


def explain_undocumented(state: str) -> Reason:
    """Return the reason of a run with a state that Windlass does not know."""
    message = f"Kubeflow Pipelines reports the state {quoted(state)!r}, which Windlass does not know"
    action = "see the run in Kubeflow Pipelines; cancel the job if it does not go on"
    return cluster_reason(ClusterCode.PIPELINE_STATE_UNKNOWN, message, action)
