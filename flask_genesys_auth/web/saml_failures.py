"""Keeps why a SAML message was refused, under the reference that its page shows, for ``explain --reference``.

Nothing on the web reads it. Anybody may post garbage, so only so many failures are kept: what is not stands in the
log alone. A state that does not answer changes nothing for the client.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..errors import StateUnavailable
from ..events import LONGEST, plain
from ..processes import PerProcess

if TYPE_CHECKING:
    from ..chain.protocols import StateStore
    from ..saml.errors import SamlError

KEPT_FOR = 24 * 3600.0
"""Seconds."""
FROM_LOGINS = (100, 12.0)
"""Of failures that answer a login which was begun here: how many at once in each process, seconds for each more."""
FROM_ANYBODY = (20, 60.0)
"""The same of all others."""

_ATTEMPTS = 3


def _new_reference() -> str:
    return secrets.token_hex(4)


class Allowance:
    """So many at once, and one more every so many seconds.

    :param clock: seconds that never go back.
    """

    def __init__(self, most: int, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._every = every
        self._clock = clock
        self._lock = Lock()
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

    Each process has allowances of its own.

    :param clock: unix time.
    :param monotonic: seconds that never go back.
    :param reference: returns a new reference.
    """

    def __init__(
        self,
        state: StateStore,
        clock: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        reference: Callable[[], str] = _new_reference,
    ) -> None:
        self._state = state
        self._clock = clock
        self._reference = reference
        # By whether a failure answers a login that was begun here.
        self._allowances = PerProcess(
            lambda: {True: Allowance(*FROM_LOGINS, monotonic), False: Allowance(*FROM_ANYBODY, monotonic)}
        )

    def note(self, contact_center: str, error: SamlError, *, address: str, leaving: bool) -> str:
        """Keep a failure if there is room for it; return its reference in either case.

        :param leaving: the message was about logging out.
        """
        allowance = self._allowances.get()[error.asked]
        if not allowance.take():
            return self._reference()
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
                reference = self._reference()
                if self._state.add(_key(reference), value, KEPT_FOR):
                    return reference
        return self._reference()

    def find(self, reference: str) -> dict[str, Any] | None:
        """Return what is kept under a reference.

        :raises StateUnavailable: if the state does not answer.
        """
        found = self._state.get(_key(reference))
        return found if isinstance(found, dict) else None


def _key(reference: str) -> str:
    return f"saml-failure:{reference}"
