"""The throttle: how many failures are let through, by account and address, counted in this process or elsewhere.

A slot is taken before a server is asked, and returned when the credentials were good.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b, sha256
from ipaddress import IPv6Address, ip_address
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from ..chain.outcomes import Reason, Unavailable
from ..checks import Check
from ..config.names import fold_loosely
from ..config.rules import parse_limit
from ..errors import StateUnavailable
from ..processes import PerProcess

if TYPE_CHECKING:
    from ..chain.protocols import StateStore
    from ..config.settings import ThrottleSettings

MAX_KEYS = 50_000
"""How many accounts or addresses one limit keeps count of; one key takes about 300 bytes."""
EVICTION_SAMPLE = 16
BEGUN_TO_A_FAILURE = 10
KNOWN_ADDRESS_DAYS = 30
KNOWN_ADDRESS_TTL = KNOWN_ADDRESS_DAYS * 86400.0
KNOWN_ADDRESS_REFRESH = 86400.0
"""Seconds for which this process need not write down again that an account has logged in at an address."""
MAX_FRESH = 10_000
PAUSE = 5.0
"""Seconds for which the state is not asked again after it did not answer: no request has to wait for it here."""


class Reservation(Protocol):
    """A slot, taken before a server is asked. A slot that is not returned counts as a failure."""

    def succeeded(self) -> None:
        """Return the slot: the credentials were good."""
        ...

    def void(self) -> None:
        """Return the slot: nothing has shown whether the credentials are good."""
        ...


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
        """Take one slot of each (atomic), or none: the seconds until each has one, or why the ledger cannot tell."""
        ...

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot as far as this process knows; 0 if there is one. Takes none."""
        ...

    def look(self, wanted: Sequence[Wanted]) -> list[float] | Unavailable:
        """Return the seconds until each has a slot, 0 where it has, or why the ledger cannot tell. Takes none."""
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
            # A flood of made-up names must not evict the key that is nearly at its limit.
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
        """Return the slots: nothing has shown whether the credentials are good."""
        self._ledger.give_back(self._counts, self._slots, self._taken_at)


class _Written:
    """What one process has written down, and until when it leaves the state alone."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.fresh: OrderedDict[str, float] = OrderedDict()
        self.ask_again = -math.inf


class KnownAddresses:
    """At which addresses an account has logged in; a state that does not answer knows none.

    :param max_fresh: for how many addresses this process knows that they are written down.
    """

    def __init__(self, state: StateStore, clock: Callable[[], float], *, max_fresh: int = MAX_FRESH) -> None:
        self._state = state
        self._clock = clock
        self._max_fresh = max_fresh
        self._written = PerProcess(_Written)

    def holds(self, *account_and_place: str) -> bool:
        """Tell whether this account has logged in there within 30 days."""
        if self._clock() < self._written.get().ask_again:
            return False
        try:
            return self._state.get(self._key(account_and_place)) is not None
        except StateUnavailable:
            self._leave_alone()
            return False

    def note(self, *account_and_place: str) -> None:
        """Write down a good login, once a day."""
        key = self._key(account_and_place)
        now = self._clock()
        written = self._written.get()
        with written.lock:
            if now < max(written.ask_again, written.fresh.get(key, -math.inf)):
                return
        try:
            self._state.put(key, True, KNOWN_ADDRESS_TTL)
        except StateUnavailable:
            self._leave_alone()
            return
        with written.lock:
            written.fresh[key] = now + KNOWN_ADDRESS_REFRESH
            written.fresh.move_to_end(key)
            if len(written.fresh) > self._max_fresh:
                written.fresh.popitem(last=False)

    def clear(self) -> None:
        """Forget what this process has written down; what stands in the state stays."""
        written = self._written.get()
        with written.lock:
            written.fresh.clear()

    def _leave_alone(self) -> None:
        self._written.get().ask_again = self._clock() + PAUSE

    @staticmethod
    def _key(parts: tuple[str, ...]) -> str:
        return "known-address:" + sha256(_message(parts)).hexdigest()


class _LoginSlots:
    """The slots of one login; its success makes the address known."""

    def __init__(self, slots: Reservation, note_success: Callable[[], None]) -> None:
        self._slots = slots
        self._note_success: Callable[[], None] | None = note_success

    def succeeded(self) -> None:
        """Return the slots and note that the account has logged in at this address."""
        self._slots.void()
        note, self._note_success = self._note_success, None
        if note is not None:
            note()

    def void(self) -> None:
        """Return the slots: nothing has shown whether the credentials are good."""
        self._note_success = None
        self._slots.void()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one limit stands for one account and address.

    :param name: its key in ``throttle``.
    :param allows: in the notation of ``limits``.
    :param wait: seconds until there is a slot; 0: there is one.
    """

    name: str
    allows: str
    wait: float


class FailureThrottle:
    """The limits on failed credentials.

    Three limits: per account and address, per account anywhere, per address. The second does not stop a user at an
    address where the account has logged in within 30 days; whether it has is read from the state only when that
    limit alone would refuse. Until then failures at such an address are counted there as well.

    All spellings that a directory, or a database, may read as one name are one account here, or each would have
    guesses of its own. Known addresses are kept under the exact name, as looked up: else the owner of an account
    whose name is spelled alike would be known for it.

    :param settings: the limits, in the notation of ``limits``.
    :param state: where the addresses of good logins are kept, hashed.
    :param ledger: where the slots are counted; default: in this process.
    :param clock: seconds that never go back.
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

    @property
    def shared(self) -> bool:
        """Tell whether failures at other processes count here."""
        return self.ledger.shared

    def reserve(self, contact_center: str, user_name: str, address: str) -> Reservation | Unavailable:
        """Take one slot of each limit that applies (atomic), or none and say until when.

        :param user_name: as looked up; empty if the credentials name no account: only the address counts then.
        :param address: the client's address; IPv6 counts by /64 (RFC 6177: a site has at least that much).
        """
        place = _place(address)
        wanted = [(self._per_address, digest(place))]
        if not user_name:
            return _answer(self.ledger.reserve(wanted), wanted)
        wanted.append((self._per_account, _account(contact_center, user_name, place)))
        anywhere = (self._per_account_anywhere, _account(contact_center, user_name))
        asked = [*wanted, anywhere]
        taken = self.ledger.reserve(asked)
        if isinstance(taken, list) and not any(taken[: len(wanted)]):
            if not self._known.holds(contact_center, user_name, place):
                return _throttled(taken, asked)
            asked = wanted
            taken = self.ledger.reserve(asked)
        answer = _answer(taken, asked)
        if isinstance(answer, Unavailable):
            return answer
        return _LoginSlots(answer, lambda: self._known.note(contact_center, user_name, place))

    def standings(self, contact_center: str, user_name: str, address: str) -> list[Standing] | Unavailable:
        """Tell how each limit that applies stands, or why the ledger cannot tell; takes no slot.

        :param user_name: as for :meth:`reserve`.
        """
        place = _place(address)
        wanted = [(self._per_address, digest(place))]
        allowed = {"per_address": self._settings.per_address}
        if user_name:
            wanted.append((self._per_account, _account(contact_center, user_name, place)))
            wanted.append((self._per_account_anywhere, _account(contact_center, user_name)))
            allowed["per_account"] = self._settings.per_account
            allowed["per_account_anywhere"] = self._settings.per_account_anywhere
        waits = self.ledger.look(wanted)
        if isinstance(waits, Unavailable):
            return waits
        if user_name and waits[2] > 0 and self._known.holds(contact_center, user_name, place):
            waits[2] = 0.0
        return [Standing(name, allows, wait) for (name, allows), wait in zip(allowed.items(), waits, strict=True)]

    def look(self, contact_center: str, user_name: str, address: str) -> Unavailable | None:
        """Tell what :meth:`reserve` would refuse, as far as this process can know; takes no slot."""
        found = self.standings(contact_center, user_name, address)
        if isinstance(found, Unavailable):
            return found
        over = [one for one in found if one.wait > 0]
        if not over:
            return None
        return Unavailable(
            Reason.THROTTLED,
            retry_after=max(1, math.ceil(max(one.wait for one in over))),
            detail=f"over {', '.join(f'throttle.{one.name} ({one.allows})' for one in over)}",
        )

    def over_limit(self, contact_center: str, user_name: str, address: str) -> Unavailable | None:
        """Tell whether this account is over its limit at this address, without taking a slot or a round trip.

        Slots of walks that have not ended yet count: a guess that came while they run is one guess too many.
        """
        if not user_name:
            return None
        wait = self.ledger.wait(self._per_account, _account(contact_center, user_name, _place(address)))
        return _throttled([wait], [(self._per_account, b"")]) if wait else None

    def clear(self) -> None:
        """Forget every failure, and which addresses are known to this process."""
        self.ledger.clear()
        self._known.clear()


class FailureLimit:
    """One limit by one key, such as what may reach a directory that locks accounts.

    :param limit: in the notation of ``limits``, such as ``"2 per 15 minutes"``.
    :param ledger: where the slots are counted; default: in this process.
    :param name: tells it apart from other limits of the same ledger.
    :param setting: its key in the configuration, for messages.
    :param clock: seconds that never go back.
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
        self._over = f"over {setting} ({limit}): the directory is not asked"

    def reserve(self, key: str) -> Reservation | Unavailable:
        """Take a slot (atomic), or say until when there is none."""
        wanted = [(self._limit, digest(key))]
        return _answer(self._ledger.reserve(wanted), wanted)

    def look(self, key: str) -> Unavailable | None:
        """Tell until when there is no slot as far as this process knows, or why the ledger cannot tell; takes none."""
        wanted = [(self._limit, digest(key))]
        waits = self._ledger.look(wanted)
        if isinstance(waits, Unavailable):
            return waits
        return replace(_throttled(waits, wanted), detail=self._over) if any(waits) else None


class BeginLimit:
    """How many logins one address may begin elsewhere, each of which takes memory here until it is finished.

    That is no failure, and a whole site may begin its day behind one address: so there are many, and more where
    ``per_address`` lets more through; none of them is given back.

    :param per_address: the limit of failures, in the notation of ``limits``; ten times as much is allowed here.
    :param ledger: where they are counted.
    :param least: what is allowed in any case.
    :raises ValueError: if a limit is not in that notation.
    """

    def __init__(self, per_address: str, ledger: Ledger, *, least: str = "3000 per minute") -> None:
        self._ledger = ledger
        failures = Limit.of("begun", per_address)
        wanted = replace(failures, amount=BEGUN_TO_A_FAILURE * failures.amount)
        self._limit = max(Limit.of("begun", least), wanted, key=lambda one: one.amount / one.span)

    def take(self, address: str) -> Unavailable | None:
        """Take a slot (atomic), or say until when there is none; if the ledger cannot tell, there is one."""
        wanted = [(self._limit, digest(_place(address)))]
        taken = self._ledger.reserve(wanted)
        if not isinstance(taken, list):
            return None
        detail = f"over the limit of {self._limit.amount} logins begun in {self._limit.span:g} s by one address"
        return Unavailable(Reason.THROTTLED, retry_after=max(1, math.ceil(taken[0])), detail=detail)


def _answer(taken: Reservation | list[float] | Unavailable, wanted: Sequence[Wanted]) -> Reservation | Unavailable:
    return _throttled(taken, wanted) if isinstance(taken, list) else taken


@lru_cache(maxsize=1024)  # as of digest
def _account(contact_center: str, user_name: str, *place: str) -> bytes:
    """Return the key of an account, the same for all spellings of its name, perhaps at one place."""
    return digest(contact_center, fold_loosely(user_name), *place)


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


def _throttled(waits: Sequence[float], wanted: Sequence[Wanted]) -> Unavailable:
    over = [limit.name for (limit, _), wait in zip(wanted, waits, strict=True) if wait > 0]
    return Unavailable(
        Reason.THROTTLED,
        retry_after=max(1, math.ceil(max(waits))),
        detail=f"over the limit of failures per {', '.join(over)}",
    )


@lru_cache(maxsize=1024)  # a client that sends a password sends it with each request
def digest(*key: str) -> bytes:
    """Return 16 bytes that stand for these parts."""
    # Of one length however long the name: what a guesser sends does not decide how much memory a count takes.
    return blake2b(_message(key), digest_size=16).digest()


def _message(parts: tuple[str, ...]) -> bytes:
    """Return these parts so that no other sequence of parts is the same bytes."""
    return b"".join(_prefixed(parts))


def _prefixed(parts: tuple[str, ...]) -> Iterator[bytes]:
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        yield len(encoded).to_bytes(4, "big")
        yield encoded
