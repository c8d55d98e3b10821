"""``python -m tests.bench.api.served``: the API as a process, with a run that reports and a queue that nothing empties.

SQLite: an embedded server. PostgreSQL: a replica of the API in a cluster, in the database role that row security
restricts. The worker does not run: what is measured is requests.
"""

import argparse
import json
import time
from pathlib import Path

from tests.factories import postgres_server
from tests.factories.databases import using
from tests.factories.http_servers import serve
from tests.factories.two_tenants import api_of
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.session import SqlDatabase
from windlass.settings import LimitSettings

_UNLIMITED = 10**9
_LIMITS = LimitSettings(
    request_rate_per_key=0,
    request_rate_per_project=0,
    max_active_jobs=_UNLIMITED,
    max_datasets=_UNLIMITED,
    max_models=_UNLIMITED,
)
PROJECT = "bench"
JOBS = 200
"""Jobs before the first measurement, so that a list has more than a page."""
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on"}


def _embedded(home: Path) -> ControlPlaneHarness:
    harness = ControlPlaneHarness(home, limits=_LIMITS)
    harness.create_project(PROJECT)
    return harness


def _cluster(home: Path) -> ControlPlaneHarness:
    view = MemoryView()
    harness = ControlPlaneHarness(home, limits=_LIMITS, cluster=view, trains=True, serves=True)
    view.set_state([make_project(PROJECT, 1, make_quota(1, "local"))], pools=[make_pool("local")])
    harness.cluster_sync.step()
    return harness


def _fill(harness: ControlPlaneHarness) -> dict[str, str]:
    """Add what the requests need; return it."""
    harness.create_base_model()
    harness.create_dataset(PROJECT)
    resources = {"pool": "local"}
    job = harness.submit(PROJECT, key="first", resources=resources)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    for number in range(JOBS):
        harness.submit(PROJECT, key=str(number), resources=resources)
    return {
        "key": str(harness.client.headers["Authorization"]),
        "run": run.run,
        "token": str(run.client.headers["Authorization"]),
        "job": str(job["id"]),
    }


def main() -> None:
    """Serve until the process is killed; print what the requests need once it is ready."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.api.served", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("database", choices=("sqlite", "postgresql"))
    options = parser.parse_args()
    options.home.mkdir(parents=True)
    postgres_server.SETTINGS.update(DURABLE)
    with using(options.database):
        is_embedded = options.database == "sqlite"
        harness = _embedded(options.home) if is_embedded else _cluster(options.home)
        filled = _fill(harness)
        app = harness.app
        if not is_embedded:
            app = api_of(
                harness, SqlDatabase(postgres_server.engine_of(harness.engine, postgres_server.API_ROLE), harness.clock)
            )
        with serve(app) as port:
            print(json.dumps({"port": port, **filled}), flush=True)  # noqa: T201 - read by the parent
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
