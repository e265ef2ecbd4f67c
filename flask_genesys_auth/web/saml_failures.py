"""Keeps why a SAML message was refused, under the reference that its page shows, for ``explain --reference``.

Nothing on the web reads it. Anybody may post garbage, so only so many failures are kept: what is not stands in the
log alone. A state that does not answer changes nothing for the client.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import StateUnavailable
from ..events import LONGEST, plain
from ..forks import fork_safe_lock

if TYPE_CHECKING:
    from ..chain.ports import StateStore
    from ..saml.errors import SamlError

KEPT_FOR = 24 * 3600.0
"""Seconds."""
FROM_LOGINS = (100, 12.0)
"""Of failures that answer a login which was begun here: how many at once in each process, seconds for each more."""
FROM_ANYBODY = (20, 60.0)
"""The same of all others."""

_ATTEMPTS = 3


def new_reference() -> str:
    """Return a random reference, which people can read out."""
    return secrets.token_hex(4)


class Allowance:
    """So many at once, and one more every so many seconds.

    :param clock: seconds that never go back.
    """

    def __init__(self, most: int, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._every = every
        self._clock = clock
        self._lock = fork_safe_lock()
        self._left = float(most)
        self._then = clock()

    def take(self) -> bool:
        """Take one, if there is one."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._then) / self._every)
            self._then = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class SamlFailures:
    """The failures that are kept in the state of one application.

    :param clock: unix time.
    :param draw: returns a reference; one that is taken already is drawn again.
    """

    def __init__(
        self, state: StateStore, clock: Callable[[], float] = time.time, draw: Callable[[], str] = new_reference
    ) -> None:
        self._state = state
        self._clock = clock
        self._draw = draw
        self._from_logins = Allowance(*FROM_LOGINS)
        self._from_anybody = Allowance(*FROM_ANYBODY)

    def note(self, contact_center: str, error: SamlError, *, address: str, leaving: bool) -> str:
        """Keep a failure if there is room for it; return its reference in either case.

        :param leaving: the message was about logging out.
        """
        allowance = self._from_logins if error.asked else self._from_anybody
        if not allowance.take():
            return self._draw()
        value: Any = {
            "time": self._clock(),
            "about": "logout" if leaving else "login",
            "contact_center": contact_center,
            "provider": plain(error.provider),
            "reason": str(error.reason),
            "detail": plain(error.detail, LONGEST["detail"]),
            "address": plain(address),
        }
        with suppress(StateUnavailable):
            for _ in range(_ATTEMPTS):
                reference = self._draw()
                if self._state.add(_key(reference), value, KEPT_FOR):
                    return reference
        return self._draw()

    def find(self, reference: str) -> dict[str, Any] | None:
        """Return what is kept under a reference.

        :raises StateUnavailable: if the state does not answer.
        """
        found = self._state.get(_key(reference))
        return found if isinstance(found, dict) else None


def _key(reference: str) -> str:
    return f"saml-failure:{reference}"
