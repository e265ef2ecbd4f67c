"""Run scripts on a Redis or Valkey server by redis-py; each process has its own connections."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any, TypeVar

import redis
from marshmallow import ValidationError
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..config.databases import RedisAddress, redis_address
from ..errors import ConfigurationError, StateUnavailable
from ..processes import PerProcess
from .values import BATCH

CONNECTIONS = 64
"""The most connections of one process. A call waits for a free one as long as for an answer."""

Result = TypeVar("Result")

# Each answer carries the random name of its call.
_NAMED = """
local call = table.remove(ARGV, 1)
local function answer()
%s
end
return {call, answer()}
"""
_DELETE = "delete_all"
_DELETE_PAGE = """
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(page[2]) do redis.call('DEL', key) end
return page[1]
"""


class _Client(redis.Redis):
    """Closes the connection if the name in a script's answer is not the name of the call.

    An unread answer to an earlier call on a pooled connection therefore never reaches the next call.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command; the first argument of a script is the name of the call."""
        if args[0] == "EVALSHA":
            options["call"] = args[3 + args[2]].encode()
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read the answer to the command that was sent on this connection."""
        call = options.pop("call", None)
        try:
            answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]  # redis-py's
        except BaseException:
            # An error carries no name and may belong to another call. After a timeout the answer may still come.
            connection.disconnect()
            raise
        if call is None:
            return answer
        if not isinstance(answer, list) or answer[:1] != [call]:
            connection.disconnect()
            raise redis.ConnectionError("the answer belongs to another call; the connection was closed")
        return answer[1] if len(answer) > 1 else None


class _Opened:
    """The client of one process, with its connections and scripts."""

    def __init__(self, address: RedisAddress, timeout: float, scripts: dict[str, str], connections: int) -> None:
        self._address, self._timeout, self._texts = address, timeout, scripts
        self._connections = connections
        self._places = BoundedSemaphore(connections)
        self.renew()

    def renew(self) -> None:
        """Create a client without connections; the former one closes its own when no call uses them."""
        self._client: Any = self._make()
        self._scripts = {name: self._client.register_script(_NAMED % text) for name, text in self._texts.items()}

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Run one script under a new name."""
        registered = self._scripts[script]
        client: Any = registered.registered_client
        given = (registered.sha, len(keys), *keys, secrets.token_hex(8), *arguments)
        with self._place():
            try:
                return client.evalsha(*given)
            except NoScriptError:
                # redis-py's own way would replace the script's digest with the answer without checking it.
                client.script_load(registered.script)
                return client.evalsha(*given)

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Call a function with redis-py's client."""
        with self._place():
            return command(self._client)

    @contextmanager
    def _place(self) -> Iterator[None]:
        # BlockingConnectionPool has these bounds; redis-py's pool for Sentinel does not.
        if not self._address.service:
            yield
        elif self._places.acquire(timeout=self._timeout):
            try:
                yield
            finally:
                self._places.release()
        else:
            raise redis.ConnectionError("No connection available.")

    def _make(self) -> redis.Redis:
        address, options = self._address, self._options()
        if address.service:
            login = {"db": address.database, "username": address.user, "password": address.password}
            sentinel: Any = Sentinel(address.hosts, sentinel_kwargs=options, **options, **login)  # type: ignore[no-untyped-call]  # redis-py's
            # The semaphore is the bound: some releases of redis-py still count connections that a fail-over has closed.
            client: redis.Redis = sentinel.master_for(address.service, redis_class=_Client, max_connections=2**31)
            return client
        if address.url.startswith("rediss:"):
            # redis-py 5 checks the host name only with this option.
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        pool = redis.BlockingConnectionPool.from_url(
            address.url, max_connections=self._connections, timeout=self._timeout, **options
        )
        return _Client.from_pool(pool)

    def _options(self) -> dict[str, Any]:
        return {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),
            # With RESP3's maintenance notifications redis-py does not check a pooled connection for an unread answer.
            "protocol": 2,
        }


class RedisClient:
    """Runs scripts on one server. A failed call is not retried, because it may have taken effect.

    Each process opens its own connections when it needs them. The timeout bounds each single wait: for a free
    connection, for a new one and each answer of its handshake, and for the answer to the call. A call on an open
    connection waits once if the server knows the script.

    :param url: a URL that :func:`~flask_genesys_auth.config.databases.redis_address` reads.
    :param timeout: seconds for each wait.
    :param scripts: Lua by name.
    :param purpose: named in errors: ``"the state"``.
    :param key: the configuration key, named in errors: ``"state_url"``.
    :param connections: the most that a process opens.
    :raises ConfigurationError: if the URL is not valid.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        scripts: dict[str, str],
        *,
        purpose: str,
        key: str,
        connections: int = CONNECTIONS,
    ) -> None:
        try:
            address = redis_address(url)
        except ValidationError as error:
            raise ConfigurationError(f"{key}: {error.messages[0]}") from None
        self.name = address.shown
        self.fails_over = bool(address.service)
        self._secrets = address.secrets
        self._purpose = purpose
        scripts = {**scripts, _DELETE: _DELETE_PAGE}
        self._opened = PerProcess(lambda: _Opened(address, timeout, scripts, connections))

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Run one script, which the server executes atomically.

        :raises StateUnavailable: if there is no answer, or it is an error or belongs to another call.
        """
        try:
            return self._opened.get().run(script, keys, arguments)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Call a function with redis-py's client (for health checks).

        :raises StateUnavailable: if there is no answer, or it is an error.
        """
        try:
            return self._opened.get().call(command)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def delete_all(self, beginning: str) -> None:
        """Delete all keys with this prefix.

        :raises StateUnavailable: as :meth:`run`.
        """
        cursor = b"0"
        while (cursor := self.run(_DELETE, [], [cursor.decode(), beginning_with(beginning), BATCH])) != b"0":
            pass

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones."""
        opened = self._opened.made()
        if opened is not None:
            opened.renew()

    def _unavailable(self, error: RedisError | OSError) -> StateUnavailable:
        finding = str(error).partition("\n")[0] or type(error).__name__
        for secret in self._secrets:
            finding = finding.replace(secret, "***")
        return StateUnavailable(f"{self._purpose} in {self.name} did not answer: {finding[:200]}")


def beginning_with(text: str) -> str:
    """Return the pattern of keys with this prefix."""
    return "".join(f"\\{one}" if one in "*?[]\\^-" else one for one in text) + "*"
