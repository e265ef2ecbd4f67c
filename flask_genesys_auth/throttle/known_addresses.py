"""The addresses at which an account has logged in: what somebody does elsewhere locks nobody out there."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from ..errors import StateUnavailable
from ..forks import fork_safe_lock
from .digests import message

if TYPE_CHECKING:
    from ..chain.ports import StateStore

KNOWN_ADDRESS_DAYS = 30
KNOWN_ADDRESS_TTL = KNOWN_ADDRESS_DAYS * 86400.0
KNOWN_ADDRESS_REFRESH = 86400.0
"""Seconds for which this process need not write down again that an account has logged in at an address."""
MAX_FRESH = 10_000


class KnownAddresses:
    """At which addresses an account has logged in; a state that does not answer knows none."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._lock = fork_safe_lock()
        self._fresh: OrderedDict[str, float] = OrderedDict()

    def holds(self, *account_and_place: str) -> bool:
        """Tell whether this account has logged in there within 30 days."""
        with suppress(StateUnavailable):
            return self._state.get(self._key(account_and_place)) is not None
        return False

    def note(self, *account_and_place: str) -> None:
        """Write down a good login, once a day."""
        key = self._key(account_and_place)
        now = self._clock()
        with self._lock:
            if now < self._fresh.get(key, -math.inf):
                return
        with suppress(StateUnavailable):
            self._state.put(key, True, KNOWN_ADDRESS_TTL)
            with self._lock:
                self._fresh[key] = now + KNOWN_ADDRESS_REFRESH
                self._fresh.move_to_end(key)
                if len(self._fresh) > MAX_FRESH:
                    self._fresh.popitem(last=False)

    def clear(self) -> None:
        """Forget what this process has written down; what stands in the state stays."""
        with self._lock:
            self._fresh.clear()

    @staticmethod
    def _key(parts: tuple[str, ...]) -> str:
        return "known-address:" + sha256(message(parts)).hexdigest()
