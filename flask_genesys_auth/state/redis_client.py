"""A connection to Redis or Valkey: bounded in time, of this process alone, and silent about its password."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EWOULDBLOCK
from hashlib import sha1
from math import inf
from threading import BoundedSemaphore
from time import monotonic
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from ..errors import ConfigurationError, StateUnavailable
from ..forks import watch_forks
from .values import batches

CONNECTIONS = 64
"""Of one process at most; who finds none free waits for one as long as for an answer."""

_NEAR = 0.01
"""Seconds that a wait may end too late, for which no socket is told another time-out."""

_LATE = "no answer in time"

# redis-py has one interface for two ways of calling, so that its types promise nothing.
Connection: TypeAlias = Any
Result = TypeVar("Result")


class _Deadline:
    """The moment of ``time.monotonic()`` at which what is asked on a connection must be answered."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = inf

    def left(self) -> float:
        """Return the seconds until then.

        :raises TimeoutError: if there are none.
        """
        left = self.at - monotonic()
        if left <= 0:
            raise TimeoutError(_LATE)
        return left


class _TimedSocket:
    """What redis-py uses of a socket, each wait ending at the deadline: its own time-outs begin anew with each byte."""

    __slots__ = ("_deadline", "_made", "_poll", "_recv", "_send", "_told", "_waits")

    def __init__(self, made: Any, deadline: _Deadline) -> None:
        self._made = made
        self._recv = made.recv
        self._send = made.send
        self._deadline = deadline
        self._told: float = made.gettimeout()
        self._waits = True
        self._poll: Any = None
        # What comes by TLS may be there and yet be no answer. And Windows has no poll().
        if hasattr(select, "poll") and not hasattr(made, "pending"):
            poller = select.poll()
            poller.register(made, select.POLLIN)
            self._poll = poller.poll

    def settimeout(self, seconds: float) -> None:
        """Wait no more (0), or until the deadline, whatever redis-py has kept of an earlier one."""
        self._waits = seconds != 0

    def recv(self, size: int, flags: int = 0) -> Any:
        """Receive, as of ``socket``."""
        self._limit() if self._waits else self._look()
        return self._recv(size, flags)

    def recv_into(self, buffer: Any) -> Any:
        """Receive, as of ``socket``."""
        self._limit() if self._waits else self._look()
        return self._made.recv_into(buffer)

    def sendall(self, data: Any) -> None:
        """Send, as of ``socket``; that of TLS waits for each of its records anew."""
        self._limit()
        sent = self._send(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self._limit()
                rest = rest[self._send(rest) :]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def _limit(self) -> None:
        left = self._deadline.at - monotonic()
        if not 0 < left <= self._told <= left + _NEAR:
            if left <= 0:
                raise TimeoutError(_LATE)
            # A little more than is left, so that the next calls need not tell it anew.
            self._tell(left + _NEAR / 2)

    def _look(self) -> None:
        if self._poll is not None and not self._poll(0):
            raise BlockingIOError(EWOULDBLOCK, "nothing has come")
        self._tell(0.0)

    def _tell(self, seconds: float) -> None:
        self._made.settimeout(seconds)
        self._told = seconds


class _Timed:
    """Makes of redis-py's connections such that all they wait for has one deadline, from the first packet on.

    Only the look-up of a host name takes as long as the system's resolver lets it.
    """

    def __init__(self, **options: Any) -> None:
        self.deadline = _Deadline()
        super().__init__(**options)

    @property
    def socket_timeout(self) -> float:
        """How long redis-py lets TLS, and its own commands after it, take."""
        return self.deadline.left()

    @socket_timeout.setter
    def socket_timeout(self, _: float) -> None:
        """Leave it to the deadline."""

    @property
    def socket_connect_timeout(self) -> float:
        """How long redis-py lets a connection to one address of several take."""
        return self.deadline.left()

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, _: float) -> None:
        """Leave it to the deadline."""

    def _connect(self) -> _TimedSocket:
        return _TimedSocket(super()._connect(), self.deadline)  # type: ignore[misc]  # redis-py's, beside this


class RedisClient:
    """Scripts and commands on one server. A failed call is not tried again: nobody could tell whether it counted.

    Connections are redis-py's; what its own client and pool do around each command takes longer than the command. One
    that the server has closed while it was idle is seen before anything is sent on it.

    :param url: ``redis://`` or ``rediss://``, perhaps with user, password and the number of the database.
    :param timeout: seconds for a call, whatever it takes: a free connection, a new one, the answer.
    :param scripts: Lua, by the names they are called by.
    :param purpose: what it is asked for, as an error names it: ``"the state"``.
    :param key: of the configuration, as an error names it: ``"state_url"``.
    :raises ConfigurationError: if the address cannot be read.
    """

    def __init__(self, url: str, timeout: float, scripts: dict[str, str], *, purpose: str, key: str) -> None:
        self.name, self._secrets = _shown(url, key)
        self._timeout = timeout
        self._scripts = {name: (sha1(text.encode()).hexdigest(), text) for name, text in scripts.items()}  # noqa: S324
        self._purpose = purpose
        # Before redis-py 6 the host's name is not looked at unless that is asked for.
        checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": True} if url.startswith("rediss:") else {}
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **checked,
        )
        self._timed: Any = type("TimedConnection", (_Timed, self._pool.connection_class), {})
        self._idle: deque[Connection] = deque()
        self._places = BoundedSemaphore(CONNECTIONS)
        watch_forks(self)

    def deadline(self) -> float:
        """Return when a call that begins now must have ended, by ``time.monotonic()``."""
        return monotonic() + self._timeout

    def run(
        self, script: str, keys: Sequence[str], arguments: Sequence[str | float], deadline: float | None = None
    ) -> Any:
        """Run one script, which the server runs alone.

        :param deadline: default: that of a call that begins now.
        :raises StateUnavailable: if the server did not answer, or not well.
        """
        digest, text = self._scripts[script]
        given = (len(keys), *keys, *arguments)
        deadline = deadline or self.deadline()
        try:
            return self._ask(deadline, "EVALSHA", digest, *given)
        except NoScriptError:
            # It has not run: the server does not know it yet, or no more.
            return self.ask("EVAL", text, *given, deadline=deadline)
        except (RedisError, OSError) as error:
            raise self._trouble(error) from None

    def ask(self, *command: str | float, deadline: float | None = None) -> Any:
        """Run one command and return what the server says, as it says it.

        :param deadline: as of :meth:`run`.
        :raises StateUnavailable: if the server did not answer, or not well.
        """
        try:
            return self._ask(deadline or self.deadline(), *command)
        except (RedisError, OSError) as error:
            raise self._trouble(error) from None

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Give redis-py's own client to a function: for what no request waits for.

        :raises StateUnavailable: if the server did not answer, or not well.
        """
        try:
            return command(redis.Redis(connection_pool=self._pool))
        except (RedisError, OSError) as error:
            raise self._trouble(error) from None

    def delete_all(self, beginning: str) -> None:
        """Delete all keys that begin so.

        :raises StateUnavailable: if the server did not answer, or not well.
        """
        names = self.call(lambda client: list(client.scan_iter(match=beginning_with(beginning))))
        for batch in batches(names):
            self.ask("DEL", *batch)

    def close(self) -> None:
        """Let go of connections; they are made anew when it is used again."""
        self._pool.disconnect()
        idle = self._idle
        self._idle = deque()
        _close_all(idle)

    def before_fork(self) -> None:
        """Do nothing: the parent goes on with its connections."""

    def after_fork(self) -> None:
        """Begin with connections of this process's own; redis-py does not end those of another."""
        self._idle = deque()
        self._places = BoundedSemaphore(CONNECTIONS)

    def _ask(self, deadline: float, *command: str | float) -> Any:
        places, idle = self._places, self._idle
        if not places.acquire(timeout=max(0.0, deadline - monotonic())):
            raise StateUnavailable(f"{self._purpose} in {self.name}: all {CONNECTIONS} connections are waiting for it")
        connection = None
        try:
            connection = _awake(idle) or self._connect(deadline)
            connection.deadline.at = deadline
            connection.send_command(*command)
            answer = connection.read_response()
        except BaseException:
            if connection is not None:
                connection.disconnect()
            raise
        else:
            idle.append(connection)
            if idle is not self._idle:
                _close_all(idle)
            return answer
        finally:
            places.release()

    def _connect(self, deadline: float) -> Connection:
        connection: Connection = self._timed(**self._pool.connection_kwargs)
        connection.deadline.at = deadline
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _trouble(self, error: RedisError | OSError) -> StateUnavailable:
        said = str(error).partition("\n")[0][:200] or type(error).__name__
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return StateUnavailable(f"{self._purpose} in {self.name} did not answer: {said}")


def _awake(idle: deque[Connection]) -> Connection | None:
    """Return a connection that the server has not closed meanwhile, if there is one."""
    while True:
        try:
            connection = idle.pop()
        except IndexError:
            return None
        # Something to read while nothing was asked is a farewell, or an answer that nobody waited for.
        with suppress(RedisError, OSError):
            if not connection.can_read():
                return connection
        connection.disconnect()


def _close_all(idle: deque[Connection]) -> None:
    # Others may be doing the same.
    with suppress(IndexError):
        while True:
            idle.pop().disconnect()


def beginning_with(text: str) -> str:
    """Return the pattern that keys match which begin with a text."""
    return "".join(f"\\{one}" if one in "*?[]\\^-" else one for one in text) + "*"


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
