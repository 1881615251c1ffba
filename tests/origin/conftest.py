"""Servers that an origin may stand on, started once for the tests of a process and only when one asks."""

from collections.abc import Iterator

import pytest
from support.object_store import bucket_of, object_store
from support.postgres import Cluster, postgres_cluster
from support.rados_gateway import rados_gateway
from support.releases import AddressIn

from origin.database.engine import sqlite_url
from origin.storage.s3_client import S3Options


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    with postgres_cluster() as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def address_in(request: pytest.FixtureRequest) -> AddressIn:
    """Gives the address of a new database for an origin in some directory, of either kind."""
    if request.param == "sqlite":
        return lambda root: sqlite_url(root / "origin.sqlite")
    running: Cluster = request.getfixturevalue("cluster")
    return lambda _: running.create()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Options]:
    """A server that speaks S3."""
    with object_store(tmp_path_factory.mktemp("s3")) as options:
        yield options


@pytest.fixture
def bucket(store: S3Options) -> S3Options:
    """A bucket of the test's own."""
    return bucket_of(store)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Options]:
    """A server that speaks S3 and is used in earnest."""
    with rados_gateway(tmp_path_factory.mktemp("ceph")) as options:
        yield options
