"""The servers that states are kept in."""

from tests.servers import own_redis_server, redis_server

__all__ = ["own_redis_server", "redis_server"]
