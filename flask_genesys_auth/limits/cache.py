"""A cache of values that were read or verified a short time ago, and the account store behind one."""

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
    """A read under way.

    :param began: when it began, before the call to the store.
    :param epoch: changes with every invalidation.
    """

    began: float
    epoch: object


class _Entry(NamedTuple, Generic[V]):
    value: V
    expires: float


def _expires(_: object, entry: _Entry[Any], __: float) -> float:
    return entry.expires


class _Entries(Generic[K, V]):
    """The entries of one process."""

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self.lock = Lock()
        self.epoch = object()
        self.by_key: TLRUCache[K, _Entry[V]] = TLRUCache(max_entries, _expires, clock)


class Cache(Generic[K, V]):
    """Caches values for a number of seconds, counted from the start of their read.

    A read that began before an invalidation is not cached: its value may be older than the change. A forked child
    begins with an empty cache, because it does not learn what its parent invalidates.

    :param seconds: 0 caches nothing.
    """

    def __init__(
        self, seconds: float, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._max_entries = max_entries
        self._clock = clock
        self._entries: PerProcess[_Entries[K, V]] = PerProcess(lambda: _Entries(max_entries, clock))

    def __repr__(self) -> str:
        return f"Cache({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return the number of entries, after expired ones were removed."""
        entries = self._entries.get()
        with entries.lock:
            return len(entries.by_key)

    def begin(self) -> Reading:
        """Note that a read begins now."""
        return Reading(self._clock(), self._entries.get().epoch)

    def get(self, key: K) -> V | None:
        """Return the cached value, or ``None``."""
        entries = self._entries.get()
        with entries.lock:
            entry = entries.by_key.get(key)
        return None if entry is None else entry.value

    def put(self, key: K, value: V, reading: Reading, *, seconds: float | None = None) -> None:
        """Cache the value of a read, unless something was invalidated after it began."""
        lifetime = self._seconds if seconds is None else seconds
        if lifetime <= 0:
            return
        entries = self._entries.get()
        with entries.lock:
            if reading.epoch is entries.epoch:
                entries.by_key[key] = _Entry(value, reading.began + lifetime)

    def read(self, key: K, read: Callable[[], V | None]) -> V | None:
        """Return the cached value, or else call ``read`` and cache what it returns, unless that is ``None``."""
        known = self.get(key)
        if known is not None:
            return known
        reading = self.begin()
        found = read()
        if found is not None:
            self.put(key, found, reading)
        return found

    def invalidate(self, key: K) -> None:
        """Remove this key; reads under way are not cached."""
        entries = self._entries.get()
        with entries.lock:
            entries.epoch = object()
            entries.by_key.pop(key, None)

    def discard(self, key: K) -> None:
        """Remove this key because a read has just found no value; reads under way are still cached."""
        entries = self._entries.get()
        with entries.lock:
            entries.by_key.pop(key, None)

    def clear(self) -> None:
        """Remove every key; reads under way are not cached."""
        entries = self._entries.get()
        with entries.lock:
            entries.epoch = object()
            entries.by_key.clear()


class CachedAccounts:
    """An account store that caches accounts looked up by id."""

    def __init__(self, accounts: AccountStore[Any], cache: Cache[str, Any]) -> None:
        self._accounts = accounts
        self._cache = cache

    def find(self, identity: Identity) -> Any:
        """Read the account of this identity from the store."""
        return self._accounts.find(identity)

    def get(self, account_id: str) -> Any:
        """Return the account with this id, from the cache or from the store."""
        return self._cache.read(account_id, lambda: self._accounts.get(account_id))

    def clear(self) -> None:
        """Remove every account from the cache."""
        self._cache.clear()


def cached_accounts(
    accounts: AccountStore[Any], seconds: float, *, clock: Callable[[], float] = time.monotonic
) -> CachedAccounts | None:
    """Return a store that caches the accounts of this one, or ``None`` if they must not be cached."""
    if seconds <= 0 or not isinstance(accounts, PlainAccounts):
        return None
    cached = CachedAccounts(accounts, Cache(seconds, clock=clock))
    accounts.on_change(cached.clear)
    return cached
