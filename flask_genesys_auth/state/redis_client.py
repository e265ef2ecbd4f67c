"""A connection to Redis or Valkey: bounded in time, of this process alone, and silent about its password."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..errors import ConfigurationError, StateUnavailable
from ..forks import watch_forks

CONNECTIONS = 64
"""Of one process at most; who finds none free waits for one as long as for an answer."""

Result = TypeVar("Result")


class RedisClient:
    """Scripts and commands on one server. A failed call is not tried again: nobody could tell whether it counted.

    :param url: ``redis://`` or ``rediss://``, perhaps with user, password and the number of the database.
    :param timeout: seconds to wait for a connection, and for an answer.
    :param scripts: Lua, by the names they are called by.
    :param purpose: what it is asked for, as an error names it: ``"the state"``.
    :param key: of the configuration, as an error names it: ``"state_url"``.
    :raises ConfigurationError: if the address cannot be read.
    """

    def __init__(self, url: str, timeout: float, scripts: dict[str, str], *, purpose: str, key: str) -> None:
        self.name, self._secrets = _shown(url, key)
        self._url = url
        self._timeout = timeout
        self._texts = scripts
        self._purpose = purpose
        self._begin()
        watch_forks(self)

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Run one script, which the server runs alone.

        :raises StateUnavailable: if the server did not answer, or not well.
        """
        return self.call(lambda _: self._scripts[script](keys=list(keys), args=list(arguments)))

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Give redis-py's client to a function.

        :raises StateUnavailable: if the server did not answer, or not well.
        """
        try:
            return command(self._client)
        except (RedisError, OSError) as error:
            said = str(error).partition("\n")[0][:200] or type(error).__name__
            for secret in self._secrets:
                said = said.replace(secret, "***")
            raise StateUnavailable(f"{self._purpose} in {self.name} did not answer: {said}") from None

    def close(self) -> None:
        """Let go of connections; they are made anew when it is used again."""
        self._client.connection_pool.disconnect()

    def before_fork(self) -> None:
        """Do nothing: the parent goes on with its connections."""

    def after_fork(self) -> None:
        """Begin with connections of this process's own; redis-py never talks on those of another."""
        self._begin()

    def _begin(self) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            self._url,
            max_connections=CONNECTIONS,
            timeout=self._timeout,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # redis-py has one interface for two ways of calling, so that its types promise nothing.
        self._client: Any = redis.Redis(connection_pool=pool)
        self._scripts = {name: self._client.register_script(text) for name, text in self._texts.items()}


def _shown(url: str, key: str) -> tuple[str, tuple[str, ...]]:
    """Return the address without what may be secret, and what of it is.

    :raises ConfigurationError: if it is none of Redis.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ConfigurationError(f"{key}: is not a server's address") from None
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ConfigurationError(f'{key}: must be of the form "redis://host:6379/0"')
    secrets = {parts.password, unquote(parts.password)} if parts.password else set()
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path}", tuple(sorted(secrets))
