"""Credentials found good, remembered in this process for a short time, without keeping the credentials."""

from __future__ import annotations

import hmac
import secrets as randomness
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from .chain.decision import Reason, Unavailable
from .processes import PerProcess

if TYPE_CHECKING:
    from .chain.ports import Flight, Remembered

MAX_ENTRIES = 10_000
PATIENCE = 1.0
"""Seconds from the beginning of a verification for which any number of requests wait for it."""
PATIENT = 3
"""How many requests of one process may wait longer: with the default ``concurrent_calls`` fewer than 8 threads."""
LONGEST_WAIT = 30.0
"""Seconds after which they do not, either; every step has a deadline far below."""

_TOO_MANY = Unavailable(
    Reason.UPSTREAM_BUSY,
    retry_after=1,
    detail=f"the same credentials take more than {PATIENCE:g} s to verify, and {PATIENT} requests wait already",
    uncounted=True,
)


class _Flight:
    """One verification; the events of all requests that wait for it are this one's."""

    def __init__(self, key: bytes, kept: _Kept, patience: float) -> None:
        self._key = key
        self._kept = kept
        self._in_good_time = time.monotonic() + patience
        self._landed = threading.Event()
        self._result: Remembered | None = None

    def land(self, result: Remembered | None) -> None:
        if not self._landed.is_set():
            self._result = result
            self._kept.gone(self._key, self)
            self._landed.set()

    def wait(self) -> Remembered | Unavailable | None:
        if self._landed.wait(max(0.0, self._in_good_time - time.monotonic())):
            return self._result
        # Whoever is asked is slow. Each that waits holds a thread, and no bound on calls counts it.
        places = self._kept.patient
        if not places.acquire(blocking=False):
            return _TOO_MANY
        try:
            return self._result if self._landed.wait(LONGEST_WAIT) else None
        finally:
            places.release()


class _Kept:
    """What one process keeps: its key, results under that key, and the verifications under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # Made once: OpenSSL takes longer to find the algorithm than to run it.
        self._key = hmac.new(randomness.token_bytes(32), digestmod="sha256")
        self.entries: OrderedDict[bytes, tuple[float, Remembered]] = OrderedDict()
        self.flights: dict[bytes, _Flight] = {}
        self.patient = threading.BoundedSemaphore(PATIENT)

    def digest(self, *parts: str) -> bytes:
        # Each part with its length before it: no two different sequences make the same message.
        message = "".join([f"{len(part)}:{part}" for part in parts])
        code = self._key.copy()
        code.update(message.encode("utf-8", "surrogatepass"))
        return code.digest()

    def gone(self, key: bytes, flight: _Flight) -> None:
        with self.lock:
            if self.flights.get(key) is flight:
                del self.flights[key]

    def drop_idle(self, now: float, max_entries: int) -> None:
        """Drop the least recently used while there are too many, or they have expired."""
        while self.entries:
            key, (expires, _) = next(iter(self.entries.items()))
            if len(self.entries) <= max_entries and expires > now:
                return
            del self.entries[key]


class _Leader:
    leads = True

    def __init__(self, flight: _Flight) -> None:
        self.land = flight.land

    def wait(self) -> Remembered | None:
        """Return nothing: there is nobody to wait for."""
        return None


class _Follower:
    leads = False

    def __init__(self, flight: _Flight) -> None:
        self.wait = flight.wait

    def land(self, result: Remembered | None) -> None:
        """Do nothing: it is another's flight."""


class VerifiedMemory:
    """Implements :class:`~flask_genesys_auth.chain.ports.VerifiedCredentials`.

    What is kept is an HMAC-SHA256 (RFC 2104) under a random key of this process, so that no memory dump gives a
    credential away, nor a way to try guesses without the key. A forked child has a key of its own and begins empty.

    :param max_entries: the least recently used goes when there are more.
    :param patience: seconds from the beginning of a verification for which any number of requests wait for it; after
        that no more than :data:`PATIENT` do, and the others are told to come back.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1:
            raise ValueError("max_entries is at least 1")
        self._patience = patience
        self._max_entries = max_entries
        self._clock = clock
        self._kept = PerProcess(_Kept)

    def __repr__(self) -> str:
        return f"VerifiedMemory({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return how many results are held, expired ones that have not gone yet included."""
        return len(self._kept.get().entries)

    def recall(self, kind: str, contact_center: str, address: str, *secrets: str) -> Remembered | None:
        """Return what was remembered of exactly these credentials from exactly this address."""
        kept = self._kept.get()
        key = kept.digest(kind, contact_center, address, *secrets)
        with kept.lock:
            entry = kept.entries.get(key)
            if entry is None:
                return None
            if entry[0] <= self._clock():
                del kept.entries[key]
                return None
            kept.entries.move_to_end(key)
            return entry[1]

    def remember(
        self, kind: str, contact_center: str, address: str, *secrets: str, result: Remembered, seconds: float
    ) -> None:
        """Remember a result; 0 seconds remember nothing."""
        if seconds <= 0:
            return
        kept = self._kept.get()
        key = kept.digest(kind, contact_center, address, *secrets)
        with kept.lock:
            now = self._clock()
            kept.entries[key] = (now + seconds, result)
            kept.entries.move_to_end(key)
            kept.drop_idle(now, self._max_entries)

    def board(self, kind: str, contact_center: str, address: str, *secrets: str) -> Flight:
        """Join those who wait for exactly these credentials from exactly this address, or be the first."""
        kept = self._kept.get()
        key = kept.digest(kind, contact_center, address, *secrets)
        with kept.lock:
            known = kept.flights.get(key)
            if known is not None:
                return _Follower(known)
            begun = kept.flights[key] = _Flight(key, kept, self._patience)
        return _Leader(begun)

    def forget(self, kind: str, contact_center: str, address: str, *secrets: str) -> None:
        """Forget what was remembered of these credentials."""
        kept = self._kept.get()
        key = kept.digest(kind, contact_center, address, *secrets)
        with kept.lock:
            kept.entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything; who waits for a verification under way goes on waiting for it."""
        kept = self._kept.get()
        with kept.lock:
            kept.entries.clear()
