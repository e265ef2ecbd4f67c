"""What was read from a store a short time ago, so that not every request has to ask it."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from .chain.ports import PlainAccounts
from .processes import PerProcess

if TYPE_CHECKING:
    from .chain.ports import AccountState, AccountStore

MAX_ENTRIES = 10_000

V = TypeVar("V")


class Reading(NamedTuple):
    """A read that has begun.

    :param began: when, before the store was asked.
    :param epoch: what had been forgotten by then.
    """

    began: float
    epoch: object


class _Entries(Generic[V]):
    """What one process remembers."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.clear()

    def clear(self) -> None:
        self.epoch = object()
        self.of: dict[str, tuple[float, V]] = {}


class Recent(Generic[V]):
    """Remembers values for a number of seconds, counted from before they were read.

    Of what is forgotten while somebody reads it, nothing is remembered: that read may be of what was there before.
    A forked child begins empty, because it does not learn what its parent forgets. All values live equally long,
    so that the one read first is the one that goes first, at its end or for want of room.

    :param seconds: 0 remembers nothing.
    :param max_entries: the one that was read first goes when there are more.
    :param clock: seconds that never go back.
    """

    def __init__(
        self, seconds: float, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._max_entries = max_entries
        self._clock = clock
        self._entries: PerProcess[_Entries[V]] = PerProcess(_Entries)

    def __repr__(self) -> str:
        return f"Recent({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return how many values are held, those included whose time is over and that have not gone yet."""
        return len(self._entries.get().of)

    def recall(self, key: str) -> V | None:
        """Return what was read of this key, if that is not too long ago."""
        entry = self._entries.get().of.get(key)
        return entry[1] if entry is not None and self._clock() - entry[0] < self._seconds else None

    def begin(self) -> Reading:
        """Note that a read begins now."""
        return Reading(self._clock(), self._entries.get().epoch)

    def remember(self, key: str, value: V, reading: Reading) -> None:
        """Remember what a read has found, unless something was forgotten since it began."""
        if self._seconds <= 0:
            return
        entries = self._entries.get()
        with entries.lock:
            if reading.epoch is not entries.epoch:
                return
            # What is entered anew stands last.
            entries.of.pop(key, None)
            entries.of[key] = (reading.began, value)
            self._drop_old(entries.of)

    def read(self, key: str, read: Callable[[], V | None]) -> V | None:
        """Return what is remembered, or else what ``read`` finds, which is remembered if it is anything."""
        known = self.recall(key)
        if known is not None:
            return known
        reading = self.begin()
        found = read()
        if found is not None:
            self.remember(key, found, reading)
        return found

    def forget(self, key: str) -> None:
        """Forget this key, whoever may be reading it."""
        entries = self._entries.get()
        with entries.lock:
            entries.epoch = object()
            entries.of.pop(key, None)

    def drop(self, key: str) -> None:
        """Forget what is remembered of this key: somebody has just read that it is there no more."""
        entries = self._entries.get()
        with entries.lock:
            entries.of.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        entries = self._entries.get()
        with entries.lock:
            entries.clear()

    def _drop_old(self, entries: dict[str, tuple[float, V]]) -> None:
        over = self._clock() - self._seconds
        while entries:
            key, (began, _) = next(iter(entries.items()))
            if len(entries) <= self._max_entries and began > over:
                return
            del entries[key]


def recent_accounts(accounts: AccountStore[Any], seconds: float) -> Recent[tuple[Any, AccountState]] | None:
    """Return a memory for the accounts of this store, or ``None`` where none of them may be remembered."""
    if seconds <= 0 or not isinstance(accounts, PlainAccounts):
        return None
    recent: Recent[tuple[Any, AccountState]] = Recent(seconds)
    accounts.on_change(recent.clear)
    return recent
