"""Credentials found good, remembered in this process for a short time, without keeping the credentials."""

from __future__ import annotations

import hmac
import secrets as randomness
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from .forks import fork_safe_lock, watch_forks

if TYPE_CHECKING:
    from .chain.ports import Remembered

MAX_ENTRIES = 10_000


class VerifiedMemory:
    """Implements :class:`~flask_genesys_auth.chain.ports.VerifiedCredentials`.

    What is kept is an HMAC-SHA256 (RFC 2104) under a random key of this process, so that no memory dump gives a
    credential away, nor a way to try guesses without the key. A forked child has a key of its own and begins empty.

    :param max_entries: the least recently used goes when there are more.
    :param clock: seconds that never go back.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic) -> None:
        if max_entries < 1:
            raise ValueError("max_entries is at least 1")
        self._max_entries = max_entries
        self._clock = clock
        self._lock = fork_safe_lock()
        self._begin()
        watch_forks(self)

    def __repr__(self) -> str:
        return f"VerifiedMemory({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return how many results are held, expired ones that have not gone yet included."""
        return len(self._entries)

    def recall(self, kind: str, contact_center: str, address: str, *secrets: str) -> Remembered | None:
        """Return what was remembered of exactly these credentials from exactly this address."""
        key = self._digest(kind, contact_center, address, *secrets)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[0] <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def remember(
        self, kind: str, contact_center: str, address: str, *secrets: str, result: Remembered, seconds: float
    ) -> None:
        """Remember a result; 0 seconds remember nothing."""
        if seconds <= 0:
            return
        key = self._digest(kind, contact_center, address, *secrets)
        with self._lock:
            now = self._clock()
            self._entries[key] = (now + seconds, result)
            self._entries.move_to_end(key)
            self._drop_idle(now)

    def forget(self, kind: str, contact_center: str, address: str, *secrets: str) -> None:
        """Forget what was remembered of these credentials."""
        key = self._digest(kind, contact_center, address, *secrets)
        with self._lock:
            self._entries.pop(key, None)

    def before_fork(self) -> None:
        """Do nothing: the parent keeps what it knows."""

    def after_fork(self) -> None:
        """Begin anew: a key that two processes know is one too many."""
        self._begin()

    def _begin(self) -> None:
        self._key = randomness.token_bytes(32)
        self._entries: OrderedDict[bytes, tuple[float, Remembered]] = OrderedDict()

    def _digest(self, *parts: str) -> bytes:
        # Each part with its length before it: no two different sequences make the same message.
        message = bytearray()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            message += len(encoded).to_bytes(8, "big")
            message += encoded
        return hmac.digest(self._key, message, "sha256")

    def _drop_idle(self, now: float) -> None:
        """Drop the least recently used while there are too many, or they have expired."""
        while self._entries:
            key, (expires, _) = next(iter(self._entries.items()))
            if len(self._entries) <= self._max_entries and expires > now:
                return
            del self._entries[key]
