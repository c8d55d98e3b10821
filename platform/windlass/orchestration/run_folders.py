"""Folders of pipeline runs on this machine."""

from pathlib import Path

from windlass.orchestration.local import RUN_NAME, run_process


class LocalRunFolders:
    """Implements ``ports.RunFolders`` for the root folder of ``LocalPipelineBackend``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Return the names of the runs that have a folder."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.is_dir() and RUN_NAME.fullmatch(path.name))

    def delete(self, run_name: str) -> None:
        """Kill the processes of a run and delete its folder."""
        if not RUN_NAME.fullmatch(run_name):
            return
        with run_process(self._root, run_name).existing() as process:
            if process is not None:
                process.delete()
