"""The servers that states are kept in."""

from tests.servers import own_postgresql, own_redis_server, postgresql, redis_server

__all__ = ["own_postgresql", "own_redis_server", "postgresql", "redis_server"]
