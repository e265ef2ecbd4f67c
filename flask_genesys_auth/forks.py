"""What must not be shared with a forked child: locks, connections, random keys."""

from __future__ import annotations

import os
from threading import Lock
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """An object that holds something a forked child must not use."""

    def before_fork(self) -> None:
        """Let go of what must not be inherited; called in the process that forks."""
        ...

    def after_fork(self) -> None:
        """Begin anew; called in the child, before anything else runs there."""
        ...


_watched: WeakSet[ForkAware] = WeakSet()
_locks: WeakSet[Lock] = WeakSet()
_held: list[Lock] = []
_forking = Lock()
"""Held from before a fork until after it: of two threads that fork at once, one waits."""


def watch_forks(owner: ForkAware) -> None:
    """Tell this object about every fork of the process, for as long as it lives."""
    _watched.add(owner)


def fork_safe_lock() -> Lock:
    """Return a lock that no other thread holds at the moment of a fork.

    So a child never inherits a lock whose owner it has not, nor what that owner had done by half. Holders must not
    wait for another lock of this kind, nor for anything slow.
    """
    lock = Lock()
    _locks.add(lock)
    return lock


def _before() -> None:
    _forking.acquire()
    for owner in list(_watched):
        owner.before_fork()
    _held.extend(_locks)
    for lock in _held:
        lock.acquire()


def _release() -> None:
    for lock in _held:
        lock.release()
    _held.clear()
    _forking.release()


def _after_in_child() -> None:
    _release()
    for owner in list(_watched):
        owner.after_fork()


# Where there is no fork (Windows) there is nothing to be told either.
_register = getattr(os, "register_at_fork", lambda **_: None)
_register(before=_before, after_in_parent=_release, after_in_child=_after_in_child)
