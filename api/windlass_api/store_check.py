"""Compares the object store with the database: ``python -m windlass_api.store_check [--home FOLDER] [--hashes]``.

It checks the database of ``WINDLASS_DATABASE_URL`` and the bucket of ``WINDLASS_S3_BUCKET``, else those of the data
directory. In a cluster, run it in a pod with the environment of the API. It writes nothing, and may run beside the
control plane.

Exit status: 0 without problems, 1 with problems, 2 if the check cannot run.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from windlass.database_settings import DatabaseSettings
from windlass.db.engines import postgres_engine, sqlite_engine
from windlass.db.migrate import require_current
from windlass.db.session import SqlDatabase
from windlass.domain.errors import InvalidError, WindlassError
from windlass.kit.numbers import count, size
from windlass.ports import ObjectStore
from windlass.services.consistency import StoreCheck, StoreReport
from windlass.services.data_keys import ProjectKeys
from windlass.settings import S3Settings
from windlass.storage.local import LocalObjectStore
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket
from windlass_api.process import SystemClock
from windlass_api.storage_ports import project_keys

_FOUND, _NOT_RUN = 1, 2


def check(home: Path | None, *, hashes: bool, progress: bool = False) -> StoreReport:
    """Check the data directory, or what the environment names.

    Raises:
        InvalidError: no database is configured or there is none, or its schema is not that of this version.
    """
    database = open_existing_database(home)
    try:
        check_store = StoreCheck(database, _store(home, project_keys(database, SystemClock())))
        return check_store.run(hashes=hashes, progress=_print_progress if progress else lambda *_: None)
    finally:
        database.close()


def open_existing_database(home: Path | None) -> SqlDatabase:
    """Open the database that the environment names, or that of the data directory. Raises as ``check``."""
    settings = DatabaseSettings()
    if settings.url is not None:
        engine = postgres_engine(settings.url.get_secret_value(), connections=1)
    elif home is None:
        raise InvalidError("WINDLASS_DATABASE_URL is not set", hint="or give the data directory: --home FOLDER")
    else:
        path = home / "windlass.db"
        if not path.is_file():
            raise InvalidError(f"there is no database {path}", hint="give the data directory of `windlass up`")
        engine = sqlite_engine(path)
    require_current(engine)
    return SqlDatabase(engine, SystemClock())


def _store(home: Path | None, data_keys: ProjectKeys) -> ObjectStore:
    settings = S3Settings()
    if settings.bucket:
        return S3ObjectStore(S3Bucket.connect(settings), data_keys=data_keys)
    if home is None:
        raise InvalidError("WINDLASS_S3_BUCKET is not set", hint="or give the data directory: --home FOLDER")
    return LocalObjectStore(home / "store", 0)


def _print_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {count(total, 'folder')}")
        sys.stderr.flush()


def lines(report: StoreReport) -> list[str]:
    """Return the report as text, the problems first."""
    found = [f"{each.kind}: {each.key}: {each.problem} ({each.owner})" for each in report.problems]
    how = "existence, length and SHA-256" if report.hashed else "existence and length"
    folders, files = count(report.folders, "folder"), count(report.files, "file")
    summary = f"{folders} with {files}, {size(report.bytes)}: {how} compared; {count(len(found), 'problem')}"
    return [*found, summary]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report and return the exit status."""
    parser = argparse.ArgumentParser(prog="windlass_api.store_check", description=__doc__)
    parser.add_argument("--home", type=Path, help="data directory of a server on this machine")
    parser.add_argument("--hashes", action="store_true", help="read every file and compare its SHA-256")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        report = check(options.home, hashes=options.hashes, progress=not options.json)
    except (ValidationError, WindlassError, OSError) as error:
        hint = f"; {error.hint}" if isinstance(error, WindlassError) and error.hint else ""
        print(f"windlass_api.store_check: {error}{hint}", file=sys.stderr)  # noqa: T201 - the output of a command
        return _NOT_RUN
    text = json.dumps(report.model_dump(mode="json")) if options.json else "\n".join(lines(report))
    print(text)  # noqa: T201 - the output of a command
    return _FOUND if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
