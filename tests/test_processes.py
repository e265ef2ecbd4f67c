"""What belongs to one process is made anew in each, however it was forked."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from flask_genesys_auth.processes import PerProcess

from .forking import FORKS, holds_in_child

pytestmark = pytest.mark.parametrize("fork", sorted(FORKS))


class Thing:
    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()


def test_one_process_has_one_object(fork: str) -> None:
    things = PerProcess(Thing)
    assert things.made() is None
    assert things.get() is things.get() is things.made()
    assert holds_in_child(lambda: things.get() is things.get() is things.made(), fork=fork)


def test_a_child_has_its_own_object(fork: str) -> None:
    things = PerProcess(Thing)
    parents = things.get()
    parents.lock.acquire()  # by a thread that the child does not have

    def check() -> bool:
        return things.made() is None and things.get() is not parents and things.get().lock.acquire(timeout=60)

    assert holds_in_child(check, fork=fork)
    assert things.get() is parents


def test_a_child_never_drops_the_parents_object(fork: str) -> None:
    things = PerProcess(Thing)
    parents = weakref.ref(things.get())

    def check() -> bool:
        things.get()
        gc.collect()
        return parents() is not None

    assert holds_in_child(check, fork=fork)


def test_a_grandchild_has_its_own_object(fork: str) -> None:
    things = PerProcess(Thing)
    things.get()

    def check() -> bool:
        childs = things.get()
        return holds_in_child(lambda: things.get() is not childs, fork=fork)

    assert holds_in_child(check, fork=fork)


def test_threads_that_come_first_get_one_object(fork: str) -> None:
    waiting = threading.Barrier(8)

    def make() -> Thing:
        waiting.wait(30)
        return Thing()

    things, found = PerProcess(make), []
    threads = [threading.Thread(target=lambda: found.append(things.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(one) for one in found}) == 1
    assert holds_in_child(lambda: found[0] not in (things.made(),), fork=fork)
