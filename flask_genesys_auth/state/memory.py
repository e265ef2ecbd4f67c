"""Store the state in the memory of this process: for tests, and for an application in a single process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from ..checks import Check
from ..processes import PerProcess
from .values import BATCH, batches, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.protocols import Json


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    expires: float
    terms: frozenset[str]


class _Memory:
    """The entries of one process; hold the lock to change them, or to read more than one attribute."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.entries: dict[str, _Entry] = {}
        self.index: dict[str, set[str]] = {}
        self.ends: list[tuple[float, str]] = []

    def store(self, key: str, entry: _Entry) -> None:
        self.entries[key] = entry
        for term in entry.terms:
            self.index.setdefault(term, set()).add(key)
        heappush(self.ends, (entry.expires, key))
        if len(self.ends) > 2 * len(self.entries) + 64:
            # Drop the expiry times of deleted and replaced entries, which would outnumber the others.
            self.ends = [(held.expires, name) for name, held in self.entries.items()]
            heapify(self.ends)

    def drop(self, key: str) -> _Entry | None:
        entry = self.entries.pop(key, None)
        for term in () if entry is None else entry.terms:
            keys = self.index[term]
            keys.discard(key)
            if not keys:
                del self.index[term]
        return entry

    def expire(self, now: float) -> int:
        gone = 0
        while self.ends and self.ends[0][0] <= now:
            _, key = heappop(self.ends)
            entry = self.entries.get(key)
            if entry is not None and entry.expires <= now:
                self.drop(key)
                gone += 1
        return gone


class MemoryState:
    """Implements :class:`~flask_genesys_auth.chain.protocols.StateStore` in a dictionary.

    Writes delete expired entries, so that the memory in use follows the number of unexpired ones. A forked child starts
    empty: several processes need another store.

    :param namespace: the name of the store.
    :param clock: seconds of a monotonic clock.
    """

    def __init__(self, namespace: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.namespace = namespace
        self._clock = clock
        self._memory = PerProcess(_Memory)

    def __repr__(self) -> str:
        return f"MemoryState({self.namespace!r})"

    def checks(self) -> Iterator[Check]:
        """Yield a warning: other processes do not see this state."""
        yield Check(
            "state.memory",
            "warning",
            "the state is in the memory of each process: with several processes logins fail, and a restart ends all",
            "set state_url to a SQLite file, PostgreSQL or Redis; for one process in development this is fine",
        )

    def __len__(self) -> int:
        """Return the number of entries, including expired ones that are not yet deleted."""
        return len(self._memory.get().entries)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of the entries that ``len()`` counts."""
        return iter(list(self._memory.get().entries))

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key exists (atomic); return whether it was stored."""
        entry = self._entry(key, value, ttl, index)
        with self._current() as memory:
            if key in memory.entries:
                return False
            memory.store(key, entry)
            return True

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store or replace a value; ``index`` replaces the key's index terms."""
        entry = self._entry(key, value, ttl, index)
        with self._current() as memory:
            memory.drop(key)
            memory.store(key, entry)

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Replace the value of an existing key (atomic) and keep its index terms; return whether it existed."""
        entry = self._entry(key, value, ttl, ())
        with self._current() as memory:
            former = memory.entries.get(key)
            if former is None:
                return False
            memory.drop(key)
            memory.store(key, _Entry(entry.text, entry.expires, former.terms))
            return True

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` if the key does not exist or has expired."""
        entry = self._memory.get().entries.get(check_key(key))
        return load(entry.text) if entry is not None and entry.expires > self._clock() else None

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key as :meth:`get` does."""
        return [self.get(key) for key in keys]

    def take(self, key: str) -> Json:
        """Delete the key and return its value, or ``None`` (atomic: only one of several callers gets the value)."""
        check_key(key)
        with self._current() as memory:
            entry = memory.drop(key)
        return None if entry is None else load(entry.text)

    def delete(self, key: str) -> bool:
        """Delete the key; return whether it existed."""
        check_key(key)
        with self._current() as memory:
            return memory.drop(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the existing keys with this index term."""
        check_key(term)
        with self._current() as memory:
            return sorted(memory.index.get(term, ()))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the existing keys with this index term in batches."""
        yield from batches(self.find(term))

    def delete_found(self, term: str) -> int:
        """Delete up to one batch of existing keys with this index term (atomic); return how many."""
        check_key(term)
        with self._current() as memory:
            found = list(islice(memory.index.get(term, ()), BATCH))
            for key in found:
                memory.drop(key)
        return len(found)

    def purge(self) -> int:
        """Delete expired entries; return how many."""
        memory = self._memory.get()
        with memory.lock:
            return memory.expire(self._clock())

    def clear(self) -> None:
        """Delete all entries (for tests)."""
        with self._current() as memory:
            memory.entries.clear()
            memory.index.clear()
            memory.ends.clear()

    def close(self) -> None:
        """Do nothing: there is no connection, and the entries stay."""

    def _entry(self, key: str, value: Json, ttl: float, index: Iterable[str]) -> _Entry:
        check_key(key)
        return _Entry(dump(value), self._clock() + check_ttl(ttl), check_terms(index))

    @contextmanager
    def _current(self) -> Iterator[_Memory]:
        """Lock the memory of this process and delete expired entries."""
        memory = self._memory.get()
        with memory.lock:
            memory.expire(self._clock())
            yield memory
