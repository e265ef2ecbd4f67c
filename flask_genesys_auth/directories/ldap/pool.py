"""Connections to one server that are kept for the next one who needs them.

Two kinds never meet: those bound as the service account, which search and read, and those on which people are bound.
Whoever takes one of the latter binds before anything else, so that nobody acts as the one before.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...forks import fork_safe_lock, watch_forks

if TYPE_CHECKING:
    from .connection import Connection

LONGEST_IDLE = 60.0
"""Seconds after which an idle connection is not trusted any more: firewalls forget them without a word."""
LONGEST_LIFE = 600.0
"""Seconds after which a connection is made anew, so that names that moved and rights that changed are noticed."""


class Pool:
    """Idle connections of one kind to one server; the last that came is the first to go.

    :param most: how many are kept.
    :param clock: seconds that never go back, as connections are timed by.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = fork_safe_lock()
        self._idle: list[Connection] = []
        self._inherited: list[Connection] = []
        weakref.finalize(self, _close, self._idle)
        watch_forks(self)

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Connection | None:
        """Return an idle connection that is still good, or ``None``."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if self._good(connection) and connection.quiet:
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        """Keep a connection, on which nothing has gone wrong."""
        connection.used = self._clock()
        with self._lock:
            kept = len(self._idle) < self._most
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def clear(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        _close(idle)

    def before_fork(self) -> None:
        """Close what is idle: a child must not hold the parent's connections open."""
        self.clear()

    def after_fork(self) -> None:
        """Begin empty; what came back at that very moment is kept unused, for closing it would end it there as well."""
        self._inherited += self._idle
        self._idle.clear()

    def _good(self, connection: Connection) -> bool:
        now = self._clock()
        return now - connection.used < LONGEST_IDLE and now - connection.opened < LONGEST_LIFE


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
