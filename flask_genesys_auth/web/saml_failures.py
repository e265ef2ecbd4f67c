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
from ..limits.throttle import Limit, LocalLedger

if TYPE_CHECKING:
    from ..chain.protocols import StateStore
    from ..saml.errors import SamlError

KEPT_FOR = 24 * 3600.0
"""Seconds."""
FROM_LOGINS = Limit.of("saml failures of logins begun here", "100 per 20 minutes")
FROM_ANYBODY = Limit.of("other saml failures", "20 per 20 minutes")

_ATTEMPTS = 3


def _new_reference() -> str:
    return secrets.token_hex(4)


class SamlFailures:
    """The failures that are kept in the state of one application.

    Each process counts for itself.

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
        self._kept = LocalLedger(monotonic)

    def note(self, contact_center: str, error: SamlError, *, address: str, leaving: bool) -> str:
        """Keep a failure if there is room for it; return its reference in either case.

        :param leaving: the message was about logging out.
        """
        if isinstance(self._kept.reserve([(FROM_LOGINS if error.asked else FROM_ANYBODY, b"")]), list):
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
