"""A PostgreSQL server for the tests of one process: a cluster of its own, reached by a socket in its directory."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

_WITHIN_S = 60
_QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=60", "shared_buffers=16MB")


class Cluster:
    """A running server; each test takes databases of its own."""

    def __init__(self, home: Path, account: str) -> None:
        self._home = home
        self._account = account

    def address(self, name: str) -> str:
        """The address of a database, as a setting would give it."""
        return f"postgresql+psycopg://{self._account}@/{name}?host={self._home}"

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or a copy of one that nobody uses; returns its address."""
        name = f"t{secrets.token_hex(6)}"
        like = _name_of(template) if template else "template0"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{like}"')
        return self.address(name)

    def execute(self, statement: str, address: str | None = None) -> list[tuple]:
        """Run one statement outside of any transaction."""
        name = _name_of(address) if address else "postgres"
        with psycopg.connect(
            dbname=name, user=self._account, host=str(self._home), autocommit=True, connect_timeout=20
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def _name_of(address: str) -> str:
    return str(make_url(address).database)


def copy_database(address: str) -> str:
    """A copy of a database that nobody uses; returns its address."""
    url = make_url(address)
    return Cluster(Path(str(url.query["host"])), str(url.username)).create(address)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    homes = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(homes, key=lambda path: float(path.parent.name), default=None)


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """Run a server, as an unprivileged user when we are root; skips where none is installed or it does not start."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    account = _account()
    # Not below pytest's directory, which is closed to other users; and a socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="yj-pg-", dir=_in_memory()))
    given = {"user": account} if os.getuid() == 0 else {}
    try:
        if given:
            shutil.chown(home, account)
        data = home / "data"
        initdb = [programs / "initdb", "-D", data, "-U", account, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        done = subprocess.run(initdb, capture_output=True, text=True, cwd="/", check=False, timeout=120, **given)
        if done.returncode:
            pytest.skip(f"initdb does not work here: {done.stderr[-300:]}")
        command = [programs / "postgres", "-D", data, "-k", home, "-c", "listen_addresses="]
        command += [part for one in _QUICK for part in ("-c", one)]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **given)
        cluster = Cluster(home, account)
        try:
            _wait(cluster, server, home / "log")
            yield cluster
        finally:
            server.kill() if server.poll() is not None else server.send_signal(3)
            server.wait(60)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _in_memory() -> Path | None:
    """Where files cost no disk, with room for some hundred databases; None for the usual place."""
    place = Path("/dev/shm")
    try:
        return place if shutil.disk_usage(place).free > 2 << 30 and os.access(place, os.W_OK) else None
    except OSError:
        return None


def _account() -> str:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return pytest.skip("no unprivileged user to run PostgreSQL as")


def _wait(cluster: Cluster, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + _WITHIN_S
    while True:
        try:
            cluster.execute("SELECT 1")
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                pytest.skip(f"PostgreSQL does not start here: {log.read_text()[-300:]}")
            time.sleep(0.05)
        else:
            return
