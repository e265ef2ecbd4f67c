"""What belongs to one process: connections, keys, locks, threads and counters, looked up by process id."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Hold one object for each process, made at its first use there.

    No fork hook is involved: ``os.register_at_fork`` does not run where a server forks in C, as uWSGI does. A child
    finds no object under its own process id and makes one. The parent's object stays referenced in the child, so that
    it is neither used nor closed there: closing a connection that two processes share ends it for both.

    A process id names one living process. Only if an ancestor has ended, and the system gives its number to a
    descendant, would that one find the ancestor's object.

    Two threads that come first at once may both call ``make``; the object that is stored second is dropped unused. So
    ``make`` opens no connection and starts no thread: the object does that when it is used.

    :param make: returns a new object, with locks of its own.
    """

    __slots__ = ("_make", "_of")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of: dict[int, T] = {}

    def get(self) -> T:
        """Return the object of this process; make it if there is none yet."""
        process = os.getpid()
        try:
            return self._of[process]
        except KeyError:
            # Of two threads one stores its object; dict.setdefault is atomic, and both return that one.
            return self._of.setdefault(process, self._make())

    def made(self) -> T | None:
        """Return the object of this process, or ``None`` if it has not been made."""
        return self._of.get(os.getpid())

    def inherited(self) -> list[T]:
        """Return the objects of the processes that this one was forked from."""
        return [one for process, one in list(self._of.items()) if process != os.getpid()]
