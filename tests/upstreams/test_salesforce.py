"""The Salesforce step with an emulated identity service: each rejection beside its control."""

from __future__ import annotations

import gc
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
from flask_genesys_auth.config.addresses import AllowedHost
from flask_genesys_auth.config.settings import Salesforce
from flask_genesys_auth.steps.salesforce import SalesforceStep
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import RawServer, unused_url

from .conftest import Client

Build = Callable[..., Evidence]
ORGANIZATION = "00D000000000001"


def host(url: str) -> AllowedHost:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return AllowedHost(parts.hostname, parts.scheme, parts.port)


def settings(*hosts: str, **changes: Any) -> Salesforce:
    known = Salesforce(frozenset({ORGANIZATION}), tuple(map(host, hosts)), (), timeout=5)
    return replace(known, **changes)


class Asked:
    """A step that asks one emulator, and its person ann."""

    def __init__(self, emulator: SalesforceEmulator, build: Build, center: ContactCenter, client: Client) -> None:
        self.client = client
        self.emulator = emulator
        self.build = build
        self.center = center
        self.settings = settings(emulator.url)
        self.ann = emulator.add_user("ann@acme.example")
        self.path = urlsplit(self.ann["surl"]).path

    def __call__(self, headers: dict[str, str] | None = None, **changes: Any) -> Outcome:
        self.client.guard.clear()
        step = SalesforceStep(replace(self.settings, **changes), self.client)
        return step.authenticate(self.build(self.ann if headers is None else headers), self.center)

    def accepted(self, headers: dict[str, str] | None = None, **changes: Any) -> Identity:
        outcome = self(headers, **changes)
        assert isinstance(outcome, Authenticated), outcome
        return outcome.identity

    def refused(self, headers: dict[str, str] | None = None, **changes: Any) -> Rejected:
        outcome = self(headers, **changes)
        assert isinstance(outcome, Rejected), outcome
        return outcome

    def unavailable(self, headers: dict[str, str] | None = None, **changes: Any) -> Unavailable:
        outcome = self(headers, **changes)
        assert isinstance(outcome, Unavailable), outcome
        return outcome


@pytest.fixture
def ask(salesforce: SalesforceEmulator, evidence: Build, center: ContactCenter, shared_client: Client) -> Asked:
    return Asked(salesforce, evidence, center, shared_client)


def test_session_proves_its_user(ask: Asked) -> None:
    assert ask.accepted() == Identity(
        "salesforce",
        "acme",
        "ann@acme.example",
        {
            "username": "ann@acme.example",
            "email": "ann@acme.example",
            "display_name": "Ann",
            "first_name": "Ann",
            "last_name": "Example",
        },
    )
    sent = ask.emulator.requests[-1]
    assert (sent.method, sent.path) == ("GET", ask.path)
    assert sent.headers["Authorization"] == f"Bearer {ask.ann['ssid']}"
    assert sent.headers["Accept"] == "application/json"


def test_step_declares_its_credentials_and_limits(ask: Asked) -> None:
    step = SalesforceStep(replace(ask.settings, reuse_verified_for=7))
    assert (step.name, step.credentials, step.reuse_verified_for) == ("salesforce", "salesforce", 7)
    assert step.challenge(ask.build({}).request, ask.center) is None


def test_both_headers_are_required(ask: Asked) -> None:
    for missing in ("ssid", "surl"):
        assert ask({**ask.ann, missing: ""}) == NotApplicable(Reason.NO_EVIDENCE)
    assert not ask.emulator.requests


def test_malformed_headers_are_rejected_unasked(ask: Asked) -> None:
    assert ask.refused({**ask.ann, "ssid": "a b"}).reason is Reason.MALFORMED_CREDENTIALS
    assert not ask.emulator.requests


def test_ids_may_have_15_or_18_characters(ask: Asked) -> None:
    short = "/".join(part[:15] for part in ask.path.split("/"))
    assert ask.accepted({**ask.ann, "surl": ask.emulator.url + short}) == ask.accepted()


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url + "/",
        lambda url: url + "?x=1",
        lambda url: url + "#x",
        lambda url: url.replace("/id/", "/ID/"),
        lambda url: url.replace("/id/", "/x/../id/"),
        lambda url: url.replace("/id/", "//id/"),
        lambda url: url.replace("http://", "http://ann@"),
        lambda url: url.replace("http://", "https://"),
        lambda url: url.replace("127.0.0.1", "localhost"),
        lambda url: url.replace("127.0.0.1", "127.0.0.1.evil.example"),
        lambda url: url.replace("127.0.0.1", "evil.example"),
        lambda url: url[:-1] + ("B" if url[-1] != "B" else "C"),
        lambda url: url.replace("/id/00D", "/id/00E"),
        lambda url: url.replace("/005", "/006"),
        lambda url: "not an address".replace(" ", "-"),
    ],
)
def test_unlisted_identity_host_is_never_asked(ask: Asked, change: Callable[[str], str]) -> None:
    headers = {**ask.ann, "surl": change(ask.ann["surl"])}
    assert ask.refused(headers).reason is Reason.IDENTITY_URL_NOT_ALLOWED
    assert not ask.emulator.requests
    assert ask.accepted().subject


def test_other_port_of_a_listed_host_is_rejected(ask: Asked) -> None:
    elsewhere = SalesforceEmulator()
    with elsewhere.serve():
        assert ask.refused({**ask.ann, "surl": elsewhere.url + ask.path}).reason is Reason.IDENTITY_URL_NOT_ALLOWED
        assert not elsewhere.requests


def test_unlisted_organization_is_never_asked(ask: Asked) -> None:
    outcome = ask.refused(organizations=frozenset({"00D000000000002"}))
    assert outcome.reason is Reason.ORGANIZATION_NOT_LISTED
    assert ORGANIZATION in outcome.detail
    assert not ask.emulator.requests
    assert ask.accepted(organizations=frozenset({"00D000000000002", ORGANIZATION})).subject


def test_refused_session_shows_salesforces_word(ask: Asked) -> None:
    ask.emulator.end_session(ask.ann)
    outcome = ask.refused()
    assert outcome.reason is Reason.SESSION_REFUSED
    assert outcome.detail.startswith("HTTP 403: Bad_OAuth_Token; ")
    assert "Lightning" in outcome.detail
    assert "IP address" in outcome.detail


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_any_other_4xx_is_a_rejection(ask: Asked, status: int) -> None:
    ask.emulator.fail(status, body="Whatever")
    assert ask.refused().detail.startswith(f"HTTP {status}: Whatever; ")
    ask.emulator.repair()
    assert ask.accepted().subject


@pytest.mark.parametrize(
    "body", [b"two words", b"x" * 41, b"Bad\x1b[31m", b"<html>", "Bäd".encode(), b"", b"Secret", b"x" * 90000]
)
def test_unsafe_refusal_text_is_not_quoted(ask: Asked, body: bytes) -> None:
    ask.emulator.fail(403, body=body)
    outcome = ask({**ask.ann, "ssid": "00D!SecretPiece"})
    assert isinstance(outcome, (Rejected, Unavailable))
    assert outcome.detail.startswith(("HTTP 403; ", "the answer is larger"))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failing_service_is_unavailable(ask: Asked, status: int) -> None:
    ask.emulator.fail(status, headers={"Retry-After": "17"})
    assert ask.unavailable() == replace(ask.unavailable(), reason=Reason.SERVER_ERROR)
    assert ask.unavailable().retry_after == (17 if status in {429, 503} else 5)
    ask.emulator.repair()
    assert ask.accepted().subject


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304])
def test_any_other_status_is_unreadable(ask: Asked, status: int) -> None:
    ask.emulator.fail(status)
    assert ask.unavailable().reason is Reason.UNREADABLE_ANSWER


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"<user/>", b"[]", b"null", b'"text"', b'{"a": NaN}', b"\xff", b"{}", b"x" * 70000],
)
def test_garbage_is_unreadable(ask: Asked, body: bytes) -> None:
    ask.emulator.fail(200, body=body)
    assert ask.unavailable().reason is Reason.UNREADABLE_ANSWER


def test_deeply_nested_answer_is_unreadable(ask: Asked) -> None:
    ask.emulator.fail(200, body=b"[" * 60_000)
    gc.collect()
    gc.disable()  # a finalizer of something else has no room to run in where the recursion ends
    try:
        assert ask.unavailable().reason is Reason.UNREADABLE_ANSWER
    finally:
        gc.enable()


def test_hanging_dripping_and_absent_services_are_unavailable(ask: Asked) -> None:
    ask.emulator.fail(hang=True)
    assert ask.unavailable(timeout=1.0).reason is Reason.TIMED_OUT
    ask.emulator.fail(body=json.dumps({"user_id": "x" * 1000}), drip=0.02)
    assert ask.unavailable(timeout=1.0).reason is Reason.TIMED_OUT
    ask.emulator.repair()
    assert ask.accepted(timeout=5).subject
    nobody = unused_url()
    headers = {**ask.ann, "surl": nobody + ask.path}
    assert ask.unavailable(headers, identity_hosts=(host(nobody),)).reason is Reason.UNREACHABLE
    with RawServer() as mute:
        headers = {**ask.ann, "surl": mute.url + ask.path}
        assert ask.unavailable(headers, identity_hosts=(host(mute.url),)).reason is Reason.SERVER_ERROR


def test_fields_of_other_types_are_unreadable_and_named(ask: Asked) -> None:
    wrongs: dict[str, tuple[object, ...]] = {
        "asserted_user": ("true", 1, None),
        "active": ("true", 1, None),
        "email_verified": ("true", 1),
        "user_id": (5, None, "", []),
        "organization_id": (5, None, ""),
        "username": (5, {}),
        "display_name": (5,),
    }
    for name, wrong in wrongs.items():
        for value in wrong:
            ask.emulator.alter(**{name: value})
            outcome = ask.unavailable()
            assert outcome.reason is Reason.UNREADABLE_ANSWER
            assert name in outcome.detail
    ask.emulator.alter(display_name=None, status="other", unheard_of=[1])
    assert "display_name" not in ask.accepted().attributes


def test_another_users_identity_is_rejected(ask: Asked) -> None:
    bob = ask.emulator.add_user("bob@acme.example")
    outcome = ask.refused({"ssid": bob["ssid"], "surl": ask.ann["surl"]})
    assert outcome.reason is Reason.FOREIGN_IDENTITY
    assert ask.accepted(bob).subject == "bob@acme.example"


@pytest.mark.parametrize(
    "changes",
    [
        {"asserted_user": False},
        {"user_id": "005Dn0000000099"},
        {"user_id": "005dn0000000001"},
        {"user_id": "005Dn0000000001AAB"},
        {"user_id": "ann"},
        {"organization_id": "00D000000000002"},
        {"organization_id": "00D000000000001AAB"},
    ],
)
def test_ids_that_do_not_agree_are_rejected(ask: Asked, changes: dict[str, Any]) -> None:
    ask.emulator.alter(**changes)
    assert ask.refused().reason is Reason.FOREIGN_IDENTITY
    ask.emulator.alter(user_id="005Dn0000000001", organization_id=ORGANIZATION)
    assert ask.accepted().subject


def test_inactive_user_is_rejected(ask: Asked) -> None:
    ask.emulator.alter(active=False)
    assert ask.refused().reason is Reason.INACTIVE_IDENTITY
    ask.emulator.alter(active=True)
    assert ask.accepted().subject


def test_answer_without_active_is_accepted(ask: Asked) -> None:
    found = {"asserted_user": True, "user_id": "005Dn0000000001", "organization_id": ORGANIZATION, "username": "ann"}
    ask.emulator.fail(body=json.dumps(found))
    assert ask.accepted().attributes == {"username": "ann"}
    ask.emulator.fail(body=json.dumps(found | {"active": False}))
    assert ask.refused().reason is Reason.INACTIVE_IDENTITY


def test_email_counts_only_if_verified(ask: Asked) -> None:
    found = ask.accepted(match="email")
    assert (found.subject, found.matched_by) == ("ann@acme.example", "email")
    for changes in ({"email_verified": False}, {"email_verified": None}, {"email": None}, {"email": ""}):
        ask.emulator.alter(**changes)
        assert ask.refused(match="email").reason is Reason.EMAIL_NOT_VERIFIED
        assert "email" not in ask.accepted(match="username").attributes


def test_linked_identity_is_organization_and_user(ask: Asked) -> None:
    found = ask.accepted(match="identity")
    assert (found.subject, found.matched_by, found.provider) == (
        "00D000000000001/005Dn0000000001",
        "identity",
        "salesforce",
    )


def test_without_a_username_nothing_can_be_matched(ask: Asked) -> None:
    for missing in (None, ""):
        ask.emulator.alter(username=missing)
        assert ask.unavailable(match="username").reason is Reason.UNREADABLE_ANSWER
        assert ask.accepted(match="identity").subject


# Redirects


def test_redirect_to_a_listed_host_is_followed(ask: Asked) -> None:
    with ask.emulator.serve() as instance:
        ask.emulator.instance_url = instance.url
        assert ask.refused().reason is Reason.UNEXPECTED_REDIRECT
        assert len(ask.emulator.requests) == 1
        assert ask.accepted(redirect_hosts=(host(instance.url),)).subject == "ann@acme.example"
        assert len(ask.emulator.requests) == 3
        assert {sent.headers["Authorization"] for sent in ask.emulator.requests} == {f"Bearer {ask.ann['ssid']}"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_session_is_never_sent_to_unlisted_hosts(ask: Asked, status: int) -> None:
    foreign = SalesforceEmulator()
    with foreign.serve():
        ask.emulator.fail(status, headers={"Location": foreign.url + ask.path})
        assert ask.refused(redirect_hosts=(AllowedHost(".my.salesforce.com"),)).reason is Reason.UNEXPECTED_REDIRECT
        assert not foreign.requests
        outcome = ask.refused(redirect_hosts=(host(foreign.url),))
        assert outcome.reason is Reason.SESSION_REFUSED
        assert [sent.method for sent in foreign.requests] == ["GET"]


@pytest.mark.parametrize(
    "location",
    [
        "{url}/id/00D000000000001/005Dn0000000099",
        "{url}{path}?x=1",
        "{url}{path}#x",
        "{url}{path}/",
        "{url}/other{path}",
        "http://ann@127.0.0.1{path}",
        "https://127.0.0.1{path}",
        "https://login.salesforce.com{path}",
        "//evil.example{path}",
        "http://[::1{path}",
        "javascript:alert(1)",
        "?x",
        "other",
        "{url}\t{path}",
        "http://evil.example\\@{url}{path}",
    ],
)
def test_redirect_to_another_address_is_rejected(ask: Asked, location: str) -> None:
    with ask.emulator.serve() as second:
        target = location.format(url=second.url, path=ask.path)
        first = ask.ann["surl"].partition("/id/")[0]
        ask.emulator.fail(302, headers={"Location": target})
        outcome = ask.refused({**ask.ann, "surl": first + ask.path}, redirect_hosts=(host(second.url),))
    assert outcome.reason is Reason.UNEXPECTED_REDIRECT
    assert len(ask.emulator.requests) == 1


@pytest.mark.parametrize("location", ["", "{path}", "//127.0.0.1:{port}{path}", "{url}{path}"])
def test_relative_redirects_end_after_two(ask: Asked, location: str) -> None:
    port = urlsplit(ask.emulator.url).port
    ask.emulator.fail(302, headers={"Location": location.format(path=ask.path, port=port, url=ask.emulator.url)})
    outcome = ask.refused()
    assert (outcome.reason, outcome.detail) == (Reason.UNEXPECTED_REDIRECT, "more than 2 redirects")
    assert len(ask.emulator.requests) == 3


def test_redirects_share_one_deadline(ask: Asked) -> None:
    with ask.emulator.serve() as instance:
        ask.emulator.instance_url = instance.url
        hosts = (host(instance.url),)
        assert ask.accepted(redirect_hosts=hosts).subject
    with RawServer(hold=True) as mute:
        ask.emulator.instance_url = mute.url
        assert ask.unavailable(redirect_hosts=(host(mute.url),), timeout=1.5).reason is Reason.TIMED_OUT


def test_no_outcome_shows_the_session(ask: Asked) -> None:
    secret = ask.ann["ssid"]
    outcomes = [ask()]
    for status in (200, 302, 403, 500):
        ask.emulator.fail(status, body=secret, headers={"Location": f"/{secret}"})
        outcomes.append(ask())
    assert all(secret not in repr(outcome) for outcome in outcomes)
    assert len({type(outcome) for outcome in outcomes}) == 3
