"""The deadline of the current call, which its connections observe without being given it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("flask_genesys_auth_deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound all that this thread waits for in the block, in sum."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left(default: float) -> float:
    """Return how long the call may still wait, 0 at least.

    :param default: seconds where no deadline is set.
    """
    deadline = _deadline.get()
    return default if deadline is None else max(0.0, deadline - time.monotonic())


def extend(seconds: float) -> None:
    """Move the deadline, if one is set, by a wait that does not count."""
    deadline = _deadline.get()
    if deadline is not None:
        _deadline.set(deadline + seconds)
