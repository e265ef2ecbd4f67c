"""What was read or verified a short time ago, so that not every request has to ask a store or a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from cachetools import TLRUCache

from ..chain.protocols import PlainAccounts
from ..processes import PerProcess

if TYPE_CHECKING:
    from ..chain.outcomes import Identity
    from ..chain.protocols import AccountStore

MAX_ENTRIES = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Reading(NamedTuple):
    """A read that has begun.

    :param began: when, before the store was asked.
    :param epoch: changes whenever something is forgotten.
    """

    began: float
    epoch: object


class _Entry(NamedTuple, Generic[V]):
    value: V
    expires: float


def _expires(_: object, entry: _Entry[Any], __: float) -> float:
    return entry.expires


class Cache(Generic[K, V]):
    """Values of one process, each until its own end, which counts from the start of its read.

    A read that began before something was forgotten is not stored: its value may be older than that.

    :param max_entries: the least recently used goes when there are more.
    :param clock: seconds that never go back.
    """

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._epoch = object()
        self._entries: TLRUCache[K, _Entry[V]] = TLRUCache(max_entries, _expires, clock)

    def __len__(self) -> int:
        # It removes expired entries.
        with self._lock:
            return len(self._entries)

    def begin(self) -> Reading:
        """Note that a read begins now."""
        return Reading(self._clock(), self._epoch)

    def recall(self, key: K) -> V | None:
        """Return the value of this key unless it has expired."""
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None else entry.value

    def remember(self, key: K, value: V, seconds: float, reading: Reading) -> None:
        """Remember what a read has found for so many seconds from its start."""
        if seconds <= 0:
            return
        with self._lock:
            if reading.epoch is self._epoch:
                self._entries[key] = _Entry(value, reading.began + seconds)

    def forget(self, key: K) -> None:
        """Forget this key, and do not store reads under way."""
        with self._lock:
            self._epoch = object()
            self._entries.pop(key, None)

    def drop(self, key: K) -> None:
        """Forget this key: a read has just found nothing there."""
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything, and do not store reads under way."""
        with self._lock:
            self._epoch = object()
            self._entries.clear()


class Recent(Generic[V]):
    """Remembers values for a number of seconds, counted from before they were read.

    A forked child begins empty, because it does not learn what its parent forgets.

    :param seconds: 0 remembers nothing.
    :param max_entries: the least recently used goes when there are more.
    :param clock: seconds that never go back.
    """

    def __init__(
        self, seconds: float, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._max_entries = max_entries
        self._cache: PerProcess[Cache[str, V]] = PerProcess(lambda: Cache(max_entries, clock))

    def __repr__(self) -> str:
        return f"Recent({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return how many values are held, expired ones that have not gone yet included."""
        return len(self._cache.get())

    def begin(self) -> Reading:
        """Note that a read begins now."""
        return self._cache.get().begin()

    def recall(self, key: str) -> V | None:
        """Return what was read of this key, if that is not too long ago."""
        return self._cache.get().recall(key)

    def remember(self, key: str, value: V, reading: Reading) -> None:
        """Remember what a read has found, unless something was forgotten since it began."""
        self._cache.get().remember(key, value, self._seconds, reading)

    def read(self, key: str, read: Callable[[], V | None]) -> V | None:
        """Return what is remembered, or else what ``read`` finds, which is remembered unless it is ``None``."""
        known = self.recall(key)
        if known is not None:
            return known
        reading = self.begin()
        found = read()
        if found is not None:
            self.remember(key, found, reading)
        return found

    def forget(self, key: str) -> None:
        """Forget this key, and do not store reads under way."""
        self._cache.get().forget(key)

    def drop(self, key: str) -> None:
        """Forget this key: a read has just found nothing there."""
        self._cache.get().drop(key)

    def clear(self) -> None:
        """Forget everything, and do not store reads under way."""
        self._cache.get().clear()


class RecentAccounts:
    """An account store whose accounts, looked up by id, may have been read a short time ago.

    :param accounts: the store that is read.
    :param recent: what was read.
    """

    def __init__(self, accounts: AccountStore[Any], recent: Recent[Any]) -> None:
        self._accounts = accounts
        self._recent = recent

    def find(self, identity: Identity) -> Any:
        """Return the account that this identity is, read now."""
        return self._accounts.find(identity)

    def get(self, account_id: str) -> Any:
        """Return the account of this id, remembered or read now."""
        return self._recent.read(account_id, lambda: self._accounts.get(account_id))

    def clear(self) -> None:
        """Forget every account."""
        self._recent.clear()


def recent_accounts(
    accounts: AccountStore[Any], seconds: float, *, clock: Callable[[], float] = time.monotonic
) -> RecentAccounts | None:
    """Return a store that remembers the accounts of this one, or ``None`` if they must not be remembered."""
    if seconds <= 0 or not isinstance(accounts, PlainAccounts):
        return None
    recent = RecentAccounts(accounts, Recent(seconds, clock=clock))
    accounts.on_change(recent.clear)
    return recent
