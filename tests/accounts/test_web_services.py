"""The Web Services step: one answer and one argon2 call for every wrong credential."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
from werkzeug.datastructures import Headers
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_genesys_auth.accounts.passwords import ForeignHashes, PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.contact_centers import ContactCenter, ContactCenters
from flask_genesys_auth.chain.evidence import Evidence, collect
from flask_genesys_auth.chain.outcomes import Authenticated, NotApplicable, Outcome, Reason, Rejected
from flask_genesys_auth.chain.walk import AuthenticationChain
from flask_genesys_auth.config.settings import (
    ContactCenterSettings,
    PasswordSettings,
    SalesforceHeaders,
    SessionSettings,
    Settings,
    ThrottleSettings,
    WebServices,
)
from flask_genesys_auth.errors import AccountsUnavailable, HasherBusy
from flask_genesys_auth.limits import FailureThrottle, LocalLedger
from flask_genesys_auth.limits.gate import CredentialGate, VerifiedCredentials
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.steps.web_services import WebServicesStep
from tests.accounts.conftest import CHEAP

ACME = ContactCenter(ContactCenterSettings("acme", "acme", web_services=WebServices()), ())


def evidence_of(header: str | None, *, dry_run: bool = False) -> Evidence:
    headers = Headers() if header is None else Headers({"Authorization": header})
    request = Request(EnvironBuilder(headers=headers).get_environ())
    return collect(request, SalesforceHeaders(), dry_run=dry_run)


def ask(step: WebServicesStep, header: str | None, *, dry_run: bool = False) -> Outcome:
    return step.authenticate(evidence_of(header, dry_run=dry_run), ACME)


def basic(user_name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user_name}:{password}".encode()).decode()


class ReadOnly:
    """A password store that cannot be written."""

    def __init__(self, store: SqlAccounts) -> None:
        self._store = store

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        return self._store.password_hash(contact_center, user_name)

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        raise AccountsUnavailable("it is read-only")


@pytest.fixture
def people(sqlite_store: SqlAccounts, hasher: PasswordHasher) -> SqlAccounts:
    sqlite_store.add("acme", "Ann@Acme.example", password_hash=hasher.hash("right: pässword"))
    sqlite_store.add("acme", "nopassword")
    sqlite_store.add("acme", "disabled", password_hash=hasher.hash("right"), enabled=False)
    return sqlite_store


@pytest.fixture
def step(people: SqlAccounts, hasher: PasswordHasher) -> WebServicesStep:
    return WebServicesStep(people, hasher, CHEAP)


def test_step_declares_its_evidence_and_cache_time(people: SqlAccounts) -> None:
    settings = PasswordSettings(reuse_verified_for=7)
    step = WebServicesStep(people, PasswordHasher(settings), settings)
    assert (step.name, step.credentials, step.reuse_verified_for) == ("web_services", "basic", 7)
    assert step.needs_version


@pytest.mark.parametrize("name", ["ann@acme.example", "ANN@ACME.EXAMPLE", "ACME\\ann@acme.example"])
def test_name_and_password_authenticate_an_identity(step: WebServicesStep, name: str) -> None:
    outcome = ask(step, basic(name, "right: pässword"))
    assert isinstance(outcome, Authenticated)
    proven = outcome.identity
    assert (proven.step, proven.contact_center, proven.matched_by) == ("web_services", "acme", "user_name")
    assert proven.subject == "ann@acme.example"


def test_step_is_not_applicable_without_basic_header(step: WebServicesStep, calls: list[Any]) -> None:
    assert ask(step, None) == NotApplicable()
    assert ask(step, "Bearer x") == NotApplicable()
    assert calls == []


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic YW5u", "basic /w=="])
def test_malformed_header_is_rejected(step: WebServicesStep, header: str, calls: list[Any]) -> None:
    outcome = ask(step, header)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MALFORMED_CREDENTIALS
    assert calls == []


def test_unknown_user_and_wrong_password_cost_the_same(step: WebServicesStep, calls: list[Any]) -> None:
    outcomes = [
        ask(step, basic("nobody", "right: pässword")),
        ask(step, basic("nopassword", "right: pässword")),
        ask(step, basic("ann@acme.example", "wrong")),
        ask(step, basic("disabled", "wrong")),
    ]
    assert outcomes == [Rejected(Reason.BAD_CREDENTIALS)] * 4
    assert len(calls) == 4
    assert isinstance(ask(step, basic("ann@acme.example", "right: pässword")), Authenticated)
    assert isinstance(ask(step, basic("disabled", "right")), Authenticated)
    assert len(calls) == 6
    assert len(set(map(str, calls))) == 1


def test_login_renews_an_old_hash_unlike_explain(people: SqlAccounts) -> None:
    step = WebServicesStep(people, PasswordHasher(PasswordSettings(memory_kib=128, iterations=2)), CHEAP)
    before, account = people.password_hash("acme", "ann@acme.example"), people.get_by_name("acme", "ann@acme.example")
    good = basic("ann@acme.example", "right: pässword")
    assert isinstance(ask(step, good, dry_run=True), Authenticated)
    assert ask(step, basic("ann@acme.example", "wrong")) == Rejected(Reason.BAD_CREDENTIALS)
    assert people.password_hash("acme", "ann@acme.example") == before
    assert isinstance(ask(step, good), Authenticated)
    renewed = people.password_hash("acme", "ann@acme.example")
    assert renewed is not None
    assert renewed.startswith("$argon2id$v=19$m=128,t=2,p=1$")
    assert people.get_by_name("acme", "ann@acme.example") == account
    assert isinstance(ask(step, good), Authenticated)
    assert people.password_hash("acme", "ann@acme.example") == renewed


def test_success_holds_until_the_password_changes(
    people: SqlAccounts, step: WebServicesStep, hasher: PasswordHasher, calls: list[Any]
) -> None:
    account = people.get_by_name("acme", "ann@acme.example")
    assert account is not None
    evidence = evidence_of(basic("ann@acme.example", "right: pässword"))
    proven = step.authenticate(evidence, ACME)
    assert isinstance(proven, Authenticated)
    assert step.still_holds(evidence, ACME, proven)
    assert len(calls) == 1  # the same hash is not verified again
    people.set_password(account.id, hasher.hash("right: pässword"))
    assert step.still_holds(evidence, ACME, proven)  # as when another process has renewed the hash
    people.set_password(account.id, hasher.hash("another"))
    assert not step.still_holds(evidence, ACME, proven)


def test_renewed_hash_needs_no_second_verification(people: SqlAccounts, calls: list[Any]) -> None:
    step = WebServicesStep(people, PasswordHasher(PasswordSettings(memory_kib=128, iterations=2)), CHEAP)
    evidence = evidence_of(basic("ann@acme.example", "right: pässword"))
    proven = step.authenticate(evidence, ACME)
    assert isinstance(proven, Authenticated)
    assert step.still_holds(evidence, ACME, proven)
    assert len(calls) == 1


def test_outcome_holds_no_hash(people: SqlAccounts, step: WebServicesStep) -> None:
    proven = ask(step, basic("ann@acme.example", "right: pässword"))
    assert isinstance(proven, Authenticated)
    stored = people.password_hash("acme", "ann@acme.example")
    assert stored is not None
    assert proven.proof
    assert all(part not in proven.proof for part in stored.split("$") if len(part) > 8)
    assert proven.proof not in repr(proven)


@pytest.mark.parametrize("changed", [True, False])
def test_old_password_is_not_cached_for_new_version(people: SqlAccounts, hasher: PasswordHasher, changed: bool) -> None:
    account = people.get_by_name("acme", "ann@acme.example")
    assert account is not None

    def change() -> None:
        if changed:
            people.set_password(account.id, hasher.hash("new"))

    class Racing(ReadOnly):
        """Change the password once, after the hash is read and before the account is."""

        once: ClassVar = [change]

        def password_hash(self, contact_center: str, user_name: str) -> str | None:
            found = super().password_hash(contact_center, user_name)
            if self.once:
                self.once.pop()()
            return found

    table = ContactCenterSettings("acme", "acme", web_services=WebServices())
    state = MemoryState("test")
    chain = AuthenticationChain(
        ContactCenters(
            Settings({"acme": table}, base_path=Path()),
            [ContactCenter(table, (WebServicesStep(Racing(people), hasher, PasswordSettings(reuse_verified_for=60)),))],
        ),
        SalesforceHeaders(),
        sessions=LoginSessions(state, SessionSettings()),
        accounts=people,
        describe=people.describe,
        gate=CredentialGate(FailureThrottle(ThrottleSettings(), state, LocalLedger()), VerifiedCredentials()),
    )

    def authenticated(password: str) -> bool:
        builder = EnvironBuilder(headers=Headers({"Authorization": basic("ann@acme.example", password)}))
        return chain.walk(Request(builder.get_environ())).authenticated

    assert [authenticated("right: pässword") for _ in range(3)] == [not changed] * 3
    assert authenticated("new") is changed


def test_login_succeeds_although_renewing_the_hash_fails(people: SqlAccounts, caplog: pytest.LogCaptureFixture) -> None:
    step = WebServicesStep(ReadOnly(people), PasswordHasher(PasswordSettings(memory_kib=128)), CHEAP)
    with caplog.at_level(logging.WARNING):
        assert isinstance(ask(step, basic("ann@acme.example", "right: pässword")), Authenticated)
    assert "it is read-only" in caplog.text


def test_unavailable_stores_raise_their_own_errors(people: SqlAccounts, tmp_path: Any) -> None:
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1, concurrent_hashes=1), slot_timeout=0.01)
    with hasher.slot(), pytest.raises(HasherBusy):
        ask(WebServicesStep(people, hasher, CHEAP), basic("ann@acme.example", "right: pässword"))
    (tmp_path / "broken").write_text("this is no database, and long enough to be seen as none")
    broken = SqlAccounts(f"sqlite:///{tmp_path / 'broken'}")
    with pytest.raises(AccountsUnavailable):
        ask(WebServicesStep(broken, hasher, CHEAP), basic("ann", "x"))


def test_the_challenge_names_the_contact_center(step: WebServicesStep) -> None:
    challenge = step.challenge(Request(EnvironBuilder().get_environ()), ACME)
    assert challenge is not None
    assert challenge.scheme == 'Basic realm="acme", charset="UTF-8"'
    assert challenge.location == ""


def test_foreign_hashes_cost_one_call_each(
    hasher: PasswordHasher, calls: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    verified: list[str] = []

    def verify(stored: str, password: str) -> bool:
        verified.append(stored.split("$")[0])
        return check_password_hash(stored, password)

    hashes = {"ann": generate_password_hash("right", "pbkdf2:sha256:10"), "bad": "geheim$salt$digest"}

    class Theirs:
        foreign_hashes = ForeignHashes(verify, generate_password_hash("dummy", "pbkdf2:sha256:10"))

        def password_hash(self, contact_center: str, user_name: str) -> str | None:
            return hashes.get(user_name)

        def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
            raise AssertionError("a foreign hash is not ours to renew")

    step = WebServicesStep(Theirs(), hasher, CHEAP)
    assert isinstance(ask(step, basic("ann", "right")), Authenticated)
    assert ask(step, basic("ann", "wrong")) == Rejected(Reason.BAD_CREDENTIALS)
    assert ask(step, basic("nobody", "dummy")) == Rejected(Reason.BAD_CREDENTIALS)
    assert verified == ["pbkdf2:sha256:10"] * 3
    assert ask(step, basic("bad", "x")) == Rejected(Reason.BAD_CREDENTIALS)
    assert "not of the application's format" in caplog.text
    assert "geheim" not in caplog.text
    assert calls == []
