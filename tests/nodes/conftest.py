"""Deployments of two nodes: with the state in Redis, and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, running_postgresql

from .deployment import Deployment, Outside, Servers


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with Outside() as made:
        yield made


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"), persistent=True)
    try:
        with running_postgresql() as postgresql:
            yield Servers(postgresql, redis)
    finally:
        redis.stop()


@pytest.fixture(scope="session")
def redis_portal(servers: Servers, outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two nodes with the state in Redis."""
    with portal("redis", servers, outside, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="session")
def postgresql_portal(
    servers: Servers, outside: Outside, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Two nodes with the state in PostgreSQL."""
    with portal("postgresql", servers, outside, tmp_path_factory) as made:
        yield made


def portal(kind: str, servers: Servers, outside: Outside, folders: pytest.TempPathFactory) -> Deployment:
    return Deployment(folders.mktemp(kind), servers.stores(kind), outside, tables=outside.tables(), preload_app=True)


@pytest.fixture(params=["redis", "postgresql"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Each of the two in turn."""
    found: Deployment = request.getfixturevalue(f"{request.param}_portal")
    return found
