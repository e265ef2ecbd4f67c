"""How many failures are let through: a slot is taken before anybody is asked, and returned when all was well."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b, sha256
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from limits import RateLimitItem, parse

from .chain.decision import Reason, Unavailable
from .errors import StateUnavailable
from .forks import fork_safe_lock

if TYPE_CHECKING:
    from .chain.ports import Reservation, StateStore
    from .config.values import ThrottleSettings

MAX_KEYS = 50_000
"""How many accounts or addresses one limit keeps count of; one key takes about 300 bytes."""
EVICTION_SAMPLE = 16
KNOWN_ADDRESS_DAYS = 30
KNOWN_ADDRESS_TTL = KNOWN_ADDRESS_DAYS * 86400.0
KNOWN_ADDRESS_REFRESH = 86400.0
"""Seconds for which this process need not write down again that an account has logged in at an address."""
MAX_FRESH = 10_000


class _Window:
    """A moving window of slots per key: never more than the limit's amount within any span of its length.

    The window moves because a returned slot must be that very slot: with counters of fixed windows, one that was
    taken in the last window and is returned in this one would be an extra guess. For the same reason, and because
    its timers race with the calls and its memory has no bound, this is not the memory storage of ``limits``.
    Guarded by its owner's lock.
    """

    def __init__(self, limit: RateLimitItem, max_keys: int) -> None:
        self._amount = limit.amount
        self._span = float(limit.get_expiry())
        self._max_keys = max_keys
        # In the order of their newest slot, so that what has expired whole stands first.
        self._slots: OrderedDict[bytes, list[float]] = OrderedDict()

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


class _Ledger:
    """Several windows under one lock: of the slots that a caller asks for, all are taken or none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = fork_safe_lock()
        self._last = -math.inf

    def reserve(self, wanted: list[tuple[_Window, bytes]]) -> _Slots | list[float]:
        """Take one slot of each, or none and return the seconds until each has one."""
        with self._lock:
            now = self._now()
            waits = [window.wait(key, now) for window, key in wanted]
            if any(waits):
                return waits
            for window, key in wanted:
                window.take(key, now)
        return _Slots(self, wanted, now)

    def wait(self, window: _Window, key: bytes) -> float:
        """Return the seconds until there is a slot; 0 if there is one. Takes none."""
        with self._lock:
            return window.wait(key, self._clock())

    def give_back(self, slots: list[tuple[_Window, bytes]], taken_at: float) -> None:
        """Return what :meth:`reserve` took at that moment."""
        with self._lock:
            for window, key in slots:
                window.give_back(key, taken_at)

    def _now(self) -> float:
        # No two reservations share a moment, so that a moment names a slot.
        self._last = max(self._clock(), math.nextafter(self._last, math.inf))
        return self._last


class _Slots:
    """Slots taken together, returned at most once."""

    def __init__(self, ledger: _Ledger, slots: list[tuple[_Window, bytes]], taken_at: float) -> None:
        self._ledger = ledger
        self._slots = slots
        self._taken_at = taken_at

    def succeeded(self) -> None:
        """Return the slots: the credentials were good."""
        self.void()

    def void(self) -> None:
        """Return the slots: nobody has said whether the credentials are good."""
        self._ledger.give_back(self._slots, self._taken_at)


class _LoginSlots:
    """The slots of one login; its success makes the address known."""

    def __init__(self, slots: _Slots, note_success: Callable[[], None]) -> None:
        self._slots = slots
        self._note_success: Callable[[], None] | None = note_success

    def succeeded(self) -> None:
        """Return the slots and note that the account has logged in at this address."""
        self._slots.void()
        note, self._note_success = self._note_success, None
        if note is not None:
            note()

    def void(self) -> None:
        """Return the slots: nobody has said whether the credentials are good."""
        self._note_success = None
        self._slots.void()


class FailureThrottle:
    """Implements :class:`~flask_genesys_auth.chain.ports.Throttle`, counting in this process.

    Three limits: per account and address, per account anywhere, per address. The second does not stop anybody at an
    address where the account has logged in within 30 days; whether it has is read from the state only when that
    limit alone would refuse. Until then failures at such an address are counted there as well.

    :param settings: the limits, in the notation of ``limits``.
    :param state: where the addresses of good logins are kept, hashed.
    :param clock: seconds that never go back.
    :param max_keys: how many accounts and addresses each limit keeps count of. When there are more within its span,
        those with the fewest failures are forgotten.
    :raises ValueError: if a limit is not in that notation.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        state: StateStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._ledger = _Ledger(clock)
        self._per_account = _Window(parse(settings.per_account), max_keys)
        self._per_account_anywhere = _Window(parse(settings.per_account_anywhere), max_keys)
        self._per_address = _Window(parse(settings.per_address), max_keys)
        self._known = _KnownAddresses(state, clock)

    def reserve(self, contact_center: str, user_name: str, address: str) -> Reservation | Unavailable:
        """Take one slot of each limit that applies (atomic), or none and say until when.

        :param user_name: as looked up; empty where the credentials name nobody: only the address counts then.
        :param address: the client's address; IPv6 counts by /64 (RFC 6177: a site has at least that much).
        """
        place = _place(address)
        wanted = [(self._per_address, _digest(place))]
        if not user_name:
            taken = self._ledger.reserve(wanted)
            return taken if isinstance(taken, _Slots) else _throttled(taken)
        wanted.append((self._per_account, _digest(contact_center, user_name, place)))
        anywhere = (self._per_account_anywhere, _digest(contact_center, user_name))
        taken = self._ledger.reserve([*wanted, anywhere])
        if not isinstance(taken, _Slots) and not any(taken[: len(wanted)]):
            if not self._known.holds(contact_center, user_name, place):
                return _throttled(taken)
            taken = self._ledger.reserve(wanted)
        if not isinstance(taken, _Slots):
            return _throttled(taken)
        return _LoginSlots(taken, lambda: self._known.note(contact_center, user_name, place))

    def over_limit(self, contact_center: str, user_name: str, address: str) -> Unavailable | None:
        """Tell whether this account is over its limit at this address, without taking a slot or a round trip.

        Slots of walks that have not ended yet count: a guess that came while they run is one guess too many.
        """
        if not user_name or not len(self._per_account):
            return None
        wait = self._ledger.wait(self._per_account, _digest(contact_center, user_name, _place(address)))
        return _throttled([wait]) if wait else None


class FailureLimit:
    """One limit by one key, such as what may reach a directory that locks accounts.

    :param limit: in the notation of ``limits``, such as ``"2 per 15 minutes"``.
    :param clock: seconds that never go back.
    :param max_keys: as in :class:`FailureThrottle`.
    :raises ValueError: if the limit is not in that notation.
    """

    def __init__(self, limit: str, *, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._ledger = _Ledger(clock)
        self._window = _Window(parse(limit), max_keys)

    def reserve(self, key: str) -> Reservation | Unavailable:
        """Take a slot (atomic), or say until when there is none."""
        taken = self._ledger.reserve([(self._window, _digest(key))])
        return taken if isinstance(taken, _Slots) else _throttled(taken)


class _KnownAddresses:
    """At which addresses an account has logged in; a state that does not answer knows none."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._lock = fork_safe_lock()
        self._fresh: OrderedDict[str, float] = OrderedDict()

    def holds(self, *account_and_place: str) -> bool:
        """Tell whether this account has logged in there within 30 days."""
        with suppress(StateUnavailable):
            return self._state.get(self._key(account_and_place)) is not None
        return False

    def note(self, *account_and_place: str) -> None:
        """Write down a good login, once a day."""
        key = self._key(account_and_place)
        now = self._clock()
        with self._lock:
            if now < self._fresh.get(key, -math.inf):
                return
        with suppress(StateUnavailable):
            self._state.put(key, True, KNOWN_ADDRESS_TTL)
            with self._lock:
                self._fresh[key] = now + KNOWN_ADDRESS_REFRESH
                self._fresh.move_to_end(key)
                if len(self._fresh) > MAX_FRESH:
                    self._fresh.popitem(last=False)

    @staticmethod
    def _key(parts: tuple[str, ...]) -> str:
        return "known-address:" + sha256(_message(parts)).hexdigest()


def _digest(*key: str) -> bytes:
    # Of one length however long the name: what a guesser sends does not decide how much memory a count takes.
    return blake2b(_message(key), digest_size=16).digest()


def _message(parts: tuple[str, ...]) -> bytes:
    return b"".join(_prefixed(parts))


def _prefixed(parts: tuple[str, ...]) -> Iterator[bytes]:
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        yield len(encoded).to_bytes(4, "big")
        yield encoded


@lru_cache(maxsize=4096)
def _place(address: str) -> str:
    """Return what counts as one address: an IPv4 address, an IPv6 network of 64 bits, or the text itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> 64:016x}/64"


def _throttled(waits: list[float]) -> Unavailable:
    return Unavailable(Reason.THROTTLED, retry_after=max(1, math.ceil(max(waits))))
