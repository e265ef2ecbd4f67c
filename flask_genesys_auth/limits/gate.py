"""The credential gate: it stands before the steps that check credentials, and is settled when the walk ends.

It alone holds the throttle's slots, the slots of a step's own limit, verified results, and single-flight: of many
requests with the same credentials at the same moment one asks, and the others wait for its answer.
"""

from __future__ import annotations

import hmac
import secrets as randomness
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..chain.evidence import BasicCredentials, Evidence, SalesforceCredentials
from ..chain.outcomes import Authenticated, NotApplicable, Outcome, Reason, Rejected, Unavailable
from ..chain.walk import Stale
from ..processes import PerProcess
from .recent import MAX_ENTRIES, Cache, Reading

if TYPE_CHECKING:
    from types import TracebackType

    from ..chain.protocols import AccountState, ContactCenter, Step
    from .throttle import FailureLimit, FailureThrottle, Reservation

BASIC = "basic"
SALESFORCE = "salesforce"
PATIENCE = 1.0
"""Seconds from the beginning of a verification for which any number of requests wait for it."""
PATIENT = 3
"""How many requests of one process may wait longer: with the default ``concurrent_calls`` fewer than 8 threads."""
LONGEST_WAIT = 30.0
"""Seconds after which they stop waiting, too; every step has a deadline far below."""

_TOO_MANY = Unavailable(
    Reason.UPSTREAM_BUSY,
    retry_after=1,
    detail=f"the same credentials take more than {PATIENCE:g} s to verify, and {PATIENT} requests wait already",
    uncounted=True,
)


class CredentialGate:
    """Stands before the steps that check credentials; implements :class:`~flask_genesys_auth.chain.walk.Gate`.

    :param throttle: how many failures are let through.
    :param verified: results of a short time ago, and verifications under way.
    """

    def __init__(self, throttle: FailureThrottle, verified: VerifiedCredentials) -> None:
        self._throttle = throttle
        self._verified = verified

    def open(self, evidence: Evidence, contact_center: ContactCenter, *, recall: bool) -> OpenGate:
        """Open the gate for one walk.

        :param recall: use results of a short time ago, and those that other requests are waiting for.
        """
        return OpenGate(self._throttle, self._verified, evidence, contact_center, recall=recall)


class OpenGate:
    """The gate of one walk: a context, on whose end every slot is settled and no request waits for this one."""

    def __init__(
        self,
        throttle: FailureThrottle,
        verified: VerifiedCredentials,
        evidence: Evidence,
        contact_center: ContactCenter,
        *,
        recall: bool,
    ) -> None:
        self._throttle = throttle
        self._verified = verified
        self._evidence = evidence
        self._contact_center = contact_center
        self._recall = recall
        self._sent: dict[str, _Sent] = {}
        self._asked: Step | None = None
        self._own_slot: Reservation | None = None
        self._authenticated = False

    def __enter__(self) -> OpenGate:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None and not self._authenticated:
                for sent in self._sent.values():
                    sent.failed()
            if self._own_slot is not None:
                self._own_slot.void()
            if not self._authenticated:
                self._settle_slots(count=kind is not Stale)
        finally:
            for sent in self._sent.values():
                sent.release(None)

    def ask(self, step: Step) -> Outcome:
        """Return what is known of the credentials that this step checks, or ask the step."""
        self._asked = step
        sent = self._sent_to(step)
        known = sent.known(step.name) if sent is not None else None
        if known is None:
            known = self._over_own_limit(step)
        if known is not None:
            return known
        outcome = step.authenticate(self._evidence, self._contact_center)
        if isinstance(outcome, Unavailable):
            self._settle_outage(outcome)
        return outcome

    def still_holds(self, step: Step, outcome: Outcome) -> bool:
        """Tell whether a new success still holds after the account was read.

        The password may have been changed between the two reads. Without this check the former password would be
        remembered under the new version of the account.

        :raises BackendUnavailable: if the step cannot tell.
        """
        check: StillHolds | None = getattr(step, "still_holds", None)
        sent = self._sent_to(step)
        if check is None or sent is None or not sent.verifies or not isinstance(outcome, Authenticated):
            return True
        return check(self._evidence, self._contact_center, outcome)

    def close_on(self, outcome: Outcome, account: AccountState | None) -> bool:
        """Note how the step that was asked last ended; tell whether the walk ends here.

        :param account: of whom the step has proven, if there is one.
        :raises Stale: if a remembered success no longer holds.
        """
        step, self._asked = self._asked, None
        self._settle_own_slot(outcome, account)
        sent = self._sent_to(step) if step is not None else None
        if step is not None and sent is not None:
            sent.note(step, outcome, account)
        if account is None:
            return False
        self._authenticated = True
        for one in self._sent.values():
            one.succeeded(account) if one is sent else one.void()
        return True

    def _sent_to(self, step: Step) -> _Sent | None:
        """Return the credentials that this step checks, past the throttle; ``None`` if the request has none."""
        kind = getattr(step, "credentials", "")
        if kind in self._sent:
            return self._sent[kind]
        name, secrets = _credentials_of(self._evidence, kind)
        if not secrets:
            return None
        of = (kind, self._contact_center.name, self._evidence.address, *secrets)
        sent = self._sent[kind] = _Sent(self._throttle, self._verified, name, of)
        if self._evidence.dry_run:
            sent.look()
        else:
            sent.admit(recall=self._recall)
        return sent

    def _over_own_limit(self, step: Step) -> Unavailable | None:
        """Take a slot of the step's own limit, or return why there is none."""
        own_limit: OwnLimit | None = getattr(step, "own_limit", None)
        found = own_limit(self._evidence, self._contact_center) if own_limit is not None else None
        if found is None:
            return None
        limit, key = found
        if self._evidence.dry_run:
            return limit.look(key)
        slot = limit.reserve(key)
        if isinstance(slot, Unavailable):
            return slot
        self._own_slot = slot
        return None

    def _settle_outage(self, outcome: Unavailable) -> None:
        """Return the slot of a step whose server surely counted no failure; else it stays, the server may lock."""
        slot, self._own_slot = self._own_slot, None
        if slot is not None and (outcome.uncounted or outcome.reason is Reason.UNREACHABLE):
            # An outage must not lock out those who tried during it.
            slot.void()

    def _settle_own_slot(self, outcome: Outcome, account: AccountState | None) -> None:
        """Return the slot of a step that succeeded, unless there is no account for it here: that is a failure."""
        slot, self._own_slot = self._own_slot, None
        if slot is not None and account is not None:
            slot.succeeded()
        elif slot is not None and isinstance(outcome, Unavailable):
            slot.void()

    def _settle_slots(self, *, count: bool) -> None:
        """Return every slot but that of credentials that a step has rejected, also when a later step has raised."""
        # A walk counts one failure: where both kinds of credentials were bad, that of the named account.
        counting = [sent for sent in self._sent.values() if sent.rejected][-1:] if count else []
        for sent in self._sent.values():
            if sent not in counting:
                sent.void()


class _Sent:
    """One kind of credentials that a request sent, on their way through the steps that check them.

    :param name: whose failures are counted; empty where the credentials name no account.
    :param of: what identifies the credentials: their kind, contact center, client address and secrets.
    """

    def __init__(
        self, throttle: FailureThrottle, verified: VerifiedCredentials, name: str, of: tuple[str, ...]
    ) -> None:
        self._throttle = throttle
        self._verified = verified
        self._whose = (of[1], name, of[2])
        self._of = of
        self._reading = verified.begin()
        self._remembered: Remembered | None = None
        self._refused: Unavailable | None = None
        self._slot: Reservation | None = None
        self._verification: Verification | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._reuse: list[float] = []

    @property
    def rejected(self) -> bool:
        """Tell whether a step has found the credentials bad."""
        return any(isinstance(outcome, Rejected) for outcome in self._outcomes.values())

    @property
    def verifies(self) -> bool:
        """Tell whether the steps verify the credentials now, so that a success is remembered or shared."""
        return self._slot is not None

    def admit(self, *, recall: bool) -> None:
        """Recall what is known of the credentials, or take a slot before a step is asked."""
        self._refused = self._throttle.over_limit(*self._whose)
        if self._refused is not None:
            return
        if recall:
            self._remembered = self._verified.recall(*self._of) or self._wait_for_others()
        if self._remembered is None and self._refused is None:
            slot = self._throttle.reserve(*self._whose)
            if isinstance(slot, Unavailable):
                self._refused = slot
            else:
                self._slot = slot

    def look(self) -> None:
        """Find out whether there would be a slot, and take none: nothing counts, nothing is recalled."""
        self._refused = self._throttle.look(*self._whose)

    def known(self, step: str) -> Outcome | None:
        """Return what is known without asking the step, or ``None``."""
        if self._remembered is not None:
            return self._remembered.outcomes.get(step, NotApplicable())
        return self._refused

    def note(self, step: Step, outcome: Outcome, account: AccountState | None) -> None:
        """Note how a step ended.

        :raises Stale: if that was remembered and no longer holds.
        """
        if self._is_stale(step.name, outcome, account):
            self._verified.forget(*self._of)
            raise Stale
        self._outcomes[step.name] = outcome
        if not isinstance(outcome, NotApplicable):
            self._reuse.append(_reuse_of(step, account))

    def succeeded(self, account: AccountState) -> None:
        """Return the slot and remember the whole result, earlier steps' rejections included."""
        if self._slot is None:
            return
        self._slot.succeeded()
        result = Remembered(self._outcomes, account.version, account.account_id)
        self._verified.remember(*self._of, result=result, seconds=min(self._reuse), reading=self._reading)
        self.release(result)

    def failed(self) -> None:
        """Let requests that wait with the same credentials go by how every step has ended."""
        self.release(Remembered(self._outcomes))

    def void(self) -> None:
        """Return the slot: these credentials do not count as a failure."""
        if self._slot is not None:
            self._slot.void()

    def release(self, result: Remembered | None) -> None:
        """Let requests that wait go; without a result they ask for themselves. The first call counts."""
        if self._verification is not None:
            self._verification.end(result)

    def _wait_for_others(self) -> Remembered | None:
        self._verification = self._verified.join(*self._of)
        found = self._verification.wait()
        if isinstance(found, Unavailable):
            self._refused = found
            return None
        return found

    def _is_stale(self, step: str, outcome: Outcome, account: AccountState | None) -> bool:
        remembered = self._remembered
        if remembered is None or not isinstance(remembered.outcomes.get(step), Authenticated):
            return False
        if isinstance(outcome, Unavailable):
            return False
        return account is None or (account.account_id, account.version) != (remembered.account_id, remembered.version)


def _reuse_of(step: Step, account: AccountState | None) -> float:
    """Return for how many seconds a step's outcome may be remembered."""
    if account is not None and not account.version and getattr(step, "needs_version", False):
        return 0.0  # Nothing would show that the account's password has changed.
    return float(getattr(step, "reuse_verified_for", 0.0))


def _credentials_of(evidence: Evidence, kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the name to throttle by and what identifies the credentials; nothing if they are absent or malformed."""
    if kind == BASIC and isinstance(evidence.basic, BasicCredentials):
        return evidence.basic.name, (evidence.basic.name, evidence.basic.password)
    if kind == SALESFORCE and isinstance(evidence.salesforce, SalesforceCredentials):
        return "", (evidence.salesforce.session_id, evidence.salesforce.identity_url)
    return "", ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """How the steps ended that checked some credentials.

    :param outcomes: each step's outcome by the step's name; of a success exactly one is ``Authenticated``.
    :param version: the account's version then.
    :param account_id: the account's id.
    """

    outcomes: Mapping[str, Outcome]
    version: str = ""
    account_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", MappingProxyType(dict(self.outcomes)))


class VerifiedCredentials:
    """Credentials found good a short time ago, and those that are being verified, in this process.

    A result is kept under an HMAC-SHA256 (RFC 2104) of the credentials under a random key of this process, so that a
    memory dump gives no credential away, nor a way to try guesses without the key. A forked child begins empty, under
    a key of its own.

    :param max_entries: the least recently used goes when there are more.
    :param patience: seconds from the beginning of a verification for which any number of requests wait for it; after
        that no more than :data:`PATIENT` do, and the others get 503.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1:
            raise ValueError("max_entries is at least 1")
        self._max_entries = max_entries
        self._patience = patience
        self._kept = PerProcess(lambda: _Kept(max_entries, clock))

    def __repr__(self) -> str:
        return f"VerifiedCredentials({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return how many results are held, expired ones that have not gone yet included."""
        return len(self._kept.get().results)

    def recall(self, kind: str, contact_center: str, address: str, *secrets: str) -> Remembered | None:
        """Return what was remembered of exactly these credentials from exactly this address."""
        kept = self._kept.get()
        return kept.results.recall(kept.digest(kind, contact_center, address, *secrets))

    def begin(self) -> Reading:
        """Note that a verification begins now."""
        return self._kept.get().results.begin()

    def remember(
        self,
        kind: str,
        contact_center: str,
        address: str,
        *secrets: str,
        result: Remembered,
        seconds: float,
        reading: Reading,
    ) -> None:
        """Remember a result for so many seconds from the start of the verification; 0 seconds remember nothing."""
        kept = self._kept.get()
        kept.results.remember(kept.digest(kind, contact_center, address, *secrets), result, seconds, reading)

    def forget(self, kind: str, contact_center: str, address: str, *secrets: str) -> None:
        """Forget what was remembered of these credentials."""
        kept = self._kept.get()
        kept.results.forget(kept.digest(kind, contact_center, address, *secrets))

    def join(self, kind: str, contact_center: str, address: str, *secrets: str) -> Verification:
        """Join the requests that wait for exactly these credentials from exactly this address, or be the first."""
        kept = self._kept.get()
        return kept.join(kept.digest(kind, contact_center, address, *secrets), self._patience)

    def clear(self) -> None:
        """Forget every result; verifications under way go on."""
        self._kept.get().results.clear()


class Verification:
    """One verification, as one of the requests sees it that wait for it.

    :ivar leads: this request is the one that verifies; it must call :meth:`end`.
    """

    def __init__(self, call: _Call, *, leads: bool) -> None:
        self._call = call
        self.leads = leads

    def wait(self) -> Remembered | Unavailable | None:
        """Return what the request that verifies has found; ``None``: nothing, so that this request has to ask.

        :returns: ``Unavailable`` if it takes long and enough other requests wait.
        """
        return None if self.leads else self._call.wait()

    def end(self, result: Remembered | None) -> None:
        """Let the other requests go with this result; the first call of the request that verifies counts."""
        if self.leads:
            self._call.end(result)


class _Call:
    """One verification under way, which all requests with the same credentials share."""

    def __init__(self, key: bytes, kept: _Kept, patience: float) -> None:
        self._key = key
        self._kept = kept
        self._in_good_time = time.monotonic() + patience
        self._ended = threading.Event()
        self._result: Remembered | None = None

    def end(self, result: Remembered | None) -> None:
        if not self._ended.is_set():
            self._result = result
            self._kept.ended(self._key, self)
            self._ended.set()

    def wait(self) -> Remembered | Unavailable | None:
        if self._ended.wait(max(0.0, self._in_good_time - time.monotonic())):
            return self._result
        # The server is slow. Each request that waits holds a thread, and no bound on calls counts it.
        places = self._kept.patient
        if not places.acquire(blocking=False):
            return _TOO_MANY
        try:
            return self._result if self._ended.wait(LONGEST_WAIT) else None
        finally:
            places.release()


class _Kept:
    """What one process keeps: its key, results under that key, and the verifications under way."""

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        # Made once: OpenSSL takes longer to find the algorithm than to run it.
        self._key = hmac.new(randomness.token_bytes(32), digestmod="sha256")
        self.results: Cache[bytes, Remembered] = Cache(max_entries, clock)
        self.patient = threading.BoundedSemaphore(PATIENT)
        self._lock = threading.Lock()
        self._calls: dict[bytes, _Call] = {}

    def digest(self, *parts: str) -> bytes:
        # Each part with its length before it: no two different sequences make the same message.
        message = "".join([f"{len(part)}:{part}" for part in parts])
        code = self._key.copy()
        code.update(message.encode("utf-8", "surrogatepass"))
        return code.digest()

    def join(self, key: bytes, patience: float) -> Verification:
        with self._lock:
            known = self._calls.get(key)
            if known is not None:
                return Verification(known, leads=False)
            begun = self._calls[key] = _Call(key, self, patience)
        return Verification(begun, leads=True)

    def ended(self, key: bytes, call: _Call) -> None:
        with self._lock:
            if self._calls.get(key) is call:
                del self._calls[key]


StillHolds = Callable[[Evidence, "ContactCenter", Authenticated], bool]
"""A step's ``still_holds``: tells whether its success still holds after the account was read."""
OwnLimit = Callable[[Evidence, "ContactCenter"], "tuple[FailureLimit, str] | None"]
"""A step's ``own_limit``: the limit that its server has and the key that is counted, or ``None`` if no server will be
asked."""
