"""A PostgreSQL server of the tests: one per process of pytest, on a Unix socket, without any durability.

It runs the programs of Debian's package ``postgresql``. PostgreSQL refuses to run as root, so for root it runs as the
user of that package. Its databases sort text by the rules of English, as in many installations.
"""

import atexit
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from windlass.db.engines import postgres_engine
from windlass.db.migrate import migrate
from windlass.db.row_security import DatabaseRoles

VERSION = 15
"""The oldest version that Windlass supports; that of Debian 12."""
_USER = "postgres"
_TEMPLATE = "windlass_template"
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
_SECONDS = 60.0
_ROLES = DatabaseRoles()
OWNER_ROLE = _USER
API_ROLE, WORKER_ROLE = _ROLES.api, _ROLES.worker


class PostgresServer:
    """A running server. Every database is a copy of a migrated one."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="windlass-pg-"))
        self._numbers = itertools.count(1)
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(_USER)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None

    def _argv(self, program: str, *arguments: str) -> list[str]:
        return [*self._as_user, str(self._programs / program), *arguments]

    def initialize(self) -> None:
        """Create the data folder and the template, and start the server."""
        locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        argv = self._argv("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", _USER, "--no-sync", *locale)
        subprocess.run(argv, cwd="/", check=True, capture_output=True)
        self.start()
        with self._connect() as connection:
            for role in (_ROLES.api, _ROLES.worker):
                connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        self.create(_TEMPLATE, "template0")
        engine = postgres_engine(self.url(_TEMPLATE), connections=1)
        migrate(engine)
        engine.dispose()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        options.append(f"-cunix_socket_directories={self.folder}")
        with (self.folder / "log").open("ab") as log:
            argv = self._argv("postgres", "-D", str(self.folder / "data"), *options)
            self._process = subprocess.Popen(argv, cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server at once, as a crash does; connections are lost."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait()

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(host=str(self.folder), user=_USER, dbname="postgres", autocommit=True)

    def create(self, name: str, template: str) -> None:
        """Create a database as a copy of another one."""
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())

    def url(self, database: str, role: str = _USER) -> str:
        return f"postgresql+psycopg://{role}@/{database}?host={self.folder}"

    def new_database(self, *, migrated: bool = True) -> str:
        """Create a database, and return its URL for the owner of its tables, a superuser."""
        name = f"test_{next(self._numbers)}"
        self.create(name, _TEMPLATE if migrated else "template0")
        return self.url(name)


@cache
def postgres_server() -> PostgresServer:
    """Return the server of this process, which is started on first use.

    A test fails where PostgreSQL is not installed.
    """
    programs = installed_programs()
    if programs is None:
        pytest.fail(
            "this test needs the programs of PostgreSQL, which are not installed; on Debian and Ubuntu: "
            "apt-get install --no-install-recommends postgresql, or make pytest INSTALL=1. Without them, run the other "
            "tests: make pytest TESTS=\"-k 'not postgresql'\"",
            pytrace=False,
        )
    server = PostgresServer(programs)
    atexit.register(server.remove)
    server.initialize()
    return server


def installed_programs() -> Path | None:
    """Return the folder with the programs of the newest installed version, None without a supported one."""
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= VERSION]
    if folders:
        return max(folders, key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    return None if found is None else Path(found).resolve().parent


def new_engine(*, connections: int = 20, pool_timeout: float = 5.0, migrated: bool = True) -> Engine:
    """Return an engine of a new database for the owner of its tables, a superuser."""
    url = postgres_server().new_database(migrated=migrated)
    return postgres_engine(url, connections=connections, pool_timeout=pool_timeout)


def engine_of(engine: Engine, role: str, *, connections: int = 20, pool_timeout: float = 5.0) -> Engine:
    """Return an engine of the same database for another role."""
    url = postgres_server().url(str(engine.url.database), role)
    return postgres_engine(url, connections=connections, pool_timeout=pool_timeout)


def install() -> None:
    """Install the Debian package unless the programs are there; for ``make pytest INSTALL=1`` and CI."""
    if installed_programs() is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "--quiet", *arguments], check=True, env=environment)


if __name__ == "__main__":
    install()
