"""The credential gate: decides whether the steps may verify the credentials of a request, and counts failures.

A walk opens the gate once. Before the first step that checks a kind of credentials (Basic or Salesforce), the gate
goes through four stages. The first stage that knows an outcome returns it, and no server is called.

1. Throttle: if the account is over its limit at this address, the steps are ``Unavailable`` (429). This stage comes
   first, so that an attacker who is over the limit learns nothing from the cache.
2. Cache: if the same credentials from the same address were verified within ``reuse_verified_for``, the outcome of
   each step comes from the cache. The account is read all the same; if it has changed, the walk starts again.
3. Single-flight: if another request is verifying the same credentials, this one waits for its result, good or bad.
4. Slots: take one slot of each limit of the throttle (atomic), or refuse. The slots are taken before a server is
   called, so that parallel guesses cannot exceed a limit.

Then the steps run. Before a step whose server locks accounts, the gate takes a slot of that step's own limit
(``max_failures``), or the step is ``Unavailable``. The end of the walk settles the slots:

    an account was found      all slots are returned; the result is cached and given to waiting requests
    a step has rejected       one slot stays taken: one failure, whatever the number of steps
    otherwise                 all slots are returned, because nothing has shown whether the credentials are good

If the client's address cannot be read, no result is cached: other clients share that address. Requests that wait for
the same credentials still get the result, because it is as new as their own would be.

Waiting requests get the outcomes of a failed walk, too; after an exception they verify for themselves. The slot of a
step's own limit is returned unless the server may have counted a failure.
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
from ..chain.walk import StaleResult
from ..processes import PerProcess
from .cache import MAX_ENTRIES, Cache, Reading

if TYPE_CHECKING:
    from types import TracebackType

    from ..chain.protocols import AccountState, ContactCenter, Step
    from .throttle import FailureLimit, FailureThrottle, Reservation

FOLLOWER_WAIT = 1.0
"""Seconds from the start of a verification during which any number of requests wait for its result."""
MAX_SLOW_FOLLOWERS = 3
"""Requests of one process that may wait longer. With the default ``concurrent_calls``, waiting and calling requests
hold fewer than 8 threads."""
LONGEST_FOLLOWER_WAIT = 30.0
"""Seconds after which these requests stop waiting, too; the deadline of every step is far shorter."""

_TOO_MANY_FOLLOWERS = Unavailable(
    Reason.UPSTREAM_BUSY,
    retry_after=1,
    detail=f"verifying these credentials takes more than {FOLLOWER_WAIT:g} s, "
    f"and {MAX_SLOW_FOLLOWERS} requests already wait",
    uncounted=True,
)

StillHolds = Callable[[Evidence, "ContactCenter", Authenticated], bool]
"""A step's ``still_holds``: returns whether its success still holds after the account was read."""
OwnLimit = Callable[[Evidence, "ContactCenter"], "tuple[FailureLimit, str] | None"]
"""A step's ``own_limit``: the limit for its server and the key to count by, or ``None`` if it will call no server."""


class CredentialGate:
    """Opens the gate for each walk; implements :class:`~flask_genesys_auth.chain.walk.Gate`."""

    def __init__(self, throttle: FailureThrottle, verified: VerifiedCredentials) -> None:
        self.throttle = throttle
        self.verified = verified

    def open(self, evidence: Evidence, contact_center: ContactCenter, *, use_cache: bool) -> OpenGate:
        """Open the gate for one walk."""
        return OpenGate(self, evidence, contact_center, use_cache=use_cache)


class OpenGate:
    """The gate of one walk. The end of the context settles every slot and releases waiting requests."""

    def __init__(
        self, gate: CredentialGate, evidence: Evidence, contact_center: ContactCenter, *, use_cache: bool
    ) -> None:
        self._gate = gate
        self._evidence = evidence
        self._contact_center = contact_center
        self._use_cache = use_cache
        self._attempts: dict[str, _Attempt] = {}
        self._asked: Step | None = None
        self._own_slot: Reservation | None = None
        self._authenticated = False

    def __enter__(self) -> OpenGate:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if self._own_slot is not None:
                self._own_slot.void()
            if not self._authenticated:
                if kind is None:
                    for attempt in self._attempts.values():
                        attempt.share_failure()
                self._settle_slots(count=kind is not StaleResult)
        finally:
            for attempt in self._attempts.values():
                attempt.release(None)

    def ask(self, step: Step) -> Outcome:
        """Return the step's outcome: from the cache, from a limit, or from the step itself."""
        self._asked = step
        attempt = self._attempt_at(step)
        known = attempt.known(step.name) if attempt is not None else None
        if known is None:
            known = self._take_own_slot(step)
        if known is not None:
            return known
        outcome = step.authenticate(self._evidence, self._contact_center)
        if isinstance(outcome, Unavailable):
            slot, self._own_slot = self._own_slot, None
            # An outage must not lock out the users who try to log in during it. After other failures the slot stays
            # taken, because the server may have counted one.
            if slot is not None and (outcome.uncounted or outcome.reason is Reason.UNREACHABLE):
                slot.void()
        return outcome

    def still_holds(self, step: Step, outcome: Outcome) -> bool:
        """Return whether a new success still holds after the account was read.

        The password may have changed between the two reads. Without this check the old password would be cached under
        the new version of the account.

        :raises BackendUnavailable: if the step cannot determine it.
        """
        check: StillHolds | None = getattr(step, "still_holds", None)
        attempt = self._attempt_at(step)
        if check is None or attempt is None or not attempt.verifies or not isinstance(outcome, Authenticated):
            return True
        return check(self._evidence, self._contact_center, outcome)

    def close_on(self, outcome: Outcome, account: AccountState | None) -> bool:
        """Note how the last step ended; return whether the walk ends here.

        :raises StaleResult: if a cached success no longer holds.
        """
        step, self._asked = self._asked, None
        slot, self._own_slot = self._own_slot, None
        # An identity without an account here counts as a failure: its slot stays taken.
        if slot is not None and (account is not None or isinstance(outcome, Unavailable)):
            slot.void()
        attempt = self._attempt_at(step) if step is not None else None
        if step is not None and attempt is not None:
            attempt.note(step, outcome, account)
        if account is None:
            return False
        self._authenticated = True
        for one in self._attempts.values():
            one.succeeded(account) if one is attempt else one.void()
        return True

    def _attempt_at(self, step: Step) -> _Attempt | None:
        """Return the attempt with the credentials that this step checks; ``None`` if the request has none."""
        kind = getattr(step, "credentials", "")
        if kind in self._attempts:
            return self._attempts[kind]
        name, secrets = _credentials_of(self._evidence, kind)
        if not secrets:
            return None
        credentials = (kind, self._contact_center.name, self._evidence.address, *secrets)
        attempt = self._attempts[kind] = _Attempt(self._gate, name, credentials)
        if self._evidence.dry_run:
            attempt.look()
        else:
            attempt.admit(use_cache=self._use_cache)
        return attempt

    def _take_own_slot(self, step: Step) -> Unavailable | None:
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

    def _settle_slots(self, *, count: bool) -> None:
        """Return every slot, except those of rejected credentials, also when a later step has raised."""
        # A walk counts one failure. If both kinds of credentials were bad, it is the failure of the named account.
        counting = [attempt for attempt in self._attempts.values() if attempt.rejected][-1:] if count else []
        for attempt in self._attempts.values():
            if attempt not in counting:
                attempt.void()


class _Attempt:
    """The attempt of one walk to authenticate with one kind of credentials.

    :param name: the name whose failures are counted; empty if the credentials name no account.
    :param credentials: their kind, contact center, client address and secrets.
    """

    def __init__(self, gate: CredentialGate, name: str, credentials: tuple[str, ...]) -> None:
        self._throttle = gate.throttle
        self._verified = gate.verified
        self._counted_by = (credentials[1], name, credentials[2])
        self._credentials = credentials
        self._reading = gate.verified.begin()
        self._cached: Result | None = None
        self._refused: Unavailable | None = None
        self._slot: Reservation | None = None
        self._verification: Verification | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._lifetimes: list[float] = []

    @property
    def rejected(self) -> bool:
        """Return whether a step has rejected the credentials."""
        return any(isinstance(outcome, Rejected) for outcome in self._outcomes.values())

    @property
    def verifies(self) -> bool:
        """Return whether the steps verify the credentials in this walk."""
        return self._slot is not None

    def admit(self, *, use_cache: bool) -> None:
        """Go through the four stages: throttle, cache, single-flight, slots."""
        self._refused = self._throttle.over_limit(*self._counted_by)
        if self._refused is not None:
            return
        if use_cache:
            self._cached = self._verified.get(*self._credentials) or self._follow()
        if self._cached is None and self._refused is None:
            slot = self._throttle.reserve(*self._counted_by)
            if isinstance(slot, Unavailable):
                self._refused = slot
            else:
                self._slot = slot

    def look(self) -> None:
        """Find out whether there would be a slot; take none and use no cache."""
        self._refused = self._throttle.look(*self._counted_by)

    def known(self, step: str) -> Outcome | None:
        """Return the outcome that is known without running the step, or ``None``."""
        if self._cached is not None:
            return self._cached.outcomes.get(step, NotApplicable())
        return self._refused

    def note(self, step: Step, outcome: Outcome, account: AccountState | None) -> None:
        """Note how a step ended.

        :raises StaleResult: if a cached success no longer holds.
        """
        if self._is_stale(step.name, outcome, account):
            self._verified.invalidate(*self._credentials)
            raise StaleResult
        self._outcomes[step.name] = outcome
        if not isinstance(outcome, NotApplicable):
            self._lifetimes.append(_lifetime(step, account))

    def succeeded(self, account: AccountState) -> None:
        """Return the slot and cache the outcomes of all steps, including the rejections of earlier ones."""
        if self._slot is None:
            return
        _, _, address = self._counted_by
        seconds = min(self._lifetimes) if address else 0.0
        self._slot.succeeded()
        result = Result(self._outcomes, account.version, account.account_id)
        self._verified.put(*self._credentials, result=result, seconds=seconds, reading=self._reading)
        self.release(result)

    def share_failure(self) -> None:
        """Give the outcomes of all steps to the waiting requests."""
        self.release(Result(self._outcomes))

    def void(self) -> None:
        """Return the slot: these credentials do not count as a failure."""
        if self._slot is not None:
            self._slot.void()

    def release(self, result: Result | None) -> None:
        """End the wait of other requests; without a result they verify for themselves. The first call counts."""
        if self._verification is not None:
            self._verification.end(result)

    def _follow(self) -> Result | None:
        """Return the result of the request that verifies the same credentials; ``None`` if this one has to."""
        verification, leads = self._verified.join(*self._credentials)
        if leads:
            self._verification = verification
            return None
        found = verification.wait()
        if isinstance(found, Unavailable):
            self._refused = found
            return None
        return found

    def _is_stale(self, step: str, outcome: Outcome, account: AccountState | None) -> bool:
        cached = self._cached
        if cached is None or not isinstance(cached.outcomes.get(step), Authenticated):
            return False
        if isinstance(outcome, Unavailable):
            return False
        return account is None or (account.account_id, account.version) != (cached.account_id, cached.version)


def _lifetime(step: Step, account: AccountState | None) -> float:
    """Return for how many seconds a step's outcome may be cached."""
    if account is not None and not account.version and getattr(step, "needs_version", False):
        return 0.0  # Nothing would show that the account's password has changed.
    return float(getattr(step, "reuse_verified_for", 0.0))


def _credentials_of(evidence: Evidence, kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the name to throttle by and the secrets; nothing if the credentials are absent or malformed."""
    if kind == "basic" and isinstance(evidence.basic, BasicCredentials):
        return evidence.basic.name, (evidence.basic.name, evidence.basic.password)
    if kind == "salesforce" and isinstance(evidence.salesforce, SalesforceCredentials):
        return "", (evidence.salesforce.session_id, evidence.salesforce.identity_url)
    return "", ()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcomes of the steps that checked some credentials.

    :param outcomes: each step's outcome by the step's name; after a success exactly one is ``Authenticated``.
    :param version: the account's version at that time, and its id.
    """

    outcomes: Mapping[str, Outcome]
    version: str = ""
    account_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", MappingProxyType(dict(self.outcomes)))


class VerifiedCredentials:
    """The cache of verified credentials, and the verifications under way, of each process.

    The key of an entry is an HMAC-SHA256 (RFC 2104) of the credentials under a random key of the process. A memory
    dump without that key contains no credential and allows no test of guesses. A forked child begins with an empty
    cache and a key of its own.

    Credentials are given as their kind, contact center, client address and secrets.

    :param follower_wait: seconds from the start of a verification during which any number of requests wait for it;
        after that at most :data:`MAX_SLOW_FOLLOWERS` do, and the others get 503.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        follower_wait: float = FOLLOWER_WAIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1:
            raise ValueError("max_entries is at least 1")
        self._max_entries = max_entries
        self._follower_wait = follower_wait
        self._results: Cache[bytes, Result] = Cache(0, max_entries=max_entries, clock=clock)
        self._in_process = PerProcess(_InProcess)

    def __repr__(self) -> str:
        return f"VerifiedCredentials({len(self)} of {self._max_entries})"

    def __len__(self) -> int:
        """Return the number of cached results."""
        return len(self._results)

    def get(self, *credentials: str) -> Result | None:
        """Return the cached result for exactly these credentials from exactly this address."""
        return self._results.get(self._in_process.get().digest(*credentials))

    def begin(self) -> Reading:
        """Note that a verification begins now."""
        return self._results.begin()

    def put(self, *credentials: str, result: Result, seconds: float, reading: Reading) -> None:
        """Cache a result for a number of seconds from the start of the verification; 0 caches nothing."""
        self._results.put(self._in_process.get().digest(*credentials), result, reading, seconds=seconds)

    def invalidate(self, *credentials: str) -> None:
        """Remove the result for these credentials; verifications under way are not cached."""
        self._results.invalidate(self._in_process.get().digest(*credentials))

    def join(self, *credentials: str) -> tuple[Verification, bool]:
        """Return the verification of exactly these credentials, and whether this request leads it.

        The leader verifies and must call :meth:`Verification.end`; the others wait.
        """
        here = self._in_process.get()
        key = here.digest(*credentials)
        with here.lock:
            known = here.under_way.get(key)
            if known is not None:
                return known, False
            begun = here.under_way[key] = Verification(key, here, self._follower_wait)
        return begun, True

    def clear(self) -> None:
        """Remove every result; verifications under way go on."""
        self._results.clear()


class Verification:
    """One verification under way, shared by all requests with the same credentials (single-flight)."""

    def __init__(self, key: bytes, here: _InProcess, follower_wait: float) -> None:
        self._key = key
        self._here = here
        self._slow_from = time.monotonic() + follower_wait
        self._ended = threading.Event()
        self._result: Result | None = None

    def end(self, result: Result | None) -> None:
        """Give the result to the waiting requests; the first call counts."""
        if self._ended.is_set():
            return
        self._result = result
        with self._here.lock:
            if self._here.under_way.get(self._key) is self:
                del self._here.under_way[self._key]
        self._ended.set()

    def wait(self) -> Result | Unavailable | None:
        """Return the leader's result; ``None`` if it has none, so that this request has to verify.

        :returns: ``Unavailable`` if the verification is slow and enough other requests wait already.
        """
        if self._ended.wait(max(0.0, self._slow_from - time.monotonic())):
            return self._result
        # Each request that waits holds a thread, and no limit on calls counts it.
        if not self._here.slow_followers.acquire(blocking=False):
            return _TOO_MANY_FOLLOWERS
        try:
            return self._result if self._ended.wait(LONGEST_FOLLOWER_WAIT) else None
        finally:
            self._here.slow_followers.release()


class _InProcess:
    """The key of one process and its verifications under way."""

    def __init__(self) -> None:
        # Made once: OpenSSL takes longer to find the algorithm than to run it.
        self._key = hmac.new(randomness.token_bytes(32), digestmod="sha256")
        self.slow_followers = threading.BoundedSemaphore(MAX_SLOW_FOLLOWERS)
        self.lock = threading.Lock()
        self.under_way: dict[bytes, Verification] = {}

    def digest(self, *parts: str) -> bytes:
        """Return the key of these credentials; with its length before each part, no two sequences are the same."""
        message = "".join([f"{len(part)}:{part}" for part in parts])
        code = self._key.copy()
        code.update(message.encode("utf-8", "surrogatepass"))
        return code.digest()
