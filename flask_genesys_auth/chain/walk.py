"""The walk: determine the user of a request. This is the Web Services authentication flow, for one request.

1. ``collect`` parses the evidence: Basic credentials, the two Salesforce headers, the client's address. The cookie of
   a login session is resolved only if a step or the choice of the contact center needs it.
2. ``ContactCenters.resolve`` finds the one contact center that all evidence names. If there is none, the request is
   anonymous.
3. The loop tries the steps of that contact center in the order of the flow: salesforce, configuration_server,
   web_services, login_session, saml. Each step runs behind the credential gate (``limits/gate.py``), which may answer
   from its cache or refuse throttled credentials. A step returns one of four outcomes:

       NotApplicable   the request has no evidence for this step, or the step is disabled
       Rejected        the evidence is invalid
       Unavailable     the server behind the step did not answer, or a limit was reached
       Authenticated   the step has proven an identity

4. ``settle`` turns a proven identity into an account. The account is read for every request. An account that is
   missing, disabled, or of another contact center makes the outcome ``Rejected``.
5. The first account ends the walk. After any other outcome the next step runs. If no step succeeds, the request is
   anonymous: ``web`` answers a protected endpoint with 429, 503, 401 or a redirect to the login.

Three rules keep this safe. Credentials in the request take precedence over the cookie: after ``Rejected`` or
``Unavailable`` no login session is resumed. A store that does not answer makes a step ``Unavailable``, never
successful. Any other exception is a bug: it ends the request with 500 and never leads to the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import AccountsUnavailable, BackendUnavailable, HasherBusy, StateUnavailable
from .contact_centers import ContactCenters
from .evidence import Evidence, collect, read_credentials
from .outcomes import (
    OUTCOME_NAMES,
    Authenticated,
    Decision,
    Identity,
    LoginSession,
    NotApplicable,
    Outcome,
    Reason,
    Rejected,
    StepRecord,
    Unavailable,
)

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..config.settings import SalesforceHeaders
    from .protocols import AccountState, AccountStore, ContactCenter, Describe, Step

_OUTCOMES = tuple(OUTCOME_NAMES)

_REASONS: Mapping[type[BackendUnavailable], Reason] = {
    StateUnavailable: Reason.STATE_UNAVAILABLE,
    AccountsUnavailable: Reason.ACCOUNTS_UNAVAILABLE,
    HasherBusy: Reason.HASHER_BUSY,
}


class AuthenticationChain:
    """Walks the steps of the contact center that a request belongs to.

    :param recent: the same accounts behind a cache, for login sessions; default: ``accounts``.
    """

    def __init__(
        self,
        contact_centers: ContactCenters,
        headers: SalesforceHeaders,
        *,
        sessions: Sessions,
        accounts: AccountStore[Any],
        describe: Describe,
        gate: Gate,
        recent: AccountStore[Any] | None = None,
    ) -> None:
        self.contact_centers = contact_centers
        self._headers = headers
        self._sessions = sessions
        self._accounts = accounts
        self._recent = recent or accounts
        self.describe = describe
        self._gate = gate

    def walk(
        self, request: Request, session_id: Callable[[], str | None] = lambda: None, *, dry_run: bool = False
    ) -> Decision:
        """Determine the user of this request.

        :param session_id: returns the opaque id of the browser's login session; called at most once.
        :param dry_run: count no failure and store nothing.
        """

        @cache
        def resume() -> LoginSession | Rejected | None:
            opaque = session_id()
            return self._sessions.resume(opaque, touch=not dry_run) if opaque else None

        return self._decide(collect(request, self._headers, resume, dry_run=dry_run))

    def check_password(self, request: Request, user_name: str, password: str) -> Decision:
        """Check a user name and password, as from a login form, with the Basic steps only."""
        evidence = collect(request, self._headers)
        credentials = read_credentials(user_name, ":", password)
        return self._decide(replace(evidence, basic=credentials, salesforce=None), only="basic")

    def _decide(self, evidence: Evidence, only: str = "") -> Decision:
        """Find the contact center and walk its steps, or only those that check this kind of credentials."""
        try:
            center = self.contact_centers.resolve(evidence)
        except BackendUnavailable as error:
            return unavailable_decision("login_session", error)
        if isinstance(center, StepRecord):
            return Decision(None, steps=(center,))
        steps: Sequence[Step] = center.steps
        if only:
            steps = [step for step in steps if getattr(step, "credentials", "") == only]
        try:
            return self._walk_steps(steps, evidence, center, use_cache=not evidence.dry_run)
        except StaleResult:
            return self._walk_steps(steps, evidence, center, use_cache=False)

    def _walk_steps(
        self, steps: Sequence[Step], evidence: Evidence, contact_center: ContactCenter, *, use_cache: bool
    ) -> Decision:
        records: list[StepRecord] = []
        found = Settled(NotApplicable())
        with self._gate.open(evidence, contact_center, use_cache=use_cache) as gate:
            for step in steps:
                began = perf_counter()
                found = self._ask(step, gate, evidence, contact_center, records)
                records.append(StepRecord(step.name, found.outcome, perf_counter() - began))
                if gate.close_on(found.outcome, found.account):
                    break
        if found.account is None:
            return Decision(contact_center.name, steps=tuple(records))
        return Decision(
            contact_center=contact_center.name,
            user=found.user,
            steps=tuple(records),
            resumed=_resumes(step),
            roles=found.account.roles,
            account_id=found.account.account_id,
        )

    def _ask(
        self, step: Step, gate: OpenGate, evidence: Evidence, contact_center: ContactCenter, records: list[StepRecord]
    ) -> Settled:
        """Run one step through the gate and settle its outcome."""
        if _resumes(step) and any(isinstance(record.outcome, (Rejected, Unavailable)) for record in records):
            return Settled(NotApplicable(Reason.EXPLICIT_CREDENTIALS))
        try:
            outcome = gate.ask(step)
            if not isinstance(outcome, _OUTCOMES):
                # An extra step without a return statement must not let the request pass to the next step.
                raise TypeError(
                    f"step {step.name}: authenticate() returned {type(outcome).__name__}, not an outcome: return "
                    "Authenticated, NotApplicable, Rejected or Unavailable"
                )
            if isinstance(outcome, Authenticated) and outcome.identity.contact_center != contact_center.name:
                return Settled(Rejected(Reason.OTHER_CONTACT_CENTER))
            found = self.settle(outcome, recent=_resumes(step) and not evidence.dry_run)
            if found.account is not None and not gate.still_holds(step, outcome):
                return Settled(Rejected(Reason.BAD_CREDENTIALS, "the password was changed during the request"))
            return found
        except BackendUnavailable as error:
            return Settled(_unavailable(error))

    def settle(self, outcome: Outcome, *, recent: bool = False) -> Settled:
        """Turn a proven identity into an account, or into the reason why there is none.

        :param recent: an account that the identity names by its id may come from the cache.
        :raises BackendUnavailable: if the account store does not answer.
        """
        if not isinstance(outcome, Authenticated):
            return Settled(outcome)
        identity = outcome.identity
        if identity.matched_by == "account_id":
            user = (self._recent if recent else self._accounts).get(identity.subject)
        else:
            user = self._accounts.find(identity)
        if user is None:
            return Settled(Rejected(Reason.NO_ACCOUNT, _missing(identity), identity))
        account = self.describe(user)
        if account.contact_center not in {None, identity.contact_center}:
            return Settled(Rejected(Reason.OTHER_CONTACT_CENTER))
        if not account.enabled:
            return Settled(Rejected(Reason.ACCOUNT_DISABLED))
        return Settled(outcome, user, account)


class Settled(NamedTuple):
    """The result of a step: an account, or the reason why there is none."""

    outcome: Outcome
    user: Any = None
    account: AccountState | None = None


class Sessions(Protocol):
    """The interface of login sessions that the walk uses."""

    def resume(self, session_id: str, *, touch: bool = True) -> LoginSession | Rejected:
        """Return the login session, or a rejection if it has ended.

        :param touch: note that the session was used now (idle timeout).
        """
        ...


class Gate(Protocol):
    """The interface of the credential gate that the walk uses."""

    def open(
        self, evidence: Evidence, contact_center: ContactCenter, *, use_cache: bool
    ) -> AbstractContextManager[OpenGate]:
        """Open the gate for one walk; the end of the context settles every slot."""
        ...


class OpenGate(Protocol):
    """The credential gate of one walk."""

    def ask(self, step: Step) -> Outcome:
        """Return the step's outcome: from the cache, from a limit, or from the step itself."""
        ...

    def still_holds(self, step: Step, outcome: Outcome) -> bool:
        """Return whether a new success still holds after the account was read, and may be cached."""
        ...

    def close_on(self, outcome: Outcome, account: AccountState | None) -> bool:
        """Note how the last step ended; return whether the walk ends here.

        :raises StaleResult: if a cached success no longer holds.
        """
        ...


class StaleResult(Exception):
    """A cached success no longer holds: the walk starts again without the cache."""


def unavailable_decision(step: str, error: BackendUnavailable) -> Decision:
    """Return the decision (503) for a request that cannot be decided because a store failed."""
    return Decision(None, steps=(StepRecord(step, _unavailable(error), 0.0),))


def _unavailable(error: BackendUnavailable) -> Unavailable:
    reason = _REASONS.get(type(error), Reason.SERVER_ERROR)
    return Unavailable(reason, retry_after=error.retry_after, detail=error.finding)


def _resumes(step: Step) -> bool:
    return getattr(step, "resumes", False)


def _missing(identity: Identity) -> str:
    """Describe the missing account, for the log and ``explain``."""
    if identity.matched_by == "account_id":
        return "the account of this login session was deleted"
    if identity.matched_by == "identity":
        return f"no account of {identity.contact_center} is linked to {identity.provider}={identity.subject}"
    return f"no account of {identity.contact_center} has the name {identity.subject!r}"
