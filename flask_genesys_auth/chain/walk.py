"""The authentication chain: the Web Services authentication flow, step by step, for one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..errors import AccountsUnavailable, BackendUnavailable, HasherBusy, StateUnavailable
from .contact_centers import ContactCenter, ContactCenters
from .decision import (
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
from .door import BASIC, Door, credentials_of
from .evidence import Evidence, collect, read_credentials
from .inert import InertStep, is_inert

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..config.settings import SalesforceHeaders
    from .ports import (
        AccountState,
        AccountStore,
        Describe,
        RecentAccounts,
        SessionReader,
        Step,
        Throttle,
        VerifiedCredentials,
    )

_OUTCOMES = tuple(OUTCOME_NAMES)

_REASONS: Mapping[type[BackendUnavailable], Reason] = {
    StateUnavailable: Reason.STATE_UNAVAILABLE,
    AccountsUnavailable: Reason.ACCOUNTS_UNAVAILABLE,
    HasherBusy: Reason.HASHER_BUSY,
}


def unavailable(error: BackendUnavailable) -> Unavailable:
    """Return the outcome that a store's error is."""
    reason = _REASONS.get(type(error), Reason.SERVER_ERROR)
    return Unavailable(reason, retry_after=error.retry_after, detail=error.finding)


class Settled(NamedTuple):
    """What became of a proven identity: the account, or why there is none."""

    outcome: Outcome
    user: Any = None
    state: AccountState | None = None


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step with what the walk must know of it, looked up once.

    :param kind: whose credentials it reads (``basic``, ``salesforce``), so that they are throttled and remembered.
    :param reuse: seconds for which its success may be remembered.
    :param resumes: it resumes a login session, which explicit credentials outrank.
    :param record: of a step that hands over whatever is sent, so that nobody needs to ask it.
    """

    step: Step
    kind: str
    reuse: float
    resumes: bool
    record: StepRecord | None


def _stage(step: Step) -> _Stage:
    return _Stage(
        step=step,
        kind=getattr(step, "credentials", ""),
        reuse=getattr(step, "reuse_verified_for", 0.0),
        resumes=getattr(step, "resumes", False),
        record=StepRecord(step.name, cast("InertStep", step).always, 0.0) if is_inert(step) else None,
    )


class AuthenticationChain:
    """Walks the steps of the contact center that a request belongs to.

    :param contact_centers: all of them, with their steps.
    :param headers: the names of the two Salesforce headers.
    :param sessions: where login sessions are found.
    :param accounts: who a proven identity is here.
    :param describe: an account's state, from the store's own user object.
    :param throttle: how many failures are let through.
    :param verified: credentials found good a short time ago.
    :param recent: accounts read for a login session a short time ago; default: none.
    """

    def __init__(
        self,
        contact_centers: ContactCenters,
        headers: SalesforceHeaders,
        *,
        sessions: SessionReader,
        accounts: AccountStore[Any],
        describe: Describe,
        throttle: Throttle,
        verified: VerifiedCredentials,
        recent: RecentAccounts | None = None,
    ) -> None:
        self.contact_centers = contact_centers
        self._headers = headers
        self._sessions = sessions
        self._accounts = accounts
        self._describe = describe
        self._throttle = throttle
        self._verified = verified
        self._recent = recent
        self._stages = {name: tuple(_stage(step) for step in center.steps) for name, center in contact_centers.items()}

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
        evidence = collect(request, self._headers, self._resumer(session_id, dry_run), dry_run=dry_run)
        return self._decide(evidence)

    def check_password(self, request: Request, user_name: str, password: str) -> Decision:
        """Decide by the Basic steps alone whether this name and password are good, as for a login form."""
        bare = collect(request, self._headers)
        credentials = read_credentials(user_name, ":", password)
        return self._decide(replace(bare, basic=credentials, salesforce=None), only=BASIC)

    def settle(self, outcome: Outcome, *, recent: bool = False) -> Settled:
        """Turn a proven identity into an account, or into the reason why it is none.

        The account is read at every request, also when the credentials were found good before.

        :param recent: it may have been read a short time ago, if it is named by its id.
        """
        if not isinstance(outcome, Authenticated):
            return Settled(outcome)
        proven = outcome.identity
        try:
            if recent and self._recent is not None and proven.matched_by == "account_id":
                found = self._recent.read(proven.subject, lambda: self._look_up(proven))
            else:
                found = self._look_up(proven)
        except BackendUnavailable as error:
            return Settled(unavailable(error))
        if found is None:
            return Settled(Rejected(Reason.NO_ACCOUNT, _nobody(proven), proven))
        user, state = found
        if state.contact_center not in {None, proven.contact_center}:
            return Settled(Rejected(Reason.OTHER_CONTACT_CENTER))
        if not state.enabled:
            return Settled(Rejected(Reason.ACCOUNT_DISABLED))
        return Settled(outcome, user, state)

    def _look_up(self, proven: Identity) -> tuple[Any, AccountState] | None:
        by_id = proven.matched_by == "account_id"
        user = self._accounts.get(proven.subject) if by_id else self._accounts.find(proven)
        return None if user is None else (user, self._describe(user))

    def _decide(self, evidence: Evidence, only: str = "") -> Decision:
        try:
            center = self.contact_centers.resolve(evidence)
        except BackendUnavailable as error:
            return Decision(None, steps=(StepRecord("login_session", unavailable(error), 0.0),))
        if isinstance(center, StepRecord):
            return Decision(None, steps=(center,))
        stages: Sequence[_Stage] = self._stages[center.name]
        if only:
            stages = [stage for stage in stages if stage.kind == only]
        decision = _Walk(self, evidence, center, recall=not evidence.dry_run).through(stages)
        # Remembered credentials whose account has changed since are asked about afresh.
        return decision or _Walk(self, evidence, center, recall=False).through(stages) or Decision(center.name)

    def _resumer(
        self, session_id: Callable[[], str | None], dry_run: bool
    ) -> Callable[[], LoginSession | Rejected | None]:
        found: list[LoginSession | Rejected | None] = []

        def resume() -> LoginSession | Rejected | None:
            if not found:
                opaque = session_id()
                found.append(self._sessions.resume(opaque, touch=not dry_run) if opaque else None)
            return found[0]

        return resume


def _nobody(proven: Identity) -> str:
    """Say whose account is missing, for the log and ``explain``."""
    if proven.matched_by == "account_id":
        return "the account of this login session is gone"
    if proven.matched_by == "identity":
        return f"no account of {proven.contact_center} is linked to {proven.provider}={proven.subject}"
    return f"no account of {proven.contact_center} has the name {proven.subject!r}"


class _Walk:
    """One walk: the loop, and the doors it opens on its way."""

    def __init__(self, chain: AuthenticationChain, evidence: Evidence, center: ContactCenter, *, recall: bool) -> None:
        self._chain = chain
        self._evidence = evidence
        self._center = center
        self._name = center.name
        self._recall = recall
        self._doors: dict[str, Door] = {}
        self._records: list[StepRecord] = []

    def through(self, stages: Sequence[_Stage]) -> Decision | None:
        """Walk; ``None`` where what was remembered no longer holds."""
        try:
            return self._through(stages)
        finally:
            for door in self._doors.values():
                # Whatever has happened here: nobody waits for it any longer.
                door.let_go()

    def _through(self, stages: Sequence[_Stage]) -> Decision | None:
        for stage in stages:
            if stage.record is not None:
                self._records.append(stage.record)
                continue
            began = perf_counter()
            door = self._door(stage.kind) if stage.kind else None
            recent = stage.resumes and not self._evidence.dry_run
            settled = self._chain.settle(self._ask(stage, door), recent=recent)
            self._records.append(StepRecord(stage.step.name, settled.outcome, perf_counter() - began))
            if self._evidence.held:
                self._settle_slot(stage, settled)
            if door is not None:
                if door.stale(stage.step.name, settled.outcome, settled.state):
                    self._void_all()
                    return None
                door.note(stage.step.name, settled.outcome, stage.reuse)
            if settled.state is not None:
                self._close(stage, settled.state)
                return Decision(
                    contact_center=self._name,
                    user=settled.user,
                    steps=tuple(self._records),
                    resumed=stage.resumes,
                    roles=settled.state.roles,
                    account_id=settled.state.account_id,
                )
        self._close_anonymous()
        return Decision(self._name, steps=tuple(self._records))

    def _ask(self, stage: _Stage, door: Door | None) -> Outcome:
        if stage.resumes and self._explicit():
            return NotApplicable(Reason.EXPLICIT_CREDENTIALS)
        try:
            known = door.answer(stage.step.name) if door is not None else None
            outcome = stage.step.authenticate(self._evidence, self._center) if known is None else known
        except BackendUnavailable as error:
            return unavailable(error)
        if not isinstance(outcome, _OUTCOMES):
            # Passed over in silence, a step that is there to refuse would let everybody by.
            raise TypeError(f"step {stage.step.name}: authenticate() returned {type(outcome).__name__}, not an outcome")
        if isinstance(outcome, Authenticated) and outcome.identity.contact_center != self._name:
            return Rejected(Reason.OTHER_CONTACT_CENTER)
        return outcome

    def _settle_slot(self, stage: _Stage, settled: Settled) -> None:
        """Return the slot that a step has taken for itself, unless there turned out to be no account."""
        slot = self._evidence.held.pop(stage.step.name, None)
        if slot is not None and settled.state is not None:
            slot.succeeded()
        elif slot is not None and isinstance(settled.outcome, Unavailable):
            slot.void()

    def _explicit(self) -> bool:
        return any(isinstance(record.outcome, (Rejected, Unavailable)) for record in self._records)

    def _door(self, kind: str) -> Door | None:
        """Return the door before the steps of this kind, opened once; none where there are no such credentials."""
        if kind in self._doors:
            return self._doors[kind]
        name, secrets = credentials_of(self._evidence, kind)
        if not secrets:
            return None
        door = self._doors[kind] = Door(
            self._chain._throttle, self._chain._verified, self._evidence, self._name, kind, name, secrets
        )
        if self._evidence.dry_run:
            door.look()
        else:
            door.open(recall=self._recall)
        return door

    def _close(self, stage: _Stage, state: AccountState) -> None:
        for kind, door in self._doors.items():
            if kind == stage.kind:
                door.succeeded(state)
            else:
                door.void()

    def _void_all(self) -> None:
        for door in self._doors.values():
            door.void()

    def _close_anonymous(self) -> None:
        # A walk counts one failure: where both kinds of credentials were bad, that of the named account.
        counting = [door for door in self._doors.values() if door.rejected]
        for door in self._doors.values():
            door.failed()
            if not counting or door is not counting[-1]:
                door.void()
