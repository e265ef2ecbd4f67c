"""The Redis servers that shared limits are counted in."""

from tests.servers import own_redis_server, redis_server

__all__ = ["own_redis_server", "redis_server"]
