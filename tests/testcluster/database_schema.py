"""Notices that the database of a running cluster may have tables that the migrations of this checkout do not create.

The database lives as long as the cluster, which another commit may have started. A migration that was added since then
is applied by the next installation of the chart; one that was changed or removed is not undone.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import REPOSITORY, LocalCluster

_MIGRATIONS = REPOSITORY / "platform/windlass/db/migrations/versions"


def check_and_record(cluster: LocalCluster, migrations: Path = _MIGRATIONS) -> None:
    """Compare the migrations with those that earlier calls have recorded for the running cluster, and record them.

    Raises:
        LocalClusterError: one that the database may have was changed or removed.
    """
    record = cluster.run_dir / "migrations.json"
    present = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in migrations.glob("[0-9]*.py")}
    if differing := _differing(json.loads(record.read_text("utf-8")) if record.exists() else {}, present):
        raise LocalClusterError(
            f"the database of the running cluster may have another schema: {', '.join(differing)} changed since it was "
            "started; stop it first: make cluster-down"
        )
    draft = record.with_suffix(".draft")
    draft.write_text(json.dumps(present), "utf-8")
    draft.rename(record)


def _differing(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    return sorted(name for name, digest in recorded.items() if present.get(name) != digest)
