"""Idle connections to one server, kept for the next request.

Connections of two kinds are never mixed: those bound as the service account, which search and read, and those on which
users are bound. A caller that takes one of the latter binds before anything else, so that no request acts as the user
before.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection

LONGEST_IDLE = 60.0
"""Seconds after which an idle connection is not used any more: firewalls drop idle connections silently."""
LONGEST_LIFE = 600.0
"""Seconds after which a connection is replaced, so that changed addresses and access rights take effect."""


class Pool:
    """The idle connections of one kind to one server, in one process; the last returned is the first taken.

    :param most: how many are kept.
    :param clock: returns seconds that never go back, as connections are timed by.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = Lock()
        self._idle: list[Connection] = []
        # Not at exit: a child must not end connections that its parent uses.
        weakref.finalize(self, _close_own, self._idle, os.getpid()).atexit = False

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
        """Keep a connection on which nothing has failed."""
        connection.used = self._clock()
        with self._lock:
            kept = len(self._idle) < self._most
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def clear(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _good(self, connection: Connection) -> bool:
        now = self._clock()
        return now - connection.used < LONGEST_IDLE and now - connection.opened < LONGEST_LIFE


def _close_own(connections: list[Connection], process: int) -> None:
    """Close what this process has opened: to close a connection ends it in the parent process, too."""
    if os.getpid() == process:
        for connection in connections:
            connection.close()
