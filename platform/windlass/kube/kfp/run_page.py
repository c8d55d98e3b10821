"""The pages of runs in the user interface of Kubeflow Pipelines."""

from windlass.kube.kfp.run_record import RunRecords, find_run
from windlass.orchestration.kfp.client import KfpClient


class RunPages:
    """Returns the URLs of the pages of runs. ``ui_url``: of the user interface; empty: there are no links."""

    def __init__(self, server: KfpClient, records: RunRecords, ui_url: str) -> None:
        self._server, self._records, self._ui_url = server, records, ui_url.rstrip("/")

    def url(self, run_name: str) -> str:
        """Return the URL of the page of a submitted run; empty if there is none.

        Raises:
            UnavailableError: the record of the run cannot be read, or the server cannot be reached.
        """
        record = self._records.find(run_name) if self._ui_url else None
        run = None if record is None else find_run(self._server, record)
        return "" if run is None else f"{self._ui_url}/#/runs/details/{run.run_id}"
