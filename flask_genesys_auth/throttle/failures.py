"""How many failures are let through: a slot is taken before anybody is asked, and returned when all was well."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from ..chain.decision import Reason, Unavailable
from ..config.names import fold_loosely
from .digests import digest
from .known_addresses import KnownAddresses
from .windows import Ledger, Limit, LocalLedger, Wanted

if TYPE_CHECKING:
    from ..chain.ports import Reservation, StateStore
    from ..config.settings import ThrottleSettings


BEGUN_TO_A_FAILURE = 10


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
        """Return the slots: nobody has said whether the credentials are good."""
        self._note_success = None
        self._slots.void()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one limit stands for somebody.

    :param name: its key in ``throttle``.
    :param allows: in the notation of ``limits``.
    :param wait: seconds until there is a slot; 0: there is one.
    """

    name: str
    allows: str
    wait: float


class FailureThrottle:
    """Implements :class:`~flask_genesys_auth.chain.ports.Throttle`.

    Three limits: per account and address, per account anywhere, per address. The second does not stop anybody at an
    address where the account has logged in within 30 days; whether it has is read from the state only when that
    limit alone would refuse. Until then failures at such an address are counted there as well.

    All spellings that a directory, or a database, may read as one name are one account here, or each would have
    guesses of its own. Which addresses are known is told by the very name, as looked up: else whoever has an account
    of a name that is spelled alike would be known for it.

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
        self._ledger = LocalLedger(clock) if ledger is None else ledger
        self._per_account = Limit.of("account", settings.per_account)
        self._per_account_anywhere = Limit.of("anywhere", settings.per_account_anywhere)
        self._per_address = Limit.of("address", settings.per_address)
        self._known = KnownAddresses(state, clock)
        self._settings = settings

    @property
    def shared(self) -> bool:
        """Tell whether failures at other processes count here."""
        return self._ledger.shared

    def reserve(self, contact_center: str, user_name: str, address: str) -> Reservation | Unavailable:
        """Take one slot of each limit that applies (atomic), or none and say until when.

        :param user_name: as looked up; empty where the credentials name nobody: only the address counts then.
        :param address: the client's address; IPv6 counts by /64 (RFC 6177: a site has at least that much).
        """
        place = _place(address)
        wanted = [(self._per_address, digest(place))]
        if not user_name:
            return _answer(self._ledger.reserve(wanted), wanted)
        wanted.append((self._per_account, _account(contact_center, user_name, place)))
        anywhere = (self._per_account_anywhere, _account(contact_center, user_name))
        asked = [*wanted, anywhere]
        taken = self._ledger.reserve(asked)
        if isinstance(taken, list) and not any(taken[: len(wanted)]):
            if not self._known.holds(contact_center, user_name, place):
                return _throttled(taken, asked)
            asked = wanted
            taken = self._ledger.reserve(asked)
        answer = _answer(taken, asked)
        if isinstance(answer, Unavailable):
            return answer
        return _LoginSlots(answer, lambda: self._known.note(contact_center, user_name, place))

    def standings(self, contact_center: str, user_name: str, address: str) -> list[Standing] | Unavailable:
        """Tell how each limit that applies stands, or why nobody can tell; takes no slot.

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
        waits = self._ledger.look(wanted)
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
        wait = self._ledger.wait(self._per_account, _account(contact_center, user_name, _place(address)))
        return _throttled([wait], [(self._per_account, b"")]) if wait else None

    def clear(self) -> None:
        """Forget every failure, and which addresses are known to this process."""
        self._ledger.clear()
        self._known.clear()


class FailureLimit:
    """One limit by one key, such as what may reach a directory that locks accounts.

    :param limit: in the notation of ``limits``, such as ``"2 per 15 minutes"``.
    :param ledger: where the slots are counted; default: in this process.
    :param name: tells it apart from other limits of the same ledger.
    :param clock: seconds that never go back.
    :raises ValueError: if the limit is not in that notation.
    """

    def __init__(
        self, limit: str, ledger: Ledger | None = None, *, name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = LocalLedger(clock) if ledger is None else ledger
        self._limit = Limit.of(name, limit)

    def reserve(self, key: str) -> Reservation | Unavailable:
        """Take a slot (atomic), or say until when there is none."""
        wanted = [(self._limit, digest(key))]
        return _answer(self._ledger.reserve(wanted), wanted)

    def look(self, key: str) -> Unavailable | None:
        """Tell until when there is no slot, or why nobody can tell, as far as this process can know; takes none."""
        wanted = [(self._limit, digest(key))]
        waits = self._ledger.look(wanted)
        if isinstance(waits, Unavailable):
            return waits
        return _throttled(waits, wanted) if any(waits) else None


class BeginLimit:
    """How many logins one address may begin elsewhere, each of which takes memory of ours until it is finished.

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
        """Take a slot (atomic), or say until when there is none; where nobody can tell, there is one."""
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
    """Return what stands for an account, however its name is spelled, perhaps at one place."""
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
