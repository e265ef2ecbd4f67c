"""What stands before the steps that read one kind of credentials: the throttle, what is remembered, who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .decision import Authenticated, NotApplicable, Outcome, Rejected, Unavailable
from .evidence import BasicCredentials, Evidence, SalesforceCredentials
from .ports import Remembered

if TYPE_CHECKING:
    from .ports import AccountState, Flight, Reservation, Throttle, VerifiedCredentials

BASIC = "basic"
SALESFORCE = "salesforce"


class Door:
    """What stands before the steps of one kind of credentials: the throttle and what is remembered.

    :param center: the contact center's name.
    :param kind: of the credentials: :data:`BASIC` or :data:`SALESFORCE`; ``name`` and ``secrets`` are those of
        :func:`credentials_of`.
    """

    def __init__(
        self,
        throttle: Throttle,
        verified: VerifiedCredentials,
        evidence: Evidence,
        center: str,
        kind: str,
        name: str,
        secrets: tuple[str, ...],
    ) -> None:
        self._throttle = throttle
        self._verified = verified
        self._evidence = evidence
        self._center = center
        self._kind = kind
        self._name = name
        self._secrets = secrets
        self._remembered: Remembered | None = None
        self._refused: Unavailable | None = None
        self._slot: Reservation | None = None
        self._flight: Flight | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._reuse: list[float] = []

    @property
    def rejected(self) -> bool:
        """Tell whether somebody has said that the credentials are bad."""
        return any(isinstance(outcome, Rejected) for outcome in self._outcomes.values())

    def open(self, *, recall: bool) -> None:
        """Recall what is known of the credentials, or take a slot before anybody is asked.

        Of many requests with the same credentials at the same moment one asks, and the others wait for its answer.
        """
        address = self._evidence.address
        self._refused = self._throttle.over_limit(self._center, self._name, address)
        if self._refused is not None:
            return
        if recall:
            self._remembered = self._verified.recall(self._kind, self._center, address, *self._secrets)
            if self._remembered is None:
                self._flight = self._verified.board(self._kind, self._center, address, *self._secrets)
                found = self._flight.wait()
                if isinstance(found, Unavailable):
                    self._refused = found
                    return
                self._remembered = found
        if self._remembered is None:
            slot = self._throttle.reserve(self._center, self._name, address)
            if isinstance(slot, Unavailable):
                self._refused = slot
            else:
                self._slot = slot

    def look(self) -> None:
        """Find out whether there would be a slot, and take none: nothing counts, nothing is recalled."""
        self._refused = self._throttle.look(self._center, self._name, self._evidence.address)

    def answer(self, step: str) -> Outcome | None:
        """Return what is known without asking the step, or ``None``."""
        if self._remembered is not None:
            return self._remembered.outcomes.get(step, NotApplicable())
        return self._refused

    def note(self, step: str, outcome: Outcome, reuse: float) -> None:
        """Note how a step ended, and for how many seconds its success may be remembered."""
        self._outcomes[step] = outcome
        if not isinstance(outcome, NotApplicable):
            self._reuse.append(reuse)

    def stale(self, step: str, outcome: Outcome, state: AccountState | None) -> bool:
        """Tell whether a remembered success no longer holds; if so it is forgotten."""
        if self._remembered is None:
            return False
        if not isinstance(self._remembered.outcomes.get(step), Authenticated):
            return False
        if isinstance(outcome, Unavailable):
            return False
        if state is not None and state.version == self._remembered.version:
            return False
        self._verified.forget(self._kind, self._center, self._evidence.address, *self._secrets)
        return True

    def succeeded(self, state: AccountState) -> None:
        """Return the slot and remember the whole result, earlier steps' refusals included."""
        if self._slot is None:
            return
        self._slot.succeeded()
        result = Remembered(dict(self._outcomes), state.version)
        self._verified.remember(
            self._kind, self._center, self._evidence.address, *self._secrets, result=result, seconds=min(self._reuse)
        )
        self._land(result)

    def failed(self) -> None:
        """Let those who wait with the same credentials know how every step has ended."""
        self._land(Remembered(dict(self._outcomes)))

    def let_go(self) -> None:
        """Let those who still wait ask for themselves."""
        self._land(None)

    def _land(self, result: Remembered | None) -> None:
        if self._flight is not None:
            self._flight.land(result)

    def void(self) -> None:
        """Return the slot: these credentials do not count as a failure."""
        if self._slot is not None:
            self._slot.void()


def credentials_of(evidence: Evidence, kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the name to throttle by and what identifies the credentials; nothing if they are absent or malformed."""
    if kind == BASIC and isinstance(evidence.basic, BasicCredentials):
        return evidence.basic.name, (evidence.basic.name, evidence.basic.password)
    if kind == SALESFORCE and isinstance(evidence.salesforce, SalesforceCredentials):
        return "", (evidence.salesforce.session_id, evidence.salesforce.identity_url)
    return "", ()
