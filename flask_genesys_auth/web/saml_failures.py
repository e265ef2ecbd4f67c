"""Stores the reasons of refused SAML messages under their references, for ``explain --reference``.

No HTTP endpoint reads them. Attackers can post garbage, so the number of stored failures is limited; the log has all
of them. An unavailable state does not change the response.
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
"""Seconds for which a failure is stored."""
LOGIN_FAILURES = Limit.of("saml failures of logins begun here", "100 per 20 minutes")
OTHER_FAILURES = Limit.of("other saml failures", "20 per 20 minutes")

_ATTEMPTS = 3


def _new_reference() -> str:
    return secrets.token_hex(4)


class SamlFailures:
    """The stored failures of one application. Each process counts the limits for itself.

    :param clock: unix time.
    :param monotonic: a monotonic clock in seconds.
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
        """Store a failure unless the limit is reached; return its reference in both cases.

        :param leaving: the message belongs to a logout.
        """
        if isinstance(self._kept.reserve([(LOGIN_FAILURES if error.asked else OTHER_FAILURES, b"")]), list):
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
        """Return the failure with this reference, if it is stored.

        :raises StateUnavailable: if the state does not answer.
        """
        found = self._state.get(_key(reference))
        return found if isinstance(found, dict) else None


def _key(reference: str) -> str:
    return f"saml-failure:{reference}"
