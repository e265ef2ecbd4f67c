"""The Configuration Server step with an emulated Authentication REST: each rejection beside its control."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import (
    Authenticated,
    Identity,
    NotApplicable,
    Outcome,
    Reason,
    Rejected,
    Unavailable,
)
from flask_genesys_auth.chain.protocols import Challenge, DirectoryEntry
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer
from flask_genesys_auth.directories.genesys import TOKEN_PATH, USERINFO_PATH, GenesysDirectory
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.steps.configuration_server import ConfigurationServerStep
from flask_genesys_auth.steps.web_services import basic_challenge
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.server import RawServer, unused_url

from .. import gates
from .conftest import Client

Build = Callable[..., Evidence]
PASSWORD = "pass:wörd &=%+\\"


class Asked:
    """A directory, and a step with a limit of two failures that asks it, both about ann."""

    def __init__(self, emulator: GenesysEmulator, build: Build, center: ContactCenter, client: Client) -> None:
        self.client = client
        self.emulator = emulator
        self.build = build
        self.center = center
        self.settings = ConfigurationServer(
            url=emulator.url, client_id=emulator.client_id, client_secret=Secret(emulator.client_secret), timeout=5
        )
        self.ann = emulator.add_user("ann", PASSWORD, loginName="ann.login", cmeUserName="ann.cme", dbid=1017)
        self.limiter = FailureLimit("2 per 15 minutes")

    def verify(self, password: str = PASSWORD, name: str = "ann", **changes: Any) -> object:
        return self.directory(**changes).verify(name, password)

    def directory(self, **changes: Any) -> GenesysDirectory:
        self.client.guard.clear()
        return GenesysDirectory(replace(self.settings, **changes), self.client)

    def entry(self, password: str = PASSWORD, **changes: Any) -> dict[str, str]:
        found = self.verify(password, **changes)
        assert isinstance(found, DirectoryEntry), found
        return dict(found.attributes)

    def unavailable(self, **changes: Any) -> Unavailable:
        found = self.verify(**changes)
        assert isinstance(found, Unavailable), found
        return found

    def step(
        self, headers: dict[str, str] | None = None, *, dry_run: bool = False, account: bool = False, **changes: Any
    ) -> Outcome:
        settings = replace(self.settings, **changes)
        step = ConfigurationServerStep(settings, self.directory(**changes), self.limiter)
        evidence = self.build(self.ann if headers is None else headers, dry_run=dry_run)
        return gates.ask(step, evidence, self.center, account=account)

    def wrong(self, **changes: Any) -> Outcome:
        return self.step({"Authorization": "Basic YW5uOndyb25n"}, **changes)


@pytest.fixture
def ask(genesys: GenesysEmulator, evidence: Build, center: ContactCenter, shared_client: Client) -> Asked:
    return Asked(genesys, evidence, center, shared_client)


# The directory


def test_good_password_returns_genesys_attributes(ask: Asked) -> None:
    assert ask.entry() == {
        "username": "ann",
        "login_name": "ann.login",
        "cme_user_name": "ann.cme",
        "identity": "1017",
        "contact_center_id": "contact-center-1",
        "environment_id": "environment-1",
    }
    grant, userinfo = ask.emulator.requests
    assert (grant.method, grant.path) == ("POST", TOKEN_PATH)
    assert grant.form.to_dict() == {
        "grant_type": "password",
        "client_id": "flask-genesys-auth",
        "scope": "*",
        "username": "Environment\\ann",
        "password": PASSWORD,
    }
    assert (userinfo.method, userinfo.path) == ("GET", USERINFO_PATH)
    assert userinfo.headers["Authorization"].startswith("Bearer ")


def test_base_url_may_have_path_and_slash(ask: Asked) -> None:
    assert ask.entry(url=ask.emulator.url + "/")
    assert ask.entry(url=ask.emulator.url + "/gws")
    assert ask.emulator.requests[-1].path == "/gws" + USERINFO_PATH


@pytest.mark.parametrize("status_errors", [False, True])
def test_wrong_password_and_unknown_name_look_alike(ask: Asked, status_errors: bool) -> None:
    ask.emulator.status_errors = status_errors
    wrong = ask.verify("wrong")
    assert isinstance(wrong, Rejected)
    assert wrong.reason is Reason.BAD_CREDENTIALS
    assert ask.verify(name="nobody") == wrong
    assert ask.entry()


def test_tenant_is_sent_only_if_configured(ask: Asked) -> None:
    assert ask.verify(tenant="Other") == Rejected(Reason.BAD_CREDENTIALS, "invalid_grant")
    ask.emulator.tenant = ""
    assert ask.verify(tenant="") == Rejected(Reason.BAD_CREDENTIALS, "invalid_grant")
    assert ask.emulator.requests[-1].form["username"] == "ann"


def test_contact_center_id_is_compared_if_set(ask: Asked) -> None:
    assert ask.entry(contact_center_id="contact-center-1")
    for other in ("contact-center-2", None):
        ask.emulator.alter(contactCenterId=other)
        found = ask.verify(contact_center_id="contact-center-1")
        assert isinstance(found, Rejected)
        assert found.reason is Reason.OTHER_TENANT
        assert ask.entry(contact_center_id="")


@pytest.mark.parametrize("changes", [{"client_id": "other"}, {"client_secret": Secret("stale-s3cret")}])
def test_rejected_client_is_unavailable(ask: Asked, changes: dict[str, Any]) -> None:
    outcome = ask.unavailable(**changes)
    assert outcome.reason is Reason.SERVER_ERROR
    assert "configuration_server.client_id" in outcome.detail
    assert "s3cret" not in repr(outcome)
    assert ask.entry()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("invalid_grant", Reason.BAD_CREDENTIALS),
        ("access_denied", Reason.BAD_CREDENTIALS),
        ("Odd\x1b\r\n", Reason.BAD_CREDENTIALS),
        ("invalid_client", Reason.SERVER_ERROR),
        ("unauthorized_client", Reason.SERVER_ERROR),
        ("unsupported_grant_type", Reason.SERVER_ERROR),
        ("invalid_scope", Reason.SERVER_ERROR),
        ("invalid_request", Reason.SERVER_ERROR),
        ("server_error", Reason.SERVER_ERROR),
        ("temporarily_unavailable", Reason.SERVER_ERROR),
    ],
)
def test_oauth_errors_tell_the_person_from_the_client(ask: Asked, error: str, expected: Reason) -> None:
    for status in (400, 401, 403):
        ask.emulator.fail(status, body=json.dumps({"error": error, "error_description": "long"}))
        found = ask.verify()
        assert isinstance(found, (Rejected, Unavailable))
        assert found.reason is expected
        assert found.detail.isprintable()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": {"code": 603, "message": "Unauthorized"}}, Reason.BAD_CREDENTIALS),
        ({"status": {"code": 604}}, Reason.SERVER_ERROR),
        ({}, Reason.SERVER_ERROR),
        ({"status": None, "error": None}, Reason.SERVER_ERROR),
        ({"status": 401, "error": "Unauthorized"}, Reason.UNREADABLE_ANSWER),
        ({"status": {"code": "603"}}, Reason.UNREADABLE_ANSWER),
        ({"error": 5}, Reason.UNREADABLE_ANSWER),
        ([], Reason.UNREADABLE_ANSWER),
    ],
)
def test_only_603_is_a_bad_password(ask: Asked, body: object, expected: Reason) -> None:
    ask.emulator.fail(401, body=json.dumps(body))
    found = ask.verify()
    assert isinstance(found, (Rejected, Unavailable))
    assert found.reason is expected


@pytest.mark.parametrize("path", [TOKEN_PATH, USERINFO_PATH])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 500}, Reason.SERVER_ERROR),
        ({"status": 404}, Reason.SERVER_ERROR),
        ({"status": 429, "headers": {"Retry-After": "9"}}, Reason.SERVER_ERROR),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, Reason.UNREADABLE_ANSWER),
        ({"status": 204}, Reason.UNREADABLE_ANSWER),
        ({"body": "garbage"}, Reason.UNREADABLE_ANSWER),
        ({"body": "[]"}, Reason.UNREADABLE_ANSWER),
        ({"body": "x" * 70000}, Reason.UNREADABLE_ANSWER),
        ({"hang": True}, Reason.TIMED_OUT),
        ({"body": "x" * 1000, "drip": 0.02}, Reason.TIMED_OUT),
    ],
    ids=str,
)
def test_every_fault_of_either_call_is_unavailable(
    ask: Asked, path: str, fault: dict[str, Any], expected: Reason
) -> None:
    ask.emulator.fail(**fault, path=path)
    outcome = ask.unavailable(timeout=1 if expected is Reason.TIMED_OUT else 5)
    assert outcome.reason is expected
    assert outcome.retry_after == (9 if "429" in outcome.detail else 5)
    assert all("elsewhere" not in sent.path for sent in ask.emulator.requests)
    ask.emulator.repair()
    assert ask.entry()


def test_rejected_token_is_unavailable(ask: Asked) -> None:
    ask.emulator.fail(401, body=json.dumps({"error": "invalid_token"}), path=USERINFO_PATH)
    assert ask.unavailable().reason is Reason.SERVER_ERROR


@pytest.mark.parametrize("token", [None, 5, "", "a b", "a\r\nX: y", "tök"])
def test_invalid_token_is_not_sent(ask: Asked, token: object) -> None:
    ask.emulator.fail(body=json.dumps({"access_token": token}), path=TOKEN_PATH)
    assert ask.unavailable().reason is Reason.UNREADABLE_ANSWER
    assert [sent.path for sent in ask.emulator.requests] == [TOKEN_PATH]


def test_fields_of_other_types_are_unreadable_and_named(ask: Asked) -> None:
    for name in ("username", "loginName", "cmeUserName", "contactCenterId", "dbid"):
        wrongs: tuple[object, ...] = ([1], {}, True)
        for wrong in wrongs:
            ask.emulator.alter(**{name: wrong})
            outcome = ask.unavailable()
            assert outcome.reason is Reason.UNREADABLE_ANSWER
            assert name in outcome.detail
    ask.emulator.alter(dbid="1017", authorities="odd", unheard_of={})
    assert ask.entry()["identity"] == "1017"


def test_cme_user_name_may_come_with_token(ask: Asked) -> None:
    ask.emulator.alter(cmeUserName=None)
    assert ask.entry()["cme_user_name"] == "ann.cme"
    ask.emulator.alter(cmeUserName="other")
    assert ask.entry()["cme_user_name"] == "other"


def test_closed_port_is_unreachable(ask: Asked) -> None:
    assert ask.unavailable(url=unused_url()).reason is Reason.UNREACHABLE


def test_no_outcome_shows_a_secret(ask: Asked) -> None:
    found = [ask.verify(), ask.verify("wr0ngpass"), ask.verify(client_id="other")]
    ask.emulator.fail(401, body=json.dumps({"error": "wr0ngpass"}))
    found.append(ask.verify("wr0ngpass"))
    assert all(secret not in repr(found) for secret in (PASSWORD, "wr0ngpass", ask.emulator.client_secret))


# The step


def test_good_password_proves_its_user(ask: Asked) -> None:
    outcome = ask.step()
    assert isinstance(outcome, Authenticated)
    assert outcome.identity == Identity("configuration_server", "acme", "ann", outcome.identity.attributes)
    assert outcome.identity.attributes["login_name"] == "ann.login"


@pytest.mark.parametrize(
    ("match", "subject", "matched_by", "provider"),
    [
        ("username", "ann", "user_name", ""),
        ("login_name", "ann.login", "user_name", ""),
        ("cme_user_name", "ann.cme", "user_name", ""),
        ("identity", "1017", "identity", "configuration_server"),
    ],
)
def test_match_setting_chooses_the_attribute(
    ask: Asked, match: str, subject: str, matched_by: str, provider: str
) -> None:
    outcome = ask.step(match=match)
    assert isinstance(outcome, Authenticated)
    found = outcome.identity
    assert (found.subject, found.matched_by, found.provider) == (subject, matched_by, provider)


def test_user_without_matched_attribute_is_rejected(ask: Asked) -> None:
    ask.emulator.alter(loginName=None)
    assert ask.step(match="login_name") == Rejected(Reason.NO_ACCOUNT, "the directory has no login_name for this user")
    assert isinstance(ask.step(match="username"), Authenticated)


def test_absent_or_malformed_credentials_send_nothing(ask: Asked) -> None:
    assert ask.step({}) == NotApplicable(Reason.NO_EVIDENCE)
    malformed = ask.step({"Authorization": "Basic !"})
    assert isinstance(malformed, Rejected)
    assert malformed.reason is Reason.MALFORMED_CREDENTIALS
    assert not ask.emulator.requests


def test_failures_beyond_the_limit_do_not_reach_genesys(ask: Asked) -> None:
    ask.emulator.lock_after = 3
    assert ask.wrong() == ask.wrong() == Rejected(Reason.BAD_CREDENTIALS, "invalid_grant")
    reached = len(ask.emulator.requests)
    for outcome in (ask.wrong(), ask.step()):
        assert isinstance(outcome, Unavailable)
        assert outcome.reason is Reason.THROTTLED
    assert len(ask.emulator.requests) == reached
    explained = ask.step(dry_run=True)
    assert isinstance(explained, Unavailable)
    assert explained.reason is Reason.THROTTLED
    assert len(ask.emulator.requests) == reached
    bob = ask.emulator.add_user("bob", "secret")
    assert isinstance(ask.step(bob), Authenticated)
    assert isinstance(ask.step(bob, dry_run=True), Authenticated)


def test_slot_is_returned_only_with_an_account(ask: Asked) -> None:
    for _ in range(4):
        assert isinstance(ask.step(account=True), Authenticated)
    for _ in range(2):
        assert isinstance(ask.step(), Authenticated)
    refused = ask.step()
    assert isinstance(refused, Unavailable)
    assert refused.reason is Reason.THROTTLED


def test_limit_counts_per_contact_center(ask: Asked) -> None:
    ask.wrong()
    ask.wrong()
    assert isinstance(ask.step(), Unavailable)
    ask.center = ContactCenter(replace(ask.center.settings, name="other"), ())
    assert isinstance(ask.step(), Authenticated)


def test_only_unsent_requests_return_the_slot(ask: Asked) -> None:
    nobody = unused_url()
    for _ in range(4):
        outcome = ask.step(url=nobody)
        assert isinstance(outcome, Unavailable)
        assert outcome.reason is Reason.UNREACHABLE
    with RawServer() as mute:
        for expected in (Reason.SERVER_ERROR, Reason.SERVER_ERROR, Reason.THROTTLED):
            outcome = ask.step(url=mute.url)
            assert isinstance(outcome, Unavailable)
            assert outcome.reason is expected


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (TOKEN_PATH, 500, ""),
        (TOKEN_PATH, 503, ""),
        (TOKEN_PATH, 429, ""),
        (TOKEN_PATH, 408, ""),
        (TOKEN_PATH, 404, ""),
        (TOKEN_PATH, 302, ""),
        (TOKEN_PATH, 200, "garbage"),
        (TOKEN_PATH, 401, '{"error": "invalid_client"}'),
        (TOKEN_PATH, 400, '{"error": "server_error"}'),
        (USERINFO_PATH, 500, ""),
        (USERINFO_PATH, 401, ""),
        (USERINFO_PATH, 200, "garbage"),
    ],
)
def test_attempts_during_an_outage_are_uncounted(ask: Asked, path: str, status: int, body: str) -> None:
    ask.emulator.fail(status, body=body, path=path)
    for _ in range(4):
        outcome = ask.step()
        assert isinstance(outcome, Unavailable)
        assert outcome.reason is not Reason.THROTTLED
    ask.emulator.repair()
    assert isinstance(ask.step(), Authenticated)


def test_unreadable_refusal_counts_as_failure(ask: Asked) -> None:
    ask.emulator.fail(401, body="garbage", path=TOKEN_PATH)
    for expected in (Reason.UNREADABLE_ANSWER, Reason.UNREADABLE_ANSWER, Reason.THROTTLED):
        outcome = ask.step()
        assert isinstance(outcome, Unavailable)
        assert outcome.reason is expected


def test_empty_password_is_never_sent(ask: Asked) -> None:
    for _ in range(4):
        refused = ask.step({"Authorization": "Basic YW5uOg=="})
        assert isinstance(refused, Rejected)
        assert refused.reason is Reason.BAD_CREDENTIALS
    assert not ask.emulator.requests
    assert isinstance(ask.step(), Authenticated)


def test_explained_request_takes_no_slot(ask: Asked) -> None:
    for _ in range(4):
        assert ask.wrong(dry_run=True) == Rejected(Reason.BAD_CREDENTIALS, "invalid_grant")
    assert isinstance(ask.step(), Authenticated)


def test_step_declares_its_credentials_and_limits(ask: Asked) -> None:
    settings = replace(ask.settings, reuse_verified_for=7)
    step = ConfigurationServerStep(settings, GenesysDirectory(settings), ask.limiter)
    assert (step.name, step.credentials, step.reuse_verified_for) == ("configuration_server", "basic", 7)
    assert step.challenge(ask.build({}).request, ask.center) == basic_challenge("acme")


def test_challenge_quotes_its_realm() -> None:
    assert basic_challenge("acme") == Challenge('Basic realm="acme", charset="UTF-8"')
    assert basic_challenge('a"b\\c\r\nd') == Challenge('Basic realm="a\\"b\\\\cd", charset="UTF-8"')


def test_emulator_locks_accounts_like_genesys(ask: Asked) -> None:
    ask.emulator.lock_after = 2
    ask.verify("wrong")
    assert ask.entry()
    ask.verify("wrong")
    ask.verify("wrong")
    assert ask.verify() == Rejected(Reason.BAD_CREDENTIALS, "invalid_grant")
    assert urlsplit(ask.emulator.url).hostname == "127.0.0.1"
