"""The authentication chain: the Web Services authentication flow, step by step, for one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import AccountsUnavailable, BackendUnavailable, HasherBusy, StateUnavailable
from .contact_centers import ContactCenters
from .evidence import Evidence, ResumeSession, collect, read_credentials
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

    :param contact_centers: all of them, with their steps.
    :param headers: the names of the two Salesforce headers.
    :param sessions: where login sessions are found.
    :param accounts: whose account a proven identity is.
    :param describe: an account's state, from the store's own user object.
    :param gate: stands before the steps that check credentials.
    :param recent: the same accounts, possibly as they were a short time ago, for login sessions; default: ``accounts``.
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
        self,
        request: Request,
        session_id: Callable[[], str | None] = lambda: None,
        *,
        dry_run: bool = False,
    ) -> Decision:
        """Decide who sent this request.

        :param session_id: returns the opaque id of the browser's login session; called only if it matters.
        :param dry_run: count no failure, remember nothing, note nothing.
        """
        resume = self._resumer(session_id, touch=not dry_run)
        return self._decide(collect(request, self._headers, resume, dry_run=dry_run))

    def check_password(self, request: Request, user_name: str, password: str) -> Decision:
        """Decide by the Basic steps alone whether this name and password are good, as for a login form."""
        bare = collect(request, self._headers)
        credentials = read_credentials(user_name, ":", password)
        return self._decide(replace(bare, basic=credentials, salesforce=None), only="basic")

    def settle(self, outcome: Outcome, *, recent: bool = False) -> Settled:
        """Turn a proven identity into an account, or into the reason why there is none.

        The account is read at every request, also when the credentials were found good before.

        :param recent: it may have been read a short time ago, if the identity names it by its id.
        :raises BackendUnavailable: if the account store does not answer.
        """
        if not isinstance(outcome, Authenticated):
            return Settled(outcome)
        proven = outcome.identity
        if proven.matched_by == "account_id":
            user = (self._recent if recent else self._accounts).get(proven.subject)
        else:
            user = self._accounts.find(proven)
        if user is None:
            return Settled(Rejected(Reason.NO_ACCOUNT, _missing(proven), proven))
        account = self.describe(user)
        if account.contact_center not in {None, proven.contact_center}:
            return Settled(Rejected(Reason.OTHER_CONTACT_CENTER))
        if not account.enabled:
            return Settled(Rejected(Reason.ACCOUNT_DISABLED))
        return Settled(outcome, user, account)

    def _decide(self, evidence: Evidence, only: str = "") -> Decision:
        try:
            center = self.contact_centers.resolve(evidence)
        except BackendUnavailable as error:
            return undecided("login_session", error)
        if isinstance(center, StepRecord):
            return Decision(None, steps=(center,))
        steps: Sequence[Step] = center.steps
        if only:
            steps = [step for step in steps if getattr(step, "credentials", "") == only]
        try:
            return self._through(steps, evidence, center, recall=not evidence.dry_run)
        except Stale:
            return self._through(steps, evidence, center, recall=False)

    def _through(
        self, steps: Sequence[Step], evidence: Evidence, contact_center: ContactCenter, *, recall: bool
    ) -> Decision:
        """Walk the steps until one succeeds."""
        records: list[StepRecord] = []
        found = Settled(NotApplicable())
        with self._gate.open(evidence, contact_center, recall=recall) as gate:
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
        """Return how a step ends; an identity that it proves becomes an account."""
        if _resumes(step) and any(isinstance(record.outcome, (Rejected, Unavailable)) for record in records):
            # Credentials that were sent on purpose outrank the browser's cookie, also when they are wrong.
            return Settled(NotApplicable(Reason.EXPLICIT_CREDENTIALS))
        try:
            outcome = gate.ask(step)
            if not isinstance(outcome, _OUTCOMES):
                # A step that is there to refuse must not let every request pass because of a mistake.
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
            return Settled(unavailable(error))

    def _resumer(self, session_id: Callable[[], str | None], *, touch: bool) -> ResumeSession:
        found: list[LoginSession | Rejected | None] = []

        def resume() -> LoginSession | Rejected | None:
            if not found:
                opaque = session_id()
                found.append(self._sessions.resume(opaque, touch=touch) if opaque else None)
            return found[0]

        return resume


class Settled(NamedTuple):
    """How a step ended: with an account, or why there is none."""

    outcome: Outcome
    user: Any = None
    account: AccountState | None = None


class Sessions(Protocol):
    """Where the chain finds login sessions."""

    def resume(self, session_id: str, *, touch: bool = True) -> LoginSession | Rejected:
        """Return the living session, or why there is none.

        :param touch: note that it was seen now (idle time-out).
        """
        ...


class OpenGate(Protocol):
    """The credential gate of one walk."""

    def ask(self, step: Step) -> Outcome:
        """Return how the step ends: refused, remembered, or as it says itself."""
        ...

    def still_holds(self, step: Step, outcome: Outcome) -> bool:
        """Tell, after the account was read, whether this success may be remembered under the account's version."""
        ...

    def close_on(self, outcome: Outcome, account: AccountState | None) -> bool:
        """Note how the step that was asked last ended; tell whether the walk ends here.

        :raises Stale: if a remembered success no longer holds.
        """
        ...


class Gate(Protocol):
    """The credential gate: the throttle, remembered results, and requests that wait for each other."""

    def open(
        self, evidence: Evidence, contact_center: ContactCenter, *, recall: bool
    ) -> AbstractContextManager[OpenGate]:
        """Open the gate for one walk; when the walk ends, every slot is settled.

        :param recall: use what is remembered.
        """
        ...


class Stale(Exception):
    """What was remembered of these credentials no longer holds: the walk begins anew, without it."""


def unavailable(error: BackendUnavailable) -> Unavailable:
    """Return the outcome that a store's error is."""
    reason = _REASONS.get(type(error), Reason.SERVER_ERROR)
    return Unavailable(reason, retry_after=error.retry_after, detail=error.finding)


def undecided(step: str, error: BackendUnavailable) -> Decision:
    """Return the decision of a request that a store's error has left without one: 503."""
    return Decision(None, steps=(StepRecord(step, unavailable(error), 0.0),))


def _resumes(step: Step) -> bool:
    return getattr(step, "resumes", False)


def _missing(proven: Identity) -> str:
    """Say whose account is missing, for the log and ``explain``."""
    if proven.matched_by == "account_id":
        return "the account of this login session is gone"
    if proven.matched_by == "identity":
        return f"no account of {proven.contact_center} is linked to {proven.provider}={proven.subject}"
    return f"no account of {proven.contact_center} has the name {proven.subject!r}"
