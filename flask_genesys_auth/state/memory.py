"""The state in this process's own memory: for tests, and for an application that is one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from ..processes import PerProcess
from .health import memory_checks
from .values import BATCH, batches, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.protocols import Json
    from ..checks import Check


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    expires: float
    terms: frozenset[str]


class _Memory:
    """The entries of one process; who changes or reads more than one thing holds the lock."""

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
            # Ends of entries that were deleted or replaced since: they must not outgrow what lives.
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

    What has expired goes in passing, at writes, so that memory follows what lives. A forked child begins with nothing:
    several processes need another store.

    :param namespace: whose state this is. Nobody else can reach this memory, so it only names the store.
    :param clock: seconds that never go back.
    """

    def __init__(self, namespace: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.namespace = namespace
        self._clock = clock
        self._memory = PerProcess(_Memory)

    def __repr__(self) -> str:
        return f"MemoryState({self.namespace!r})"

    def checks(self) -> Iterator[Check]:
        """Yield what is to be said of keeping the state in memory."""
        return memory_checks()

    def __len__(self) -> int:
        """Return how many entries are held, expired ones that have not gone yet included."""
        return len(self._memory.get().entries)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of the entries that ``len()`` counts."""
        return iter(list(self._memory.get().entries))

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        entry = self._entry(key, value, ttl, index)
        with self._current() as memory:
            if key in memory.entries:
                return False
            memory.store(key, entry)
            return True

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        entry = self._entry(key, value, ttl, index)
        with self._current() as memory:
            memory.drop(key)
            memory.store(key, entry)

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        entry = self._entry(key, value, ttl, ())
        with self._current() as memory:
            former = memory.entries.get(key)
            if former is None:
                return False
            memory.drop(key)
            memory.store(key, _Entry(entry.text, entry.expires, former.terms))
            return True

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        entry = self._memory.get().entries.get(check_key(key))
        return load(entry.text) if entry is not None and entry.expires > self._clock() else None

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        return [self.get(key) for key in keys]

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        check_key(key)
        with self._current() as memory:
            entry = memory.drop(key)
        return None if entry is None else load(entry.text)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        check_key(key)
        with self._current() as memory:
            return memory.drop(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        check_key(term)
        with self._current() as memory:
            return sorted(memory.index.get(term, ()))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself."""
        yield from batches(self.find(term))

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic); return how many."""
        check_key(term)
        with self._current() as memory:
            found = list(islice(memory.index.get(term, ()), BATCH))
            for key in found:
                memory.drop(key)
        return len(found)

    def purge(self) -> int:
        """Delete what has expired; return how many."""
        memory = self._memory.get()
        with memory.lock:
            return memory.expire(self._clock())

    def clear(self) -> None:
        """Delete everything, for tests."""
        with self._current() as memory:
            memory.entries.clear()
            memory.index.clear()
            memory.ends.clear()

    def close(self) -> None:
        """Do nothing: there is no connection, and what is stored stays."""

    def _entry(self, key: str, value: Json, ttl: float, index: Iterable[str]) -> _Entry:
        check_key(key)
        return _Entry(dump(value), self._clock() + check_ttl(ttl), check_terms(index))

    @contextmanager
    def _current(self) -> Iterator[_Memory]:
        """Hold the memory of this process, rid of what has expired."""
        memory = self._memory.get()
        with memory.lock:
            memory.expire(self._clock())
            yield memory
