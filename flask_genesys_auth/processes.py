"""Hold connections, keys, locks, threads and counters per process, looked up by process id."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Hold one object for each process, created at its first use there.

    This needs no fork hook: ``os.register_at_fork`` does not run where a server forks in C, as uWSGI does. A forked
    child finds no object under its own process id and creates one. The parent's object stays referenced in the child,
    so that the child neither uses nor closes it: closing a shared connection closes it for both processes.

    A process id names one living process. A descendant finds an ancestor's object only if the ancestor has ended and
    the system has given its number to the descendant.

    Two threads may call ``make`` at the same time; one of the two objects is dropped unused. ``make`` must therefore
    not open a connection or start a thread.

    :param make: returns a new object with its own locks.
    """

    __slots__ = ("_make", "_of")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of: dict[int, T] = {}

    def get(self) -> T:
        """Return the object of this process; create it at the first call."""
        process = os.getpid()
        try:
            return self._of[process]
        except KeyError:
            # dict.setdefault is atomic: two threads return the same object.
            return self._of.setdefault(process, self._make())

    def made(self) -> T | None:
        """Return the object of this process, or ``None`` if there is none yet."""
        return self._of.get(os.getpid())

    def inherited(self) -> list[T]:
        """Return the objects of this process's ancestors."""
        return [one for process, one in list(self._of.items()) if process != os.getpid()]
