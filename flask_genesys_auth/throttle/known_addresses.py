"""The addresses at which an account has logged in: what somebody does elsewhere locks nobody out there."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

from ..errors import StateUnavailable
from ..processes import PerProcess
from .digests import message

if TYPE_CHECKING:
    from ..chain.ports import StateStore

KNOWN_ADDRESS_DAYS = 30
KNOWN_ADDRESS_TTL = KNOWN_ADDRESS_DAYS * 86400.0
KNOWN_ADDRESS_REFRESH = 86400.0
"""Seconds for which this process need not write down again that an account has logged in at an address."""
MAX_FRESH = 10_000
PAUSE = 5.0
"""Seconds for which a state that did not answer is left alone: what it is asked here, nobody has to wait for."""


class _Written:
    """What one process has written down, and until when it leaves the state alone."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.fresh: OrderedDict[str, float] = OrderedDict()
        self.ask_again = -math.inf


class KnownAddresses:
    """At which addresses an account has logged in; a state that does not answer knows none.

    :param max_fresh: for how many addresses this process knows that they are written down.
    """

    def __init__(self, state: StateStore, clock: Callable[[], float], *, max_fresh: int = MAX_FRESH) -> None:
        self._state = state
        self._clock = clock
        self._max_fresh = max_fresh
        self._written = PerProcess(_Written)

    def holds(self, *account_and_place: str) -> bool:
        """Tell whether this account has logged in there within 30 days."""
        if self._clock() < self._written.get().ask_again:
            return False
        try:
            return self._state.get(self._key(account_and_place)) is not None
        except StateUnavailable:
            self._leave_alone()
            return False

    def note(self, *account_and_place: str) -> None:
        """Write down a good login, once a day."""
        key = self._key(account_and_place)
        now = self._clock()
        written = self._written.get()
        with written.lock:
            if now < max(written.ask_again, written.fresh.get(key, -math.inf)):
                return
        try:
            self._state.put(key, True, KNOWN_ADDRESS_TTL)
        except StateUnavailable:
            self._leave_alone()
            return
        with written.lock:
            written.fresh[key] = now + KNOWN_ADDRESS_REFRESH
            written.fresh.move_to_end(key)
            if len(written.fresh) > self._max_fresh:
                written.fresh.popitem(last=False)

    def clear(self) -> None:
        """Forget what this process has written down; what stands in the state stays."""
        written = self._written.get()
        with written.lock:
            written.fresh.clear()

    def _leave_alone(self) -> None:
        self._written.get().ask_again = self._clock() + PAUSE

    @staticmethod
    def _key(parts: tuple[str, ...]) -> str:
        return "known-address:" + sha256(message(parts)).hexdigest()
