"""The folders that pipeline runs leave behind on this machine."""

import shutil
from pathlib import Path

from windlass.orchestration import processes
from windlass.orchestration.local import RUN_NAME, record_of
from windlass.orchestration.processes import ProcessRecord


class LocalRunFolders:
    """Implements ``ports.RunFolders`` below the folder in which the local back end keeps its runs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Return the runs that have a folder."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.is_dir() and RUN_NAME.fullmatch(path.name))

    def forget(self, run_name: str) -> None:
        """Remove a run's folder, and first whatever of the run still lives."""
        folder = self._root / run_name
        if not RUN_NAME.fullmatch(run_name) or not folder.is_dir():
            return
        record = ProcessRecord.load(record_of(folder))
        if record is not None:
            processes.kill(processes.find(record))
        shutil.rmtree(folder)
