"""Forks of the test's own process: by Python, which runs its hooks, and by libc alone, as a server in C does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable


def _fork_by_libc() -> int:
    """Fork as a server that embeds Python does: with the interpreter's lock held, and without running a hook.

    A thread that has waited for the interpreter's lock for one switch interval asks for it; in the child, where that
    thread is not, Python would wait for ever until it takes the lock. So no thread may ask at that moment.
    """
    former = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    try:
        time.sleep(10 * former)  # who waits now gets the lock, and waits anew by the long interval
        return int(ctypes.PyDLL(None).fork())
    finally:
        sys.setswitchinterval(former)


FORKS: dict[str, Callable[[], int]] = {"python": os.fork, "libc": _fork_by_libc}


def holds_in_child(check: Callable[[], bool], *, fork: str = "libc") -> bool:
    """Fork, and return whether the check held in the child; what it raises is printed and does not hold.

    :param fork: a key of :data:`FORKS`.
    """
    child = FORKS[fork]()
    if child == 0:
        held = False
        # A child that waits for a lock of the parent's for ever fails its test, and does not stop the run.
        signal.alarm(120)
        try:
            held = check()
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(0 if held else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
