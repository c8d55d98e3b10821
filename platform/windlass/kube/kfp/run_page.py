"""The pages of runs in the user interface of Kubeflow Pipelines."""

from windlass.kube.kfp.run_record import RunRecords


class RunPages:
    """Returns the URLs of the pages of runs. ``ui_url``: of the user interface; empty: there are no links."""

    def __init__(self, records: RunRecords, ui_url: str) -> None:
        self._records, self._ui_url = records, ui_url.rstrip("/")

    def url(self, run_name: str) -> str:
        """Return the URL of the page of a submitted run; empty if there is none.

        Raises:
            UnavailableError: the record of the run cannot be read.
        """
        record = self._records.find(run_name) if self._ui_url else None
        if record is None or not record.run_ids:
            return ""
        return f"{self._ui_url}/#/runs/details/{record.run_ids[-1]}"
