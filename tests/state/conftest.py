"""The servers of the stores."""

from tests.servers import own_postgresql, own_redis_server, postgresql, redis_server, sentinel_servers

from .postgresql_backend import empty_database, postgresql_backend

__all__ = [
    "empty_database",
    "own_postgresql",
    "own_redis_server",
    "postgresql",
    "postgresql_backend",
    "redis_server",
    "sentinel_servers",
]
