"""Lists which master keys wrap the data keys of projects: ``python -m windlass_api.data_keys [--home FOLDER]``.

It reads the database of ``WINDLASS_DATABASE_URL``, else that of the data directory. In a cluster, run it in a pod with
the environment of the worker. It writes nothing: the worker wraps the keys again when the current master key changes.

Exit status: 0 if the current master key wraps all data keys, 1 if another one is needed, 2 if it cannot run.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.errors import WindlassError
from windlass.kit.numbers import count
from windlass.ports import WorkerDatabase
from windlass_api.process import SystemClock
from windlass_api.storage_ports import project_keys
from windlass_api.store_check import open_existing_database

_NEEDED, _NOT_RUN = 1, 2


def wrapped_by(database: WorkerDatabase) -> Counter[str]:
    """Return the number of data keys by the master key that wraps them; ``""``: projects that are not encrypted."""
    with database.read() as uow:
        keys = uow.all_projects().data_keys.all()
        projects = len(uow.projects.all())
    numbers = Counter(key.master_key for key in keys)
    numbers[""] = projects - len(keys)
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers and return the exit status."""
    parser = argparse.ArgumentParser(prog="windlass_api.data_keys", description=__doc__)
    parser.add_argument("--home", type=Path, help="data directory of a server on this machine")
    options = parser.parse_args(arguments)
    try:
        database = open_existing_database(options.home)
        try:
            numbers, masters = wrapped_by(database), project_keys(database, SystemClock()).masters
        finally:
            database.close()
    except (ValidationError, WindlassError, OSError) as error:
        print(f"windlass_api.data_keys: {error}", file=sys.stderr)  # noqa: T201 - the output of a command
        return _NOT_RUN
    current = masters.current if masters is not None else ""
    unencrypted = numbers.pop("")
    for name, number in sorted(numbers.items()):
        role = "the current one" if name == current else "still needed"
        print(f"master key {name} ({role}): {count(number, 'data key')}")  # noqa: T201 - the output of a command
    print(f"not encrypted: {count(unencrypted, 'project')}")  # noqa: T201 - the output of a command
    return _NEEDED if numbers.keys() - {current} else 0


if __name__ == "__main__":
    sys.exit(main())
