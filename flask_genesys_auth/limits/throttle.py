"""The throttle: limits failed credentials by account and client address.

A slot is taken before a server is called, and returned if the credentials were good. A slot that stays taken counts as
a failure until its time span is over.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b, sha256
from ipaddress import IPv6Address
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from ..chain.evidence import read_address
from ..chain.outcomes import Reason, Unavailable
from ..checks import Check
from ..config.names import fold_loosely
from ..config.rules import parse_limit
from ..errors import StateUnavailable
from ..processes import PerProcess
from .cache import MAX_ENTRIES, Cache

if TYPE_CHECKING:
    from ..chain.protocols import StateStore
    from ..config.settings import ThrottleSettings

MAX_KEYS = 50_000
"""Accounts or addresses that one limit counts; a key takes about 300 bytes."""
EVICTION_SAMPLE = 16
LOGINS_PER_FAILURE = 10
KNOWN_ADDRESS_TTL = 30 * 86400.0
KNOWN_ADDRESS_REFRESH = 86400.0
"""Seconds after which a process writes an address of an account to the state again."""
PAUSE = 5.0
"""Seconds during which the state is not called after a failure, so that no request waits for it here."""


class Reservation(ABC):
    """Slots taken before a server is called; each counts as a failure unless it is returned."""

    @abstractmethod
    def void(self) -> None:
        """Return the slots: nothing has shown whether the credentials are good. Only the first call counts."""

    def succeeded(self) -> None:
        """Return the slots: the credentials were good."""
        self.void()


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of slots within any time span of a fixed length.

    :param name: distinguishes limits that count the same keys.
    :param span: seconds.
    """

    name: str
    amount: int
    span: float

    @classmethod
    def of(cls, name: str, notation: str) -> Limit:
        """Read the notation of ``limits``, such as ``"10 per 5 minutes"``.

        :raises ValueError: if the text is not in that notation.
        """
        amount, span = parse_limit(notation)
        return cls(name, amount, float(span))


Wanted = tuple[Limit, bytes]
"""One slot of this limit, for this key."""


class Ledger(Protocol):
    """Counts slots."""

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation | list[float] | Unavailable:
        """Take one slot of each limit, or none (atomic).

        :returns: if there is no slot, the seconds until each limit has one; ``Unavailable`` if the ledger fails.
        """
        ...

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot, as far as this process knows. Takes none."""
        ...

    def look(self, wanted: Sequence[Wanted]) -> list[float] | Unavailable:
        """Return the seconds until each limit has a slot, or ``Unavailable`` if the ledger fails. Takes none."""
        ...

    @property
    def shared(self) -> bool:
        """Return whether the slots of other processes count."""
        ...

    def clear(self) -> None:
        """Return every slot."""
        ...


class _Window:
    """A sliding window of slots per key, guarded by its owner's lock.

    The window slides because a returned slot must be the very slot that was taken. With counters of fixed windows, a
    slot taken in the last window and returned in this one would allow an extra guess. The memory storage of ``limits``
    counts that way; also its timers race with calls, and its memory is not bounded.
    """

    def __init__(self, limit: Limit, max_keys: int) -> None:
        self._amount = limit.amount
        self._span = limit.span
        self._max_keys = max_keys
        # In the order of their newest slot, so that keys with expired slots only come first.
        self._slots: OrderedDict[bytes, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    def wait(self, key: bytes, now: float) -> float:
        """Return the seconds until a slot is free."""
        if self._amount == 0:
            return self._span
        taken = self._slots.get(key)
        if taken is None or len(taken) < self._amount:
            return 0.0
        return max(0.0, taken[-self._amount] + self._span - now)

    def take(self, key: bytes, now: float) -> None:
        """Take a free slot; ``now`` identifies it."""
        taken = self._slots.setdefault(key, [])
        while taken and taken[0] + self._span <= now:
            del taken[0]
        taken.append(now)
        self._slots.move_to_end(key)
        self._make_room(now)

    def give_back(self, key: bytes, taken_at: float) -> None:
        """Return a slot, unless it has expired or was evicted."""
        taken = self._slots.get(key)
        if taken is not None and taken_at in taken:
            taken.remove(taken_at)
            if not taken:
                del self._slots[key]

    def _make_room(self, now: float) -> None:
        # The loop ends at the latest with the slot that was just taken.
        while self._slots[oldest := next(iter(self._slots))][-1] + self._span <= now:
            del self._slots[oldest]
        if len(self._slots) > self._max_keys:
            # A flood of invented names must not evict a key that is close to its limit.
            sample = [key for key, _ in zip(self._slots, range(EVICTION_SAMPLE), strict=False)]
            del self._slots[min(sample, key=lambda key: len(self._slots[key]))]


class _Counts:
    """The slots taken in one process, by limit."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.windows: dict[Limit, _Window] = {}
        self._last = -math.inf

    def moment(self, now: float) -> float:
        """Return a time that no other reservation has, so that it identifies a slot."""
        self._last = max(now, math.nextafter(self._last, math.inf))
        return self._last


class LocalLedger:
    """Implements :class:`Ledger` in this process. A forked child begins with no slot taken.

    :param max_keys: keys that each limit counts; if there are more, those with the fewest slots are evicted.
    """

    shared = False

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._counts = PerProcess(_Counts)

    def checks(self) -> Iterator[Check]:
        """Yield a check which reports that each process counts failures by itself."""
        finding = "each process counts failures by itself: N processes allow N times as many guesses"
        yield Check("throttle.storage", "ok", finding)

    def count(self, limit: Limit) -> int:
        """Return the number of keys that this limit counts."""
        return len(self._counts.get().windows.get(limit, ()))

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation | list[float]:
        """Take one slot of each limit, or none and return the seconds until each has one."""
        counts = self._counts.get()
        with counts.lock:
            now = counts.moment(self._clock())
            slots = [(counts.windows.setdefault(limit, _Window(limit, self._max_keys)), key) for limit, key in wanted]
            waits = [window.wait(key, now) for window, key in slots]
            if any(waits):
                return waits
            for window, key in slots:
                window.take(key, now)
        return _LocalSlots(self._counts, slots, now)

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot. Takes none."""
        if limit.amount == 0:
            return limit.span
        counts = self._counts.get()
        window = counts.windows.get(limit)
        if not window:
            return 0.0
        with counts.lock:
            return window.wait(key, self._clock())

    def look(self, wanted: Sequence[Wanted]) -> list[float]:
        """Return the seconds until each limit has a slot. Takes none."""
        return [self.wait(limit, key) for limit, key in wanted]

    def clear(self) -> None:
        """Return every slot."""
        counts = self._counts.get()
        with counts.lock:
            counts.windows.clear()


class _LocalSlots(Reservation):
    """Slots taken together in this process."""

    def __init__(self, process: PerProcess[_Counts], slots: list[tuple[_Window, bytes]], taken_at: float) -> None:
        self._process = process
        self._counts = process.get()
        self._slots = slots
        self._taken_at = taken_at

    def void(self) -> None:
        """Return the slots, unless the parent process took them."""
        if self._counts is not self._process.get():
            return
        with self._counts.lock:
            for window, key in self._slots:
                window.give_back(key, self._taken_at)


class _Outage:
    """Until when this process does not call the state."""

    until = -math.inf


class KnownAddresses:
    """The addresses at which an account has logged in. While the state does not answer, all are unknown."""

    def __init__(self, state: StateStore, clock: Callable[[], float], *, max_noted: int = MAX_ENTRIES) -> None:
        self._state = state
        self._clock = clock
        self._noted: Cache[str, bool] = Cache(KNOWN_ADDRESS_REFRESH, max_entries=max_noted, clock=clock)
        self._outage = PerProcess(_Outage)

    def holds(self, *account_and_network: str) -> bool:
        """Return whether this account has logged in there within 30 days."""
        if self._clock() < self._outage.get().until:
            return False
        try:
            return self._state.get(self._key(account_and_network)) is not None
        except StateUnavailable:
            self._outage.get().until = self._clock() + PAUSE
            return False

    def note(self, *account_and_network: str) -> None:
        """Write a good login to the state, once a day."""
        key = self._key(account_and_network)
        if self._clock() < self._outage.get().until or self._noted.get(key):
            return
        reading = self._noted.begin()
        try:
            self._state.put(key, True, KNOWN_ADDRESS_TTL)
        except StateUnavailable:
            self._outage.get().until = self._clock() + PAUSE
            return
        self._noted.put(key, True, reading)

    def clear(self) -> None:
        """Clear the record of what this process has written; the state keeps it."""
        self._noted.clear()

    @staticmethod
    def _key(parts: tuple[str, ...]) -> str:
        return "known-address:" + sha256(_message(parts)).hexdigest()


class _LoginSlots(Reservation):
    """The slots of one login; its success makes the address known."""

    def __init__(self, slots: Reservation, note_success: Callable[[], None]) -> None:
        self._slots = slots
        self._note_success: Callable[[], None] | None = note_success

    def succeeded(self) -> None:
        """Return the slots, and note that the account has logged in at this address."""
        note = self._note_success
        self.void()
        if note is not None:
            note()

    def void(self) -> None:
        """Return the slots."""
        self._note_success = None
        self._slots.void()


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The status of one limit for one account and address.

    :param name: its key in ``throttle``.
    :param allows: the limit, in the notation of ``limits``.
    """

    name: str
    allows: str
    wait: float


class FailureThrottle:
    """The three limits on failed credentials: per account and address, per account anywhere, per address.

    The second limit does not stop a user at an address where the account has logged in within 30 days (a known
    address). The state is read only if this limit alone would refuse; until then failures at a known address count
    for it, too.

    All spellings that a directory or a database may read as one name share the slots of one account. Otherwise each
    spelling would allow guesses of its own. Known addresses are kept under the exact name, as looked up. Otherwise
    the owner of a similarly spelled account would be known there, too.

    All addresses that cannot be read count as one, which is never a known address.

    :param state: keeps known addresses, hashed.
    :raises ValueError: if a limit is not in that notation.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        state: StateStore,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = LocalLedger(clock) if ledger is None else ledger
        self._per_account = Limit.of("account", settings.per_account)
        self._per_account_anywhere = Limit.of("anywhere", settings.per_account_anywhere)
        self._per_address = Limit.of("address", settings.per_address)
        self._known = KnownAddresses(state, clock)
        self._settings = settings

    def reserve(self, contact_center: str, user_name: str, address: str) -> Reservation | Unavailable:
        """Take one slot of each limit that applies (atomic), or none and return how long to wait.

        :param user_name: as looked up; empty if the credentials name no account: then only the address counts.
        :param address: the client's address; IPv6 counts by /64 (RFC 6177: a site has at least that much).
        """
        network = _network(address)
        slots = self._slots(contact_center, user_name, network)
        taken = self.ledger.reserve(slots)
        only_anywhere = isinstance(taken, list) and not any(taken[:2])
        if only_anywhere and self._is_known(contact_center, user_name, network):
            slots = slots[:2]
            taken = self.ledger.reserve(slots)
        answer = _answer(taken, slots)
        if isinstance(answer, Unavailable) or not user_name or not network:
            return answer
        return _LoginSlots(answer, lambda: self._known.note(contact_center, user_name, network))

    def statuses(self, contact_center: str, user_name: str, address: str) -> list[LimitStatus] | Unavailable:
        """Return the status of each limit that applies, or ``Unavailable`` if the ledger fails. Takes no slot."""
        network = _network(address)
        waits = self.ledger.look(self._slots(contact_center, user_name, network))
        if isinstance(waits, Unavailable):
            return waits
        if user_name and waits[2] > 0 and self._is_known(contact_center, user_name, network):
            waits[2] = 0.0
        names = ("per_address", "per_account", "per_account_anywhere")[: len(waits)]
        return [LimitStatus(name, getattr(self._settings, name), wait) for name, wait in zip(names, waits, strict=True)]

    def look(self, contact_center: str, user_name: str, address: str) -> Unavailable | None:
        """Return what :meth:`reserve` would refuse, as far as this process knows. Takes no slot."""
        found = self.statuses(contact_center, user_name, address)
        if isinstance(found, Unavailable):
            return found
        over = [one for one in found if one.wait > 0]
        if not over:
            return None
        return Unavailable(
            Reason.THROTTLED,
            retry_after=_whole_seconds([one.wait for one in over]),
            detail=f"over {', '.join(f'throttle.{one.name} ({one.allows})' for one in over)}",
        )

    def over_limit(self, contact_center: str, user_name: str, address: str) -> Unavailable | None:
        """Return whether this account is over its limit at this address. Takes no slot and makes no round trip.

        Slots of walks under way count, because another guess meanwhile would exceed the limit.
        """
        if not user_name:
            return None
        wait = self.ledger.wait(self._per_account, _account_key(contact_center, user_name, _network(address)))
        return _throttled([wait], [(self._per_account, b"")]) if wait else None

    def _is_known(self, contact_center: str, user_name: str, network: str) -> bool:
        return bool(network) and self._known.holds(contact_center, user_name, network)

    def _slots(self, contact_center: str, user_name: str, network: str) -> list[Wanted]:
        """Return the slots of one attempt: per address, and with a user name per account and per account anywhere."""
        slots = [(self._per_address, digest(network))]
        if user_name:
            slots.append((self._per_account, _account_key(contact_center, user_name, network)))
            slots.append((self._per_account_anywhere, _account_key(contact_center, user_name)))
        return slots

    def clear(self) -> None:
        """Return every slot, and clear the addresses that this process has noted."""
        self.ledger.clear()
        self._known.clear()


class FailureLimit:
    """One limit by one key, such as for the failures that may reach a directory that locks accounts.

    :param limit: in the notation of ``limits``, such as ``"2 per 15 minutes"``.
    :param name: distinguishes it from other limits of the same ledger.
    :raises ValueError: if the limit is not in that notation.
    """

    def __init__(
        self,
        limit: str,
        ledger: Ledger | None = None,
        *,
        name: str = "",
        setting: str = "configuration_server.max_failures",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = LocalLedger(clock) if ledger is None else ledger
        self._limit = Limit.of(name, limit)
        self._over = f"over {setting} ({limit}): the directory is not called"

    def reserve(self, key: str) -> Reservation | Unavailable:
        """Take a slot (atomic), or return for how long there is none."""
        wanted = [(self._limit, digest(key))]
        return _answer(self._ledger.reserve(wanted), wanted)

    def look(self, key: str) -> Unavailable | None:
        """Return what :meth:`reserve` would refuse, as far as this process knows. Takes no slot."""
        wanted = [(self._limit, digest(key))]
        waits = self._ledger.look(wanted)
        if isinstance(waits, Unavailable):
            return waits
        return replace(_throttled(waits, wanted), detail=self._over) if any(waits) else None


class BeginLimit:
    """Limits the logins that one address may begin at a provider; each takes memory here until it is finished.

    Beginning a login is not a failure, and a whole site may start its day behind one address. So the limit is high,
    it grows with ``per_address``, and no slot is returned.

    :param per_address: the limit of failures, in the notation of ``limits``; ten times as much is allowed here.
    :raises ValueError: if a limit is not in that notation.
    """

    def __init__(self, per_address: str, ledger: Ledger, *, least: str = "3000 per minute") -> None:
        self._ledger = ledger
        failures = Limit.of("begun", per_address)
        wanted = replace(failures, amount=LOGINS_PER_FAILURE * failures.amount)
        self._limit = max(Limit.of("begun", least), wanted, key=lambda one: one.amount / one.span)

    def take(self, address: str) -> Unavailable | None:
        """Take a slot (atomic), or return the seconds until one is free; if the ledger fails, one is free."""
        wanted = [(self._limit, digest(_network(address)))]
        taken = self._ledger.reserve(wanted)
        if not isinstance(taken, list):
            return None
        detail = f"over the limit of {self._limit.amount} logins begun in {self._limit.span:g} s by one address"
        return Unavailable(Reason.THROTTLED, retry_after=_whole_seconds(taken), detail=detail)


def _answer(taken: Reservation | list[float] | Unavailable, wanted: Sequence[Wanted]) -> Reservation | Unavailable:
    return _throttled(taken, wanted) if isinstance(taken, list) else taken


def _throttled(waits: Sequence[float], wanted: Sequence[Wanted]) -> Unavailable:
    over = [limit.name for (limit, _), wait in zip(wanted, waits, strict=True) if wait > 0]
    detail = f"over the limit of failures per {', '.join(over)}"
    return Unavailable(Reason.THROTTLED, retry_after=_whole_seconds(waits), detail=detail)


def _whole_seconds(waits: Sequence[float]) -> int:
    return max(1, math.ceil(max(waits)))


def _network(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 network of 64 bits; empty for all unreadable."""
    read = read_address(address)
    return f"{int(IPv6Address(read)) >> 64:016x}/64" if ":" in read else read


@lru_cache(maxsize=1024)
def _account_key(contact_center: str, user_name: str, *network: str) -> bytes:
    """Return the key of an account, the same for all spellings of its name."""
    return digest(contact_center, fold_loosely(user_name), *network)


@lru_cache(maxsize=1024)  # a client sends its password with each request
def digest(*key: str) -> bytes:
    """Return 16 bytes that stand for these parts, so that the length of a name does not decide the memory it takes."""
    return blake2b(_message(key), digest_size=16).digest()


def _message(parts: tuple[str, ...]) -> bytes:
    """Return these parts as bytes, so that no other sequence of parts gives the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(one).to_bytes(4, "big") + one for one in encoded)
