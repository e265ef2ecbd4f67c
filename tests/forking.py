"""Forks of the test's own process: by Python, which runs its hooks, and by libc alone, as a server in C does."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

FORKS: dict[str, Callable[[], int]] = {
    "python": os.fork,
    # PyDLL keeps the interpreter's lock, as a server that embeds Python does while it forks. No hook runs.
    "libc": ctypes.PyDLL(None).fork,
}


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
