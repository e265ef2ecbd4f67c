"""A chain over scripted steps, for tests of the walk and of the gate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_genesys_auth.chain.contact_centers import ContactCenter, ContactCenters
from flask_genesys_auth.chain.evidence import Evidence, Malformed
from flask_genesys_auth.chain.outcomes import (
    Authenticated,
    Identity,
    NotApplicable,
    Outcome,
    Reason,
    Rejected,
)
from flask_genesys_auth.chain.protocols import AccountState, Challenge, Step
from flask_genesys_auth.chain.walk import AuthenticationChain
from flask_genesys_auth.config.settings import (
    ContactCenterSettings,
    SalesforceHeaders,
    SessionSettings,
    Settings,
    ThrottleSettings,
)
from flask_genesys_auth.errors import AccountsUnavailable
from flask_genesys_auth.limits import FailureLimit, FailureThrottle, LocalLedger
from flask_genesys_auth.limits.gate import CredentialGate, Verification, VerifiedCredentials
from flask_genesys_auth.limits.throttle import Limit
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.memory import MemoryState

Answer = Callable[[Evidence], Outcome]


class ScriptedStep:
    """A step whose answers the test writes; it counts how often it is asked."""

    def __init__(self, name: str, answer: Answer, *, credentials: str = "", reuse: float = 0) -> None:
        self.name = name
        self.credentials = credentials
        self.reuse_verified_for = reuse
        self.answer = answer
        self.asked = 0

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        self.asked += 1
        return self.answer(evidence)

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        return None


@dataclass
class Person:
    name: str
    enabled: bool = True
    contact_center: str | None = "acme"
    roles: frozenset[str] = frozenset()
    version: str = "1"


@dataclass
class People:
    """An account store of the test's own, as an application may bring one."""

    people: dict[str, Person] = field(default_factory=dict)
    down: bool = False

    def find(self, identity: Identity) -> Person | None:
        return self.get(identity.subject)

    def get(self, account_id: str) -> Person | None:
        if self.down:
            raise AccountsUnavailable("the accounts' server does not answer", retry_after=7)
        return self.people.get(account_id)

    def describe(self, user: Person) -> AccountState:
        return AccountState(user.name, user.enabled, user.roles, user.contact_center, user.version)


def proves(step: str, subject: str = "ann") -> Answer:
    return lambda evidence: Authenticated(Identity(step, "acme", subject))


def password_is(step: str, password: str) -> Answer:
    """Answer as a step over Basic credentials does."""

    def answer(evidence: Evidence) -> Outcome:
        if evidence.basic is None:
            return NotApplicable()
        if isinstance(evidence.basic, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS)
        if evidence.basic.password == password:
            return Authenticated(Identity(step, "acme", evidence.basic.name))
        return Rejected(Reason.BAD_CREDENTIALS)

    return answer


class SignallingVerified(VerifiedCredentials):
    """Signals each request that joins a verification, as leader or follower."""

    def __init__(self, follower_wait: float) -> None:
        super().__init__(follower_wait=follower_wait)
        self.joined = threading.Semaphore(0)

    def join(self, *credentials: str) -> tuple[Verification, bool]:
        found = super().join(*credentials)
        self.joined.release()
        return found


class Setup:
    """A chain over scripted steps, with a real gate, throttle and login sessions."""

    def __init__(
        self,
        *steps: Step,
        per_account: str = "3 per 5 minutes",
        follower_wait: float = 20.0,
        sessions: LoginSessions | None = None,
    ) -> None:
        table = ContactCenterSettings(name="acme", id="acme")
        settings = Settings({"acme": table}, base_path=Path())
        state = MemoryState("test")
        self.people = People({"ann": Person("ann"), "bob": Person("bob")})
        self.sessions = sessions or LoginSessions(state, SessionSettings())
        self.ledger = LocalLedger()
        self.verified = SignallingVerified(follower_wait)
        self.chain = AuthenticationChain(
            ContactCenters(settings, [ContactCenter(table, tuple(steps))]),
            SalesforceHeaders(),
            sessions=self.sessions,
            accounts=self.people,
            describe=self.people.describe,
            gate=CredentialGate(
                FailureThrottle(ThrottleSettings(per_account=per_account), state, self.ledger), self.verified
            ),
        )

    @property
    def failures(self) -> int:
        """The number of addresses with a taken slot."""
        return self.ledger.count(Limit.of("address", ThrottleSettings().per_address))

    def start(self, account: str = "ann", contact_center: str = "acme") -> str:
        return self.sessions.start(contact_center=contact_center, account_id=account, step="saml")


def request(password: str | None = None, *, user: str = "ann", address: str = "192.0.2.1", **headers: str) -> Request:
    builder = EnvironBuilder(
        headers=Headers(headers),
        auth=(user, password) if password is not None else None,
        environ_base={"REMOTE_ADDR": address},
    )
    return Request(builder.get_environ())


def nothing(evidence: Evidence) -> Outcome:
    return NotApplicable()


def basic_setup(per_account: str = "3 per 5 minutes", *, reuse: float = 60) -> tuple[Setup, ScriptedStep, ScriptedStep]:
    first = ScriptedStep(
        "configuration_server", password_is("configuration_server", "cs"), credentials="basic", reuse=reuse
    )
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    return Setup(first, second, per_account=per_account), first, second


class HoldingStep(ScriptedStep):
    """A step with a limit of its own, as Configuration Server's."""

    limit = FailureLimit("2 per 15 minutes")

    def own_limit(self, evidence: Evidence, contact_center: ContactCenter) -> tuple[FailureLimit, str]:
        return self.limit, "ann"


class FickleStep(ScriptedStep):
    """A step whose success may no longer hold after the account was read."""

    holds = True
    down = False

    def still_holds(self, evidence: Evidence, contact_center: ContactCenter, proven: Authenticated) -> bool:
        if self.down:
            raise AccountsUnavailable("the accounts' server does not answer", retry_after=7)
        return self.holds
