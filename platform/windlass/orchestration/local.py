"""Pipeline runs as processes of this machine: one child per run, found again by its folder."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.run_end import RunEnd
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import CONTEXT_NAME, CONTEXT_VARIABLE, RunContext

_MODULE = "windlass_pipelines.run"
RUN_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LAST_WORDS_BYTES = 2000


class LocalPipelineBackend:
    """Implements ``ports.PipelineBackend``: starts a command and imports no pipeline.

    A run's folder ``<root>/<run_name>`` holds ``context.json`` (0600: it has the run token), ``process.json`` (the
    claim of the name, then the process) and ``run.log``.

    Args:
        root: folder of the run folders.
        python: interpreter that has the ``pipelines`` extra.
        environment: what the run's processes need besides the plain environment, e.g. how to join Ray.
    """

    def __init__(self, root: Path, python: str, environment: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._python = python
        self._environment = dict(environment or {})

    def submit(self, context: RunContext) -> None:
        """Start the run, or adopt the one that has this name already: never a second one.

        Raises:
            UnavailableError: the process cannot be started; the name is free again.
        """
        folder = self._folder(context.run_name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with processes.exclusive(folder, wait_for_it=True):
            claim = processes.claim()
            try:
                claim.save(record_of(folder), exclusive=True)
            except FileExistsError:
                return
            try:
                context.write(folder / CONTEXT_NAME)
                argv = [self._python, "-m", _MODULE]
                extra = {**self._environment, CONTEXT_VARIABLE: str(folder.resolve() / CONTEXT_NAME)}
                environment = processes.clean_environment(extra)
                started = processes.start(argv, environment=environment, log=folder / "run.log", record=claim)
            except (OSError, UnavailableError):
                record_of(folder).unlink()
                raise
            started.save(record_of(folder))

    def readdress(self, api_url: str, run_names: Iterable[str]) -> None:
        """Tell these runs where the control plane is now; those that still work look when their calls fail."""
        for name in run_names:
            folder = self._folder(name)
            path = folder / CONTEXT_NAME
            try:
                with processes.exclusive(folder, wait_for_it=True):
                    context = RunContext.model_validate_json(path.read_bytes())
                    if context.api_url != api_url:
                        context.model_copy(update={"api_url": api_url}).write(path)
            except (OSError, ValidationError):
                continue  # never begun, or damaged: whoever looks after runs finds that out, the others need their word

    def poll(self, run_name: str) -> BackendRun:
        """Look. ``lost`` is answered when nothing of the run is left, ``unknown`` when it was never submitted here."""
        folder = self._folder(run_name)
        record = self._settled(folder)
        if record is None:
            return BackendRun(name=run_name, state=BackendState.UNKNOWN)
        if processes.alive(record):
            return BackendRun(name=run_name, state=BackendState.RUNNING)
        processes.kill(record)
        end = _end(folder)
        if end is None:
            return BackendRun(name=run_name, state=BackendState.LOST, message=_last_words(folder))
        return BackendRun(name=run_name, state=BackendState(end.state), message=end.message)

    def kill(self, run_name: str) -> None:
        """End every process of the run at once; returns when they are gone. No error when there is none."""
        record = self._settled(self._folder(run_name))
        if record is not None:
            processes.kill(record)

    def _folder(self, run_name: str) -> Path:
        if not RUN_NAME.fullmatch(run_name):
            raise InvalidError.field("/run_name", f"{run_name!r} is not a name of a run")
        return self._root / run_name

    def _settled(self, folder: Path) -> ProcessRecord | None:
        """Read the record; a claim without a pid is looked into when its starter is done with it or dead."""
        record = ProcessRecord.load(record_of(folder))
        if record is None or record.pid is not None:
            return record
        with processes.exclusive(folder, wait_for_it=True):
            record = ProcessRecord.load(record_of(folder))
            if record is None or record.pid is not None:
                return record
            found = processes.find(record)
            if found.pid is not None:
                found.save(record_of(folder))
            return found


def record_of(folder: Path) -> Path:
    """Return where a run's folder says which process is its own."""
    return folder / "process.json"


def _end(folder: Path) -> RunEnd | None:
    try:
        context = RunContext.model_validate_json((folder / CONTEXT_NAME).read_bytes())
    except FileNotFoundError:
        return None
    return RunEnd.load(context.workspace)


def _last_words(folder: Path) -> str:
    try:
        text = (folder / "run.log").read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return "the run never started"
    return f"the run's process ended without a result: {text.strip()}"
