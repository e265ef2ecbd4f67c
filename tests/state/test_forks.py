"""What a fork does to locks and to what must not be shared: tried with real ones."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

from flask_genesys_auth import forks


def in_child(check: Callable[[], bool]) -> bool:
    """Fork, and tell whether the check held in the child."""
    child = os.fork()
    if child == 0:
        held = False
        try:
            held = check()
        finally:
            os._exit(0 if held else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Noting:
    def __init__(self) -> None:
        self.notes: list[str] = []
        forks.watch_forks(self)

    def before_fork(self) -> None:
        self.notes.append("before")

    def after_fork(self) -> None:
        self.notes.append("child")


def test_a_fork_waits_until_no_thread_is_within_a_lock() -> None:
    # The hooks alone: a real fork amid busy threads would try the locks of the coverage tracer as well.
    lock = forks.fork_safe_lock()
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            inside.set()
            leave.wait()

    worker, forking = threading.Thread(target=work), threading.Thread(target=forks._before)
    worker.start()
    inside.wait()
    forking.start()
    forking.join(timeout=0.05)
    assert forking.is_alive()
    leave.set()
    worker.join()
    forking.join()
    assert lock.locked()
    forks._release()
    assert not lock.locked()


def test_a_lock_is_free_in_parent_and_child() -> None:
    lock = forks.fork_safe_lock()
    assert in_child(lambda: lock.acquire(timeout=10))
    assert lock.acquire(timeout=10)
    lock.release()
    assert in_child(lambda: not lock.locked())


def test_owners_are_told_before_in_the_parent_and_after_in_the_child_only() -> None:
    noting = Noting()
    assert in_child(lambda: noting.notes == ["before", "child"])
    assert noting.notes == ["before"]


def test_an_object_that_is_gone_is_not_told() -> None:
    notes = Noting().notes
    gc.collect()
    assert in_child(lambda: notes == [])
    assert notes == []


def test_the_hooks_of_the_child_release_and_tell() -> None:
    noting, lock = Noting(), forks.fork_safe_lock()
    forks._before()
    assert lock.locked()
    forks._after_in_child()
    assert not lock.locked()
    assert noting.notes == ["before", "child"]


def test_of_two_threads_that_fork_at_once_one_waits() -> None:
    lock = forks.fork_safe_lock()
    first, second = threading.Thread(target=forks._before), threading.Thread(target=forks._before)
    first.start()
    first.join()
    second.start()
    second.join(timeout=0.05)
    assert second.is_alive()
    forks._release()
    second.join()
    assert lock.locked()
    forks._release()
    assert not lock.locked()
