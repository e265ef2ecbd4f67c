"""The chain without Flask: order, outcomes, what is settled, throttled and remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_genesys_auth.chain.contact_centers import ContactCenter, ContactCenters, DisabledStep, order_steps
from flask_genesys_auth.chain.evidence import BasicCredentials, Evidence, Malformed
from flask_genesys_auth.chain.outcomes import (
    Authenticated,
    Decision,
    Identity,
    NotApplicable,
    Outcome,
    Reason,
    Rejected,
    Unavailable,
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
from flask_genesys_auth.errors import AccountsUnavailable, ConfigurationError, HasherBusy, StateUnavailable
from flask_genesys_auth.limits import FailureLimit, FailureThrottle, LocalLedger
from flask_genesys_auth.limits.gate import MAX_SLOW_FOLLOWERS, CredentialGate, Verification, VerifiedCredentials
from flask_genesys_auth.limits.throttle import Limit
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.steps.login_session import LoginSessionStep
from flask_genesys_auth.steps.saml import SamlStep

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


class ToldVerified(VerifiedCredentials):
    """Says of each request that it verifies its credentials, or waits for another that does."""

    def __init__(self, follower_wait: float) -> None:
        super().__init__(follower_wait=follower_wait)
        self.joined = threading.Semaphore(0)

    def join(self, *credentials: str) -> tuple[Verification, bool]:
        found = super().join(*credentials)
        self.joined.release()
        return found


class House:
    """A chain over scripted steps and real rooms."""

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
        self.verified = ToldVerified(follower_wait)
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
        """How many addresses have failed, or are being asked about."""
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


def test_first_success_ends_the_walk() -> None:
    last = ScriptedStep("web_services", proves("web_services"))
    house = House(ScriptedStep("salesforce", nothing), ScriptedStep("other", proves("other")), last)
    decision = house.chain.walk(request())
    assert decision.user == Person("ann")
    assert decision.authenticated_by == "other"
    assert [record.step for record in decision.steps] == ["salesforce", "other"]
    assert last.asked == 0
    assert not decision.resumed


def test_walk_continues_after_every_other_outcome() -> None:
    house = House(
        ScriptedStep("a", nothing),
        DisabledStep("b"),
        ScriptedStep("c", lambda evidence: Rejected(Reason.BAD_CREDENTIALS)),
        ScriptedStep("d", lambda evidence: Unavailable(Reason.TIMED_OUT)),
        ScriptedStep("e", proves("e")),
    )
    decision = house.chain.walk(request())
    assert decision.authenticated_by == "e"
    assert [record.outcome_name for record in decision.steps] == [
        "not_applicable",
        "not_applicable",
        "rejected",
        "unavailable",
        "authenticated",
    ]
    assert not decision.unavailable  # somebody is authenticated, so nothing is missing


def test_walk_without_success_is_anonymous() -> None:
    decision = House(ScriptedStep("a", nothing)).chain.walk(request())
    assert not decision.authenticated
    assert decision.authenticated_by is None
    assert decision.contact_center == "acme"


def test_exception_in_a_step_ends_the_walk() -> None:
    def broken(evidence: Evidence) -> Outcome:
        raise ZeroDivisionError

    later = ScriptedStep("later", proves("later"))
    with pytest.raises(ZeroDivisionError):
        House(ScriptedStep("broken", broken), later).chain.walk(request())
    assert later.asked == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, Reason.ACCOUNT_DISABLED),
        ({"contact_center": "globex"}, Reason.OTHER_CONTACT_CENTER),
        (None, Reason.NO_ACCOUNT),
    ],
)
def test_identity_needs_an_enabled_account_here(change: dict[str, object] | None, reason: Reason) -> None:
    house = House(ScriptedStep("a", proves("a")))
    assert house.chain.walk(request()).authenticated
    if change is None:
        del house.people.people["ann"]
    else:
        house.people.people["ann"] = Person("ann", **change)  # type: ignore[arg-type]
    decision = house.chain.walk(request())
    assert not decision.authenticated
    assert decision.steps[-1].reason is reason


def test_store_without_contact_centers_serves_all() -> None:
    house = House(ScriptedStep("a", proves("a")))
    house.people.people["ann"] = Person("ann", contact_center=None)
    assert house.chain.walk(request()).authenticated


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AccountsUnavailable("down"), Reason.ACCOUNTS_UNAVAILABLE),
        (StateUnavailable("down"), Reason.STATE_UNAVAILABLE),
        (HasherBusy("busy", retry_after=1), Reason.HASHER_BUSY),
    ],
)
def test_store_failure_makes_the_step_unavailable(error: Exception, reason: Reason) -> None:
    def fails(evidence: Evidence) -> Outcome:
        raise error

    decision = House(ScriptedStep("a", fails)).chain.walk(request())
    assert decision.unavailable
    assert not decision.throttled
    assert decision.steps[0].reason is reason


def test_unreadable_account_is_unavailable_until_it_recovers() -> None:
    house = House(ScriptedStep("a", proves("a")))
    house.people.down = True
    decision = house.chain.walk(request())
    assert decision.unavailable
    assert decision.retry_after == 7
    house.people.down = False
    assert house.chain.walk(request()).authenticated


def test_resumed_session_keeps_its_first_step() -> None:
    house = House(ScriptedStep("a", nothing), LoginSessionStep(), SamlStep("/saml"))
    opaque = house.start()
    decision = house.chain.walk(request(), lambda: opaque)
    assert decision.authenticated_by == "saml"
    assert decision.resumed
    unknown = house.chain.walk(request(), lambda: opaque + "x")
    assert unknown.steps[1].reason is Reason.SESSION_ENDED
    assert unknown.steps[2].reason is Reason.BROWSER_LOGIN


@pytest.mark.parametrize("outcome", [Rejected(Reason.BAD_CREDENTIALS), Unavailable(Reason.TIMED_OUT)])
def test_failed_credentials_prevent_resuming_the_session(outcome: Outcome) -> None:
    explicit = ScriptedStep("a", lambda evidence: outcome)
    house = House(explicit, LoginSessionStep())
    opaque = house.start()
    decision = house.chain.walk(request(), lambda: opaque)
    assert not decision.authenticated
    assert decision.steps[-1].reason is Reason.EXPLICIT_CREDENTIALS
    explicit.answer = nothing
    assert house.chain.walk(request(), lambda: opaque).resumed


def test_session_of_another_contact_center_is_ignored() -> None:
    house = House(LoginSessionStep())
    foreign = house.start(contact_center="globex")
    decision = house.chain.walk(request(), lambda: foreign)
    assert not decision.authenticated
    assert decision.steps[-1].reason is Reason.OTHER_CONTACT_CENTER
    own = house.start()
    assert house.chain.walk(request(), lambda: own).authenticated


def test_session_is_not_read_after_a_success() -> None:
    def must_not_be_called() -> str:
        raise AssertionError("the session was read")

    house = House(ScriptedStep("a", proves("a")), LoginSessionStep())
    assert house.chain.walk(request(), must_not_be_called).authenticated


def basic_house(per_account: str = "3 per 5 minutes", *, reuse: float = 60) -> tuple[House, ScriptedStep, ScriptedStep]:
    first = ScriptedStep(
        "configuration_server", password_is("configuration_server", "cs"), credentials="basic", reuse=reuse
    )
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    return House(first, second, per_account=per_account), first, second


def test_success_is_cached_with_earlier_rejections() -> None:
    house, first, second = basic_house()
    before = house.chain.walk(request("ws"))
    after = house.chain.walk(request("ws"))
    assert (first.asked, second.asked) == (1, 1)
    assert [record.outcome for record in after.steps] == [record.outcome for record in before.steps]
    assert after.authenticated_by == "web_services"


def test_cached_result_requires_same_address_name_password() -> None:
    house, first, _ = basic_house()
    assert house.chain.walk(request("ws")).authenticated
    assert house.chain.walk(request("ws", address="192.0.2.2")).authenticated
    assert first.asked == 2
    assert not house.chain.walk(request("ws2")).authenticated
    assert house.chain.walk(request("ws", user="bob")).authenticated
    assert first.asked == 4


def test_reuse_of_zero_seconds_caches_nothing() -> None:
    house, first, second = basic_house(reuse=0)
    for _ in range(2):
        assert house.chain.walk(request("ws")).authenticated
    assert (first.asked, second.asked) == (2, 2)


def test_shortest_reuse_time_counts() -> None:
    first = ScriptedStep("first", password_is("first", "other"), credentials="basic", reuse=0)
    second = ScriptedStep("second", password_is("second", "ws"), credentials="basic", reuse=60)
    house = House(first, second)
    for _ in range(2):
        assert house.chain.walk(request("ws")).authenticated
    assert (first.asked, second.asked) == (2, 2)


def test_account_is_read_despite_cached_credentials() -> None:
    house, _, second = basic_house()
    assert house.chain.walk(request("ws")).authenticated
    house.people.people["ann"].roles = frozenset({"ROLE_AGENT"})
    assert house.chain.walk(request("ws")).roles == {"ROLE_AGENT"}
    house.people.people["ann"].enabled = False
    refused = house.chain.walk(request("ws"))
    assert refused.steps[-1].reason is Reason.ACCOUNT_DISABLED
    assert second.asked == 2  # what no longer held was forgotten and asked about afresh


def test_new_password_version_is_verified_again() -> None:
    house, _, second = basic_house()
    assert house.chain.walk(request("ws")).authenticated
    house.people.people["ann"].version = "2"
    second.answer = password_is("web_services", "new")
    assert not house.chain.walk(request("ws")).authenticated
    assert house.chain.walk(request("new")).authenticated


class OwnPasswordStep(ScriptedStep):
    """A step over the accounts' own passwords, as Web Services is."""

    needs_version = True


@pytest.mark.parametrize("step", [ScriptedStep, OwnPasswordStep])
def test_name_of_another_account_is_verified_again(step: type[ScriptedStep]) -> None:
    asked = step("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    house = House(asked)
    house.people.people["ann"].version = ""
    assert [house.chain.walk(request("ws")).account_id for _ in range(2)] == ["ann", "ann"]
    house.people.people["ann"] = Person("another", version="")
    asked.answer = password_is("web_services", "another's")
    assert not house.chain.walk(request("ws")).authenticated
    assert house.chain.walk(request("another's")).account_id == "another"


@pytest.mark.parametrize(
    ("step", "version", "verified"), [(OwnPasswordStep, "", 2), (OwnPasswordStep, "1", 1), (ScriptedStep, "", 1)]
)
def test_own_password_is_cached_only_with_version(step: type[ScriptedStep], version: str, verified: int) -> None:
    asked = step("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    house = House(asked)
    house.people.people["ann"].version = version
    assert [house.chain.walk(request("ws")).authenticated for _ in range(2)] == [True, True]
    assert asked.asked == verified


def test_unreadable_account_keeps_the_cached_result() -> None:
    house, _, second = basic_house()
    assert house.chain.walk(request("ws")).authenticated
    house.people.down = True
    assert house.chain.walk(request("ws")).unavailable
    house.people.down = False
    assert house.chain.walk(request("ws")).authenticated
    assert second.asked == 1


def test_throttled_credentials_reach_no_step() -> None:
    house, first, second = basic_house(per_account="3 per 5 minutes")
    for _ in range(3):
        assert not house.chain.walk(request("wrong")).throttled
    asked = (first.asked, second.asked)
    decision = house.chain.walk(request("ws"))
    assert decision.throttled
    assert decision.retry_after > 1
    assert (first.asked, second.asked) == asked
    assert house.chain.walk(request("ws", user="bob")).authenticated
    assert house.chain.walk(request("ws", address="192.0.2.2")).authenticated


def test_success_returns_the_slot() -> None:
    house, _, _ = basic_house(per_account="3 per 5 minutes")
    for number in range(8):
        assert house.chain.walk(request("ws", address="192.0.2.1")).authenticated, number
        house.verified.clear()


def test_cached_credentials_are_throttled_over_the_limit() -> None:
    house, _, _ = basic_house(per_account="2 per 5 minutes")
    assert house.chain.walk(request("ws")).authenticated
    for _ in range(2):
        house.chain.walk(request("wrong"))
    assert house.chain.walk(request("ws")).throttled
    assert house.chain.walk(request("wrong")).throttled


def test_unavailable_steps_count_no_failure() -> None:
    house, first, second = basic_house(per_account="1 per 5 minutes")
    first.answer = second.answer = lambda evidence: Unavailable(Reason.UNREACHABLE)
    for _ in range(4):
        decision = house.chain.walk(request("ws"))
        assert decision.unavailable
        assert not decision.throttled
    second.answer = password_is("web_services", "ws")
    assert house.chain.walk(request("ws")).authenticated


def test_rejection_beside_an_outage_counts() -> None:
    house, first, _ = basic_house(per_account="1 per 5 minutes")
    first.answer = lambda evidence: Unavailable(Reason.TIMED_OUT)
    assert not house.chain.walk(request("wrong")).throttled
    assert house.chain.walk(request("wrong")).throttled


class HoldingStep(ScriptedStep):
    """A step with a limit of its own, as Configuration Server's."""

    limit = FailureLimit("2 per 15 minutes")

    def own_limit(self, evidence: Evidence, contact_center: ContactCenter) -> tuple[FailureLimit, str]:
        return self.limit, "ann"


def test_own_slot_is_returned_with_an_account() -> None:
    step = HoldingStep("own", proves("own"))
    step.limit = FailureLimit("2 per 15 minutes")
    house = House(step)
    for _ in range(5):
        assert house.chain.walk(request()).authenticated
    house.people.down = True
    for _ in range(5):
        assert house.chain.walk(request()).steps[0].reason is Reason.ACCOUNTS_UNAVAILABLE
    house.people.down = False
    house.people.people["ann"].enabled = False
    reasons = [house.chain.walk(request()).steps[0].reason for _ in range(3)]
    assert reasons == [Reason.ACCOUNT_DISABLED, Reason.ACCOUNT_DISABLED, Reason.THROTTLED]


def test_exception_returns_slots_and_releases_followers() -> None:
    broken = iter([True])

    def breaks_once(evidence: Evidence) -> Outcome:
        if next(broken, False):
            raise ZeroDivisionError
        return password_is("own", "ws")(evidence)

    pause = Pause(breaks_once)
    away = ScriptedStep("salesforce", lambda evidence: Unavailable(Reason.TIMED_OUT), credentials="salesforce")
    step = HoldingStep("own", pause, credentials="basic")
    step.limit = FailureLimit("1 per 15 minutes")
    house = House(away, step, per_account="2 per 5 minutes")
    both = {"ssid": "x", "surl": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA"}
    ended: list[BaseException | Decision] = []

    def walk(**headers: str) -> None:
        try:
            ended.append(house.chain.walk(request("ws", **headers)))
        except ZeroDivisionError as error:
            ended.append(error)

    threads = [threading.Thread(target=walk, kwargs=headers) for headers in (both, {})]
    threads[0].start()
    assert pause.begun.wait(20)
    threads[1].start()
    for _ in range(3):  # the kinds of credentials that the two requests bring
        assert house.verified.joined.acquire(timeout=20)
    pause.opened.set()
    for thread in threads:
        thread.join()
    # The follower asks for itself, and neither limit has a slot less, or it would be throttled.
    assert sorted(type(one).__name__ for one in ended) == ["Decision", "ZeroDivisionError"]
    assert [one.authenticated for one in ended if isinstance(one, Decision)] == [True]
    assert house.failures == 0
    assert house.chain.walk(request("ws")).authenticated
    # A wrong password counts in both as always.
    assert not house.chain.walk(request("wrong")).throttled
    assert house.chain.walk(request("ws")).throttled


@pytest.mark.parametrize(
    ("outcome", "counted"), [(Rejected(Reason.BAD_CREDENTIALS), 1), (Unavailable(Reason.TIMED_OUT), 0)]
)
def test_rejection_counts_despite_a_later_exception(outcome: Outcome, counted: int) -> None:
    def broken(evidence: Evidence) -> Outcome:
        raise ZeroDivisionError

    house = House(ScriptedStep("checks", lambda evidence: outcome, credentials="basic"), ScriptedStep("broken", broken))
    with pytest.raises(ZeroDivisionError):
        house.chain.walk(request("wrong"))
    assert house.failures == counted


def test_good_password_returns_the_salesforce_slot() -> None:
    salesforce = ScriptedStep("salesforce", lambda evidence: Rejected(Reason.SESSION_REFUSED), credentials="salesforce")
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    house = House(salesforce, second, per_account="1 per 5 minutes")
    headers = {"ssid": "00D!session", "surl": "https://login.salesforce.com/id/x"}
    for _ in range(3):
        assert house.chain.walk(request("ws", **headers)).authenticated
    assert salesforce.asked == 3
    assert not house.chain.walk(request("wrong", **headers)).throttled
    assert house.chain.walk(request("wrong", **headers)).throttled


def test_malformed_credentials_prevent_resuming_the_session() -> None:
    step = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    house = House(step, LoginSessionStep())
    opaque = house.start()
    decision = house.chain.walk(request(Authorization="Basic !!!"), lambda: opaque)
    assert [record.reason for record in decision.steps] == [
        Reason.MALFORMED_CREDENTIALS,
        Reason.EXPLICIT_CREDENTIALS,
    ]
    assert house.chain.walk(request(Authorization="Bearer token"), lambda: opaque).resumed


def test_dry_run_counts_and_caches_nothing() -> None:
    house, first, _ = basic_house(per_account="1 per 5 minutes")
    for _ in range(3):
        assert not house.chain.walk(request("wrong"), dry_run=True).throttled
    assert house.chain.walk(request("ws"), dry_run=True).authenticated
    asked = first.asked
    assert house.chain.walk(request("ws")).authenticated
    assert first.asked == asked + 1


def test_login_form_uses_the_basic_steps_only() -> None:
    salesforce = ScriptedStep("salesforce", proves("salesforce"), credentials="salesforce")
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    house = House(salesforce, second, LoginSessionStep())
    good = house.chain.check_password(request(), "ann", "ws")
    assert good.authenticated_by == "web_services"
    assert [record.step for record in good.steps] == ["web_services"]
    assert not house.chain.check_password(request("ws"), "ann", "wrong").authenticated
    assert not house.chain.check_password(request(), "", "ws").authenticated
    assert salesforce.asked == 0


def test_unreadable_session_is_unavailable() -> None:
    class DownSessions(LoginSessions):
        def resume(self, session_id: str, *, touch: bool = True) -> Rejected:
            raise StateUnavailable("the state's server does not answer")

    house = House(LoginSessionStep(), sessions=DownSessions(MemoryState("test"), SessionSettings()))
    assert house.chain.walk(request(), lambda: "opaque").unavailable
    assert not house.chain.walk(request()).unavailable  # without a session nothing has to be read


def test_explain_contains_no_credentials() -> None:
    house, _, _ = basic_house()
    rows = house.chain.walk(request("s3cret-ish")).explain()
    assert [row["outcome"] for row in rows] == ["rejected", "rejected"]
    assert rows[0]["reason"] == "bad_credentials"
    assert "s3cret-ish" not in repr(rows)


def test_credentials_do_not_show_in_a_repr() -> None:
    shown = repr(Evidence(request("s3cret-ish"), "192.0.2.1", basic=BasicCredentials("ann", "s3cret-ish", "ann")))
    assert "s3cret-ish" not in shown
    assert "ann" in shown


class Early(ScriptedStep):
    before = "salesforce"


def flow() -> list[Step]:
    return [
        DisabledStep(name) for name in ("saml", "web_services", "login_session", "salesforce", "configuration_server")
    ]


def test_extra_steps_are_placed_in_the_flow() -> None:
    extra: list[Step] = [ScriptedStep("api_key", nothing), Early("ip", nothing), ScriptedStep("mtls", nothing)]
    assert [step.name for step in order_steps(flow(), extra)] == [
        "ip",
        "salesforce",
        "configuration_server",
        "web_services",
        "api_key",
        "mtls",
        "login_session",
        "saml",
    ]


def test_extra_step_needs_unique_name_and_known_place() -> None:
    assert order_steps(flow(), [ScriptedStep("mine", nothing)])
    with pytest.raises(ConfigurationError, match="a name of its own"):
        order_steps(flow(), [ScriptedStep("saml", nothing)])
    lost = Early("lost", nothing)
    lost.before = "oracle"
    with pytest.raises(ConfigurationError, match="'oracle'"):
        order_steps(flow(), [lost])


@pytest.mark.parametrize("given", [None, 1, True, Person("ann")])
def test_step_without_outcome_ends_the_walk(given: object) -> None:
    house = House(ScriptedStep("x", lambda evidence: given), LoginSessionStep())  # type: ignore[arg-type,return-value]  # a step without types
    session = house.start()
    with pytest.raises(TypeError, match="step x: authenticate"):
        house.chain.walk(request(), lambda: session)
    accepted = House(ScriptedStep("x", nothing), LoginSessionStep())
    session = accepted.start()
    assert accepted.chain.walk(request(), lambda: session).authenticated


def test_identity_of_another_contact_center_is_rejected() -> None:
    people = {"beta": "globex", "ann": "acme"}
    for center, authenticated in (("globex", False), ("acme", True)):
        house = House(ScriptedStep("x", lambda evidence, center=center: Authenticated(Identity("x", center, "ann"))))  # type: ignore[misc]
        house.people.people["ann"].contact_center = None if authenticated else people["beta"]
        decision = house.chain.walk(request())
        assert decision.authenticated is authenticated
        if not authenticated:
            assert decision.steps[0].reason is Reason.OTHER_CONTACT_CENTER


def test_stale_result_leaves_no_slot_taken() -> None:
    refused = ScriptedStep("salesforce", lambda evidence: Rejected(Reason.SESSION_REFUSED), credentials="salesforce")
    house = House(
        refused, ScriptedStep("web_services", password_is("web_services", "pw"), credentials="basic", reuse=60)
    )
    both = {"ssid": "x", "surl": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA"}
    assert house.chain.walk(request("pw")).authenticated
    assert house.failures == 0
    house.people.people["ann"].version = "2"
    house.chain.walk(request("pw", **both))
    assert refused.asked == 3  # the first walk, what was recalled, and the walk afresh
    assert house.failures == 0
    assert not house.chain.walk(request("wrong")).authenticated
    assert house.failures == 1


class Pause:
    """Lets the steps of a test begin, and end only when all others have come."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.begun = threading.Event()
        self.opened = threading.Event()

    def __call__(self, evidence: Evidence) -> Outcome:
        self.begun.set()
        assert self.opened.wait(20)
        return self.answer(evidence)


def at_once(house: House, pause: Pause, first: Request, *others: Request, turned_away: int = 0) -> list[Decision]:
    """Walk for the first, then, while its step is being asked, for the others; return all decisions.

    :param turned_away: how many of them do not wait.
    """
    found: dict[int, Decision] = {}
    ended = threading.Semaphore(0)

    def walk(place: int, sent: Request) -> None:
        found[place] = house.chain.walk(sent)
        ended.release()

    threads = [threading.Thread(target=walk, args=each) for each in enumerate((first, *others))]
    threads[0].start()
    assert pause.begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    for _ in threads:
        assert house.verified.joined.acquire(timeout=20)
    for _ in range(turned_away):
        assert ended.acquire(timeout=20)
    pause.opened.set()
    for thread in threads:
        thread.join()
    return [found[place] for place in sorted(found)]


def test_few_requests_wait_for_a_slow_verification() -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic")
    house = House(step, follower_wait=0.0)
    decisions = at_once(house, pause, *(request("ws") for _ in range(20)), turned_away=19 - MAX_SLOW_FOLLOWERS)
    served = [decision for decision in decisions if decision.authenticated]
    sent_away = [decision for decision in decisions if decision.unavailable]
    assert (len(served), len(sent_away)) == (1 + MAX_SLOW_FOLLOWERS, 19 - MAX_SLOW_FOLLOWERS)
    assert {decision.steps[-1].reason for decision in sent_away} == {Reason.UPSTREAM_BUSY}
    assert step.asked == 1
    # Nobody holds a place, or a slot, any longer.
    pause.opened.clear()
    pause.begun.clear()
    again = at_once(house, pause, *(request("ws") for _ in range(1 + MAX_SLOW_FOLLOWERS)))
    assert all(decision.authenticated for decision in again)


@pytest.mark.parametrize(("password", "known"), [("ws", True), ("wrong", False)])
@pytest.mark.parametrize("reuse", [0.0, 60.0])
def test_same_credentials_cost_one_verification(password: str, known: bool, reuse: float) -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=reuse)
    house = House(step, per_account="2 per 5 minutes")
    decisions = at_once(house, pause, *(request(password) for _ in range(20)))
    assert [decision.authenticated for decision in decisions] == [known] * 20
    assert not any(decision.throttled for decision in decisions)
    assert step.asked == 1
    # One guess was one failure; the next walk asks anew, or remembers.
    assert house.chain.walk(request("ws")).authenticated
    assert step.asked == (1 if known and reuse else 2)


class FickleStep(ScriptedStep):
    """A step whose success may no longer hold after the account was read."""

    holds = True
    down = False

    def still_holds(self, evidence: Evidence, contact_center: ContactCenter, proven: Authenticated) -> bool:
        if self.down:
            raise AccountsUnavailable("the accounts' server does not answer", retry_after=7)
        return self.holds


@pytest.mark.parametrize("holds", [True, False])
def test_followers_share_only_a_valid_success(holds: bool) -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = FickleStep("web_services", pause, credentials="basic", reuse=60)
    step.holds = holds
    house = House(step)
    decisions = at_once(house, pause, *(request("ws") for _ in range(5)))
    assert [decision.authenticated for decision in decisions] == [holds] * 5
    assert step.asked == 1
    assert house.failures == (0 if holds else 1)
    assert house.chain.walk(request("ws")).authenticated is holds
    assert step.asked == (1 if holds else 2)


def test_unreadable_hash_after_success_is_not_cached() -> None:
    step = FickleStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    house = House(step)

    step.down = True
    assert house.chain.walk(request("ws")).unavailable
    assert house.failures == 0
    step.down = False
    assert house.chain.walk(request("ws")).authenticated
    assert step.asked == 2


def test_different_credentials_do_not_wait() -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=60)
    house = House(step)
    others = (request("wrong"), request("ws", user="bob"), request("ws", address="192.0.2.2"))
    decisions = at_once(house, pause, request("ws"), *others)
    assert [decision.authenticated for decision in decisions] == [True, False, True, True]
    assert step.asked == 4


def test_exception_makes_followers_verify_themselves() -> None:
    broken = iter([True])

    def breaks_once(evidence: Evidence) -> Outcome:
        if next(broken, False):
            raise RuntimeError("a bug in somebody's step")
        return Authenticated(Identity("web_services", "acme", "ann"))

    pause = Pause(breaks_once)
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=60)
    house = House(step)
    outcome: list[BaseException | Decision] = []

    def first() -> None:
        try:
            outcome.append(house.chain.walk(request("ws")))
        except RuntimeError as error:
            outcome.append(error)

    leader = threading.Thread(target=first)
    leader.start()
    assert pause.begun.wait(20)
    follower = threading.Thread(target=lambda: outcome.append(house.chain.walk(request("ws"))))
    follower.start()
    for _ in range(2):
        assert house.verified.joined.acquire(timeout=20)
    pause.opened.set()
    leader.join()
    follower.join()
    decisions = [one for one in outcome if isinstance(one, Decision)]
    assert len(outcome) == 2
    assert [decision.authenticated for decision in decisions] == [True]
    assert step.asked == 2


def test_success_by_other_credentials_shares_no_result() -> None:
    pause = Pause(lambda evidence: Rejected(Reason.BAD_CREDENTIALS))
    first = ScriptedStep("configuration_server", pause, credentials="basic", reuse=60)
    badge = ScriptedStep(
        "badge", lambda evidence: proves("badge", "bob")(evidence) if evidence.salesforce else NotApplicable()
    )
    last = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    house = House(first, badge, last)
    decisions = at_once(house, pause, request("ws", ssid="x", surl="y"), request("ws"))
    assert [decision.authenticated_by for decision in decisions] == ["badge", "web_services"]
    assert (first.asked, last.asked) == (2, 1)
