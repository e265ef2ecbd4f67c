"""Slots within moving windows of time, counted in this process."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from ..chain.decision import Unavailable
from ..chain.ports import Reservation
from ..checks import Check
from ..config.rules import parse_limit
from ..processes import PerProcess

MAX_KEYS = 50_000
"""How many accounts or addresses one limit keeps count of; one key takes about 300 bytes."""
EVICTION_SAMPLE = 16


@dataclass(frozen=True, slots=True)
class Limit:
    """So many slots within any span of so long.

    :param name: tells limits apart that count the same keys.
    :param amount: slots.
    :param span: seconds.
    """

    name: str
    amount: int
    span: float

    @classmethod
    def of(cls, name: str, notation: str) -> Limit:
        """Read the notation of ``limits``, such as ``"10 per 5 minutes"``.

        :raises ValueError: if it is none.
        """
        amount, span = parse_limit(notation)
        return cls(name, amount, float(span))


Wanted = tuple[Limit, bytes]
"""One slot of this limit, for this key."""


class Ledger(Protocol):
    """Where slots are counted."""

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation | list[float] | Unavailable:
        """Take one slot of each (atomic), or none: the seconds until each has one, or why nobody can tell."""
        ...

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot as far as this process knows; 0 if there is one. Takes none."""
        ...

    def look(self, wanted: Sequence[Wanted]) -> list[float] | Unavailable:
        """Return the seconds until each has a slot, 0 where it has, or why nobody can tell. Takes none."""
        ...

    @property
    def shared(self) -> bool:
        """Tell whether what other processes have taken counts."""
        ...

    def clear(self) -> None:
        """Forget every slot that was taken."""
        ...


class _Window:
    """A moving window of slots per key: never more than the limit's amount within any span of its length.

    The window moves because a returned slot must be that very slot: with counters of fixed windows, one that was
    taken in the last window and is returned in this one would be an extra guess. For the same reason, and because
    its timers race with the calls and its memory has no bound, this is not the memory storage of ``limits``.
    Guarded by its owner's lock.
    """

    def __init__(self, limit: Limit, max_keys: int) -> None:
        self._amount = limit.amount
        self._span = limit.span
        self._max_keys = max_keys
        # In the order of their newest slot, so that what has expired whole stands first.
        self._slots: OrderedDict[bytes, list[float]] = OrderedDict()
        self.in_use = self._slots.keys()

    def __len__(self) -> int:
        return len(self._slots)

    def wait(self, key: bytes, now: float) -> float:
        """Return the seconds until a slot is free; 0 if one is."""
        if self._amount == 0:
            return self._span
        taken = self._slots.get(key)
        if taken is None or len(taken) < self._amount:
            return 0.0
        return max(0.0, taken[-self._amount] + self._span - now)

    def take(self, key: bytes, now: float) -> None:
        """Take a slot that is free; ``now`` names it."""
        taken = self._slots.setdefault(key, [])
        while taken and taken[0] + self._span <= now:
            del taken[0]
        taken.append(now)
        self._slots.move_to_end(key)
        self._make_room(now)

    def give_back(self, key: bytes, taken_at: float) -> None:
        """Return a slot, if it has not expired or gone by itself."""
        taken = self._slots.get(key)
        if taken is not None and taken_at in taken:
            taken.remove(taken_at)
            if not taken:
                del self._slots[key]

    def _make_room(self, now: float) -> None:
        # Ends with the slot that has just been taken, if not before.
        while self._slots[oldest := next(iter(self._slots))][-1] + self._span <= now:
            del self._slots[oldest]
        if len(self._slots) > self._max_keys:
            # Whoever floods us with names must not wash away the one that is nearly at its limit.
            sample = [key for key, _ in zip(self._slots, range(EVICTION_SAMPLE), strict=False)]
            del self._slots[min(sample, key=lambda key: len(self._slots[key]))]


class _Counts:
    """The slots that one process has taken, by limit."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.windows: dict[Limit, _Window] = {}
        self._last = -math.inf

    def moment(self, now: float) -> float:
        """Return a moment that no other reservation has, so that it names a slot."""
        self._last = max(now, math.nextafter(self._last, math.inf))
        return self._last


class LocalLedger:
    """Implements :class:`Ledger` in this process: of the slots that a caller asks for, all are taken or none.

    A forked child begins without a slot taken.

    :param clock: seconds that never go back.
    :param max_keys: how many keys each limit keeps count of; when there are more within its span, those with the
        fewest slots taken are forgotten.
    """

    shared = False

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._counts = PerProcess(_Counts)

    def checks(self) -> Iterator[Check]:
        """Yield where failures are counted."""
        finding = "each process counts failures for itself: several processes let through as many times the guesses"
        yield Check("throttle.storage", "ok", finding)

    def count(self, limit: Limit) -> int:
        """Return how many keys of this limit are kept count of."""
        return len(self._counts.get().windows.get(limit, ()))

    def reserve(self, wanted: Sequence[Wanted]) -> LocalSlots | list[float]:
        """Take one slot of each, or none and return the seconds until each has one."""
        counts = self._counts.get()
        with counts.lock:
            now = counts.moment(self._clock())
            slots = [(counts.windows.setdefault(limit, _Window(limit, self._max_keys)), key) for limit, key in wanted]
            waits = [window.wait(key, now) for window, key in slots]
            if any(waits):
                return waits
            for window, key in slots:
                window.take(key, now)
        return LocalSlots(self, counts, slots, now)

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot; 0 if there is one. Takes none."""
        counts = self._counts.get()
        window = counts.windows.get(limit)
        if window is None or not window.in_use:
            return 0.0
        with counts.lock:
            return window.wait(key, self._clock())

    def look(self, wanted: Sequence[Wanted]) -> list[float]:
        """Return the seconds until each has a slot, 0 where it has. Takes none."""
        return [self.wait(limit, key) if limit.amount else limit.span for limit, key in wanted]

    def give_back(self, taken_from: _Counts, slots: list[tuple[_Window, bytes]], taken_at: float) -> None:
        """Return what :meth:`reserve` took at that moment, unless another process took it."""
        if taken_from is not self._counts.get():
            return
        with taken_from.lock:
            for window, key in slots:
                window.give_back(key, taken_at)

    def clear(self) -> None:
        """Forget every slot that was taken."""
        counts = self._counts.get()
        with counts.lock:
            counts.windows.clear()


class LocalSlots:
    """Slots taken together, returned at most once."""

    def __init__(
        self, ledger: LocalLedger, counts: _Counts, slots: list[tuple[_Window, bytes]], taken_at: float
    ) -> None:
        self._ledger = ledger
        self._counts = counts
        self._slots = slots
        self._taken_at = taken_at

    def succeeded(self) -> None:
        """Return the slots: the credentials were good."""
        self.void()

    def void(self) -> None:
        """Return the slots: nobody has said whether the credentials are good."""
        self._ledger.give_back(self._counts, self._slots, self._taken_at)
