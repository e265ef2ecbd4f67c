"""The walk without Flask: outcomes, accounts and login sessions."""

from __future__ import annotations

import pytest

from flask_genesys_auth.chain.contact_centers import DisabledStep
from flask_genesys_auth.chain.evidence import BasicCredentials, Evidence
from flask_genesys_auth.chain.outcomes import (
    Authenticated,
    Identity,
    Outcome,
    Reason,
    Rejected,
    Unavailable,
)
from flask_genesys_auth.config.settings import (
    SessionSettings,
)
from flask_genesys_auth.errors import AccountsUnavailable, HasherBusy, StateUnavailable
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.steps.login_session import LoginSessionStep
from flask_genesys_auth.steps.saml import SamlStep
from tests.chain.scripted import (
    Person,
    ScriptedStep,
    Setup,
    basic_setup,
    nothing,
    password_is,
    proves,
    request,
)


def test_first_success_ends_the_walk() -> None:
    last = ScriptedStep("web_services", proves("web_services"))
    setup = Setup(ScriptedStep("salesforce", nothing), ScriptedStep("other", proves("other")), last)
    decision = setup.chain.walk(request())
    assert decision.user == Person("ann")
    assert decision.authenticated_by == "other"
    assert [record.step for record in decision.steps] == ["salesforce", "other"]
    assert last.asked == 0
    assert not decision.resumed


def test_walk_continues_after_every_other_outcome() -> None:
    setup = Setup(
        ScriptedStep("a", nothing),
        DisabledStep("b"),
        ScriptedStep("c", lambda evidence: Rejected(Reason.BAD_CREDENTIALS)),
        ScriptedStep("d", lambda evidence: Unavailable(Reason.TIMED_OUT)),
        ScriptedStep("e", proves("e")),
    )
    decision = setup.chain.walk(request())
    assert decision.authenticated_by == "e"
    assert [record.outcome_name for record in decision.steps] == [
        "not_applicable",
        "not_applicable",
        "rejected",
        "unavailable",
        "authenticated",
    ]
    assert not decision.unavailable  # a user is authenticated, so nothing is missing


def test_walk_without_success_is_anonymous() -> None:
    decision = Setup(ScriptedStep("a", nothing)).chain.walk(request())
    assert not decision.authenticated
    assert decision.authenticated_by is None
    assert decision.contact_center == "acme"


def test_exception_in_a_step_ends_the_walk() -> None:
    def broken(evidence: Evidence) -> Outcome:
        raise ZeroDivisionError

    later = ScriptedStep("later", proves("later"))
    with pytest.raises(ZeroDivisionError):
        Setup(ScriptedStep("broken", broken), later).chain.walk(request())
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
    setup = Setup(ScriptedStep("a", proves("a")))
    assert setup.chain.walk(request()).authenticated
    if change is None:
        del setup.people.people["ann"]
    else:
        setup.people.people["ann"] = Person("ann", **change)  # type: ignore[arg-type]
    decision = setup.chain.walk(request())
    assert not decision.authenticated
    assert decision.steps[-1].reason is reason


def test_store_without_contact_centers_serves_all() -> None:
    setup = Setup(ScriptedStep("a", proves("a")))
    setup.people.people["ann"] = Person("ann", contact_center=None)
    assert setup.chain.walk(request()).authenticated


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

    decision = Setup(ScriptedStep("a", fails)).chain.walk(request())
    assert decision.unavailable
    assert not decision.throttled
    assert decision.steps[0].reason is reason


def test_unreadable_account_is_unavailable_until_it_recovers() -> None:
    setup = Setup(ScriptedStep("a", proves("a")))
    setup.people.down = True
    decision = setup.chain.walk(request())
    assert decision.unavailable
    assert decision.retry_after == 7
    setup.people.down = False
    assert setup.chain.walk(request()).authenticated


def test_resumed_session_keeps_its_first_step() -> None:
    setup = Setup(ScriptedStep("a", nothing), LoginSessionStep(), SamlStep("/saml"))
    opaque = setup.start()
    decision = setup.chain.walk(request(), lambda: opaque)
    assert decision.authenticated_by == "saml"
    assert decision.resumed
    unknown = setup.chain.walk(request(), lambda: opaque + "x")
    assert unknown.steps[1].reason is Reason.SESSION_ENDED
    assert unknown.steps[2].reason is Reason.BROWSER_LOGIN


@pytest.mark.parametrize("outcome", [Rejected(Reason.BAD_CREDENTIALS), Unavailable(Reason.TIMED_OUT)])
def test_failed_credentials_prevent_resuming_the_session(outcome: Outcome) -> None:
    explicit = ScriptedStep("a", lambda evidence: outcome)
    setup = Setup(explicit, LoginSessionStep())
    opaque = setup.start()
    decision = setup.chain.walk(request(), lambda: opaque)
    assert not decision.authenticated
    assert decision.steps[-1].reason is Reason.EXPLICIT_CREDENTIALS
    explicit.answer = nothing
    assert setup.chain.walk(request(), lambda: opaque).resumed


def test_session_of_another_contact_center_is_ignored() -> None:
    setup = Setup(LoginSessionStep())
    foreign = setup.start(contact_center="globex")
    decision = setup.chain.walk(request(), lambda: foreign)
    assert not decision.authenticated
    assert decision.steps[-1].reason is Reason.OTHER_CONTACT_CENTER
    own = setup.start()
    assert setup.chain.walk(request(), lambda: own).authenticated


def test_session_is_not_read_after_a_success() -> None:
    def must_not_be_called() -> str:
        raise AssertionError("the session was read")

    setup = Setup(ScriptedStep("a", proves("a")), LoginSessionStep())
    assert setup.chain.walk(request(), must_not_be_called).authenticated


def test_malformed_credentials_prevent_resuming_the_session() -> None:
    step = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    setup = Setup(step, LoginSessionStep())
    opaque = setup.start()
    decision = setup.chain.walk(request(Authorization="Basic !!!"), lambda: opaque)
    assert [record.reason for record in decision.steps] == [
        Reason.MALFORMED_CREDENTIALS,
        Reason.EXPLICIT_CREDENTIALS,
    ]
    assert setup.chain.walk(request(Authorization="Bearer token"), lambda: opaque).resumed


def test_login_form_uses_the_basic_steps_only() -> None:
    salesforce = ScriptedStep("salesforce", proves("salesforce"), credentials="salesforce")
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    setup = Setup(salesforce, second, LoginSessionStep())
    good = setup.chain.check_password(request(), "ann", "ws")
    assert good.authenticated_by == "web_services"
    assert [record.step for record in good.steps] == ["web_services"]
    assert not setup.chain.check_password(request("ws"), "ann", "wrong").authenticated
    assert not setup.chain.check_password(request(), "", "ws").authenticated
    assert salesforce.asked == 0


def test_unreadable_session_is_unavailable() -> None:
    class DownSessions(LoginSessions):
        def resume(self, session_id: str, *, touch: bool = True) -> Rejected:
            raise StateUnavailable("the state's server does not answer")

    setup = Setup(LoginSessionStep(), sessions=DownSessions(MemoryState("test"), SessionSettings()))
    assert setup.chain.walk(request(), lambda: "opaque").unavailable
    assert not setup.chain.walk(request()).unavailable  # without a session nothing has to be read


def test_explain_contains_no_credentials() -> None:
    setup, _, _ = basic_setup()
    rows = setup.chain.walk(request("s3cret-ish")).explain()
    assert [row["outcome"] for row in rows] == ["rejected", "rejected"]
    assert rows[0]["reason"] == "bad_credentials"
    assert "s3cret-ish" not in repr(rows)


def test_credentials_do_not_show_in_a_repr() -> None:
    shown = repr(Evidence(request("s3cret-ish"), "192.0.2.1", basic=BasicCredentials("ann", "s3cret-ish", "ann")))
    assert "s3cret-ish" not in shown
    assert "ann" in shown


@pytest.mark.parametrize("given", [None, 1, True, Person("ann")])
def test_step_without_outcome_ends_the_walk(given: object) -> None:
    setup = Setup(ScriptedStep("x", lambda evidence: given), LoginSessionStep())  # type: ignore[arg-type,return-value]  # a step without types
    session = setup.start()
    with pytest.raises(TypeError, match="step x: authenticate"):
        setup.chain.walk(request(), lambda: session)
    accepted = Setup(ScriptedStep("x", nothing), LoginSessionStep())
    session = accepted.start()
    assert accepted.chain.walk(request(), lambda: session).authenticated


def test_identity_of_another_contact_center_is_rejected() -> None:
    people = {"beta": "globex", "ann": "acme"}
    for center, authenticated in (("globex", False), ("acme", True)):
        setup = Setup(ScriptedStep("x", lambda evidence, center=center: Authenticated(Identity("x", center, "ann"))))  # type: ignore[misc]
        setup.people.people["ann"].contact_center = None if authenticated else people["beta"]
        decision = setup.chain.walk(request())
        assert decision.authenticated is authenticated
        if not authenticated:
            assert decision.steps[0].reason is Reason.OTHER_CONTACT_CENTER
