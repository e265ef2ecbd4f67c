"""Scripts on a Redis or Valkey server: through redis-py, for one process at a time, and with the password hidden."""

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
"""Of one process at most; a call that finds none free waits for one as long as for an answer."""

Result = TypeVar("Result")

# Each answer carries the random name of the call that it belongs to.
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
    """Compares the name in a script's answer with the name of the call; on any other answer it closes the connection.

    So an answer that an earlier call has left unread on a pooled connection never reaches the next call.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command; the first argument after a script's keys is the name of the call."""
        if args[0] == "EVALSHA":
            options["call"] = args[3 + args[2]].encode()
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read the answer to the command that was sent on this connection."""
        call = options.pop("call", None)
        try:
            answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]  # redis-py's
        except BaseException:
            # An error carries no name: it may belong to another call. And the answer to this call may still come.
            connection.disconnect()
            raise
        if call is None:
            return answer
        if not isinstance(answer, list) or answer[:1] != [call]:
            connection.disconnect()
            raise redis.ConnectionError("the answer belongs to another call, so that the connection was closed")
        return answer[1] if len(answer) > 1 else None


class _Opened:
    """The client of one process, with its connections and scripts."""

    def __init__(self, address: RedisAddress, timeout: float, scripts: dict[str, str], connections: int) -> None:
        self._address, self._timeout, self._texts = address, timeout, scripts
        self._connections = connections
        self._places = BoundedSemaphore(connections)
        self.renew()

    def renew(self) -> None:
        """Begin with a client without connections; the former one closes its own once no call uses it any more."""
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
                # Not by calling it: redis-py would replace its digest by whatever answer comes.
                client.script_load(registered.script)
                return client.evalsha(*given)

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Call a function with redis-py's client."""
        with self._place():
            return command(self._client)

    @contextmanager
    def _place(self) -> Iterator[None]:
        # BlockingConnectionPool bounds its connections and the wait for one; redis-py's pool for Sentinel does not.
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
            # The semaphore is the bound: some releases of redis-py go on counting connections that a fail-over closed.
            client: redis.Redis = sentinel.master_for(address.service, redis_class=_Client, max_connections=2**31)
            return client
        if address.url.startswith("rediss:"):
            # Before redis-py 6 the host's name is not compared unless that is asked for.
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
            # With RESP3's maintenance notifications redis-py lends a pooled connection without looking whether an
            # unread answer is left on it.
            "protocol": 2,
        }


class RedisClient:
    """Scripts on one server. A failed call is not tried again: it may have counted.

    Each process has connections of its own, opened when they are needed. Every single wait takes the timeout at most:
    for a free connection, for a new one and each answer of its handshake, for the answer to the call. A call on an open
    connection to a server that knows the script waits once.

    :param url: an address that :func:`~flask_genesys_auth.config.databases.redis_address` reads.
    :param timeout: seconds for each wait.
    :param scripts: Lua, by the names they are called by.
    :param purpose: what the server is used for, as an error names it: ``"the state"``.
    :param key: of the configuration, as an error names it: ``"state_url"``.
    :param connections: how many of them a process opens at most.
    :raises ConfigurationError: if the address is not valid.
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
        """Run one script, which the server runs alone.

        :raises StateUnavailable: if the server did not answer, or with an error, or the answer is not to this call.
        """
        try:
            return self._opened.get().run(script, keys, arguments)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Call a function with redis-py's client: for checks, which no request waits for.

        :raises StateUnavailable: if the server did not answer, or with an error.
        """
        try:
            return self._opened.get().call(command)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def delete_all(self, beginning: str) -> None:
        """Delete all keys that begin so.

        :raises StateUnavailable: as :meth:`run`.
        """
        cursor = b"0"
        while (cursor := self.run(_DELETE, [], [cursor.decode(), beginning_with(beginning), BATCH])) != b"0":
            pass

    def close(self) -> None:
        """Close the connections of this process; new ones are opened when they are needed."""
        opened = self._opened.made()
        if opened is not None:
            opened.renew()

    def _unavailable(self, error: RedisError | OSError) -> StateUnavailable:
        finding = str(error).partition("\n")[0] or type(error).__name__
        for secret in self._secrets:
            finding = finding.replace(secret, "***")
        return StateUnavailable(f"{self._purpose} in {self.name} did not answer: {finding[:200]}")


def beginning_with(text: str) -> str:
    """Return the pattern that keys match which begin with a text."""
    return "".join(f"\\{one}" if one in "*?[]\\^-" else one for one in text) + "*"
