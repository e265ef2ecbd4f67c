"""Single logout in a real application, in both directions and by both bindings."""

from __future__ import annotations

import base64
import html
import re
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, redirect
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth import GenesysAuth, current_user, logged_out, session_revoked, unprotected
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.saml.documents import SAML, SAMLP
from flask_genesys_auth.saml.requests import NameId
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing.saml_messages import (
    EMAIL,
    PERSISTENT,
    SUCCESS,
    LogoutMessage,
    SigningKey,
    provider_metadata,
)
from flask_genesys_auth.web.browser import LOGIN
from flask_genesys_auth.web.runtime import runtime

from ..addresses import IDP, PUBLIC_URL, SSO
from ..application import ANN, CSP, NAVIGATION, BreakableState, Browser, MakeApp, accounts, assert_refused, idp_of
from ..provider_site import HOUR, Clock, Site, age_metadata_by, metadata_of

SLO = "https://idp.example/slo?tenant=1"
OURS = f"{PUBLIC_URL}/saml/acme/slo"
BINDINGS = ("redirect", "post")
PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"
RESPONDER = "urn:oasis:names:tc:SAML:2.0:status:Responder"

LOCAL = "Only this application has signed you out"
ASKED = "has not confirmed yet"
COMPLETE = "has confirmed that it has signed you out"
PARTLY = "some applications may still be signed in"
FAILED = "did not confirm that it has signed you out"
HERE = "Your session here has ended. If you share"

Build = Callable[..., Flask]


@pytest.fixture
def build(make_app: MakeApp, tmp_path: Path, key: SigningKey, other_key: SigningKey) -> Build:
    """Applications with a signing key, whose provider offers single logout."""

    def made(
        centers: tuple[str, ...] = ("acme",),
        *,
        slo_url: str = SLO,
        slo_bindings: tuple[str, ...] = ("HTTP-Redirect", "HTTP-POST"),
        signs: bool = True,
        okta: dict[str, Any] | None = None,
        **more: Any,
    ) -> Flask:
        path = tmp_path / "single-logout.xml"
        path.write_text(provider_metadata(IDP, SSO, (key.certificate,), slo_url=slo_url, slo_bindings=slo_bindings))
        ours = {"signing_key": other_key.private_pem, "signing_certificate": other_key.certificate_pem}
        return make_app(centers, okta={"metadata": str(path), **(okta or {})}, **(ours if signs else {}), **more)

    return made


@pytest.fixture
def app(build: Build) -> Flask:
    return build()


def request_of(browser: Browser, **changes: Any) -> LogoutMessage:
    """The provider's genuine request to end the browser's login, old enough for a login after it to be newer."""
    return LogoutMessage(IDP, f"{browser.url}{browser.base}/slo", issued=-2).but(**changes)


def response_to(request: etree._Element, relay_state: str, **changes: Any) -> LogoutMessage:
    """The provider's genuine answer to our request."""
    return LogoutMessage(
        IDP, OURS, kind="LogoutResponse", in_response_to=request.get("ID"), relay_state=relay_state
    ).but(**changes)


def bring(
    browser: Browser, message: LogoutMessage, binding: str, *, cookies: bool = False, **more: Any
) -> TestResponse:
    """Carry the provider's message to us; a POST, and anything in a frame, comes without the browser's cookie."""
    client = browser.client if cookies else browser.client.application.test_client(use_cookies=False)
    if binding == "redirect":
        query = message.query(browser.key)
        return client.get(f"{browser.base}/slo", query_string=query, base_url=browser.url, **more)
    return client.post(f"{browser.base}/slo", data=message.form(browser.key), base_url=browser.url, **more)


def sent(answer: TestResponse, binding: str) -> tuple[etree._Element, str]:
    """The message that we have sent to the provider, and its RelayState."""
    if binding == "redirect":
        assert answer.status_code == 303, answer.text
        assert answer.headers["Location"].startswith(f"{SLO}&SAML")
        assert answer.headers["Cache-Control"] == "no-store"
        fields = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
        assert fields["Signature"]
        xml = zlib.decompress(base64.b64decode(message_in(fields)), -zlib.MAX_WBITS)
        return etree.fromstring(xml), fields.get("RelayState", "")
    assert answer.status_code == 200
    assert f'action="{html.escape(SLO)}"' in answer.text
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', answer.text)
    fields = {name: html.unescape(value) for name, value in found}
    root = etree.fromstring(base64.b64decode(message_in(fields)))
    assert str(root[1].tag).endswith("}Signature")
    return root, fields.get("RelayState", "")


def message_in(fields: dict[str, str]) -> str:
    return fields["SAMLRequest"] if "SAMLRequest" in fields else fields["SAMLResponse"]


def leave(browser: Browser) -> TestResponse:
    return browser.post(f"{browser.base}/logout", headers={"Origin": browser.url})


def is_success(answer: etree._Element, request: LogoutMessage) -> bool:
    codes = [code.get("Value") for code in answer.iter(f"{{{SAMLP}}}StatusCode")]
    return (
        answer.tag == f"{{{SAMLP}}}LogoutResponse"
        and codes == [SUCCESS]
        and (answer.get("InResponseTo") == request.message_id)
    )


def next_page(browser: Browser) -> str:
    """What the next navigation meets: the signed-out page, and no login in silence."""
    answer = browser.get("/private", headers=NAVIGATION)
    assert answer.status_code == 401
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.text


def logged_in(app: Flask, key: SigningKey, **changes: Any) -> Browser:
    browser = Browser(app, key)
    assert browser.log_in(**changes).status_code == 303
    assert browser.user
    return browser


@pytest.fixture
def ann(app: Flask, key: SigningKey) -> Browser:
    return logged_in(app, key)


# From here


@pytest.mark.parametrize("answered_by", BINDINGS)
@pytest.mark.parametrize("binding", BINDINGS)
def test_logout_goes_to_the_provider_and_back(build: Build, key: SigningKey, binding: str, answered_by: str) -> None:
    offered = {"redirect": "HTTP-Redirect", "post": "HTTP-POST"}[binding]
    browser = logged_in(build(slo_bindings=(offered,)), key)
    request, relay_state = sent(leave(browser), binding)
    assert request.tag == f"{{{SAMLP}}}LogoutRequest"
    assert request.get("Destination") == SLO
    assert request.findtext(f"{{{SAML}}}NameID") == ANN
    assert request.findtext(f"{{{SAMLP}}}SessionIndex") == "session-1"
    assert browser.user == ""
    assert ASKED in next_page(browser)
    answer = bring(browser, response_to(request, relay_state), answered_by, cookies=answered_by == "redirect")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/saml/acme/signed-out")
    page = browser.get("/saml/acme/signed-out")
    assert page.status_code == 200
    assert COMPLETE in page.text
    assert COMPLETE in next_page(browser)
    assert relay_state not in page.text
    assert str(request.get("ID")) not in page.text


@pytest.mark.parametrize(
    ("statuses", "said"),
    [((SUCCESS,), COMPLETE), ((SUCCESS, PARTIAL), PARTLY), ((RESPONDER, PARTIAL), PARTLY), ((RESPONDER,), FAILED)],
)
def test_user_is_told_what_the_provider_has_answered(
    ann: Browser, statuses: tuple[str, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, relay_state = sent(leave(ann), "redirect")
    assert bring(ann, response_to(request, relay_state, statuses=statuses), "post").status_code == 303
    assert said in ann.get("/saml/acme/signed-out").text
    assert said in next_page(ann)
    assert (said == COMPLETE) != ("single logout of" in caplog.text)


def test_answer_that_never_comes_is_told_too(ann: Browser) -> None:
    sent(leave(ann), "redirect")
    assert ASKED in ann.get("/saml/acme/signed-out").text
    assert ASKED in next_page(ann)


def test_answer_to_one_browser_tells_another_nothing(app: Flask, key: SigningKey, ann: Browser) -> None:
    other = logged_in(app, key)
    request, relay_state = sent(leave(ann), "redirect")
    sent(leave(other), "redirect")
    assert bring(other, response_to(request, relay_state), "redirect", cookies=True).status_code == 303
    assert ASKED in other.get("/saml/acme/signed-out").text
    assert COMPLETE in ann.get("/saml/acme/signed-out").text


def test_logging_in_again_forgets_the_logout(ann: Browser) -> None:
    sent(leave(ann), "redirect")
    assert ASKED in next_page(ann)
    ann.log_in()
    assert ann.user == ANN
    answer = ann.get("/saml/acme/signed-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/saml/acme/logout")
    page = ann.get("/saml/acme/logout")
    assert (page.status_code, ANN in page.text) == (200, True)


def test_anonymous_browser_is_not_told_of_logout(app: Flask, key: SigningKey) -> None:
    page = Browser(app, key).get("/saml/acme/signed-out")
    assert (page.status_code, HERE in page.text) == (200, False)
    assert "You are not signed in" in page.text
    assert "signed out" not in page.text


def test_signed_out_page_answers_503_during_outage(app: Flask, ann: Browser) -> None:
    state_of(app).broken = True
    answer = ann.get("/saml/acme/signed-out", headers=NAVIGATION)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    state_of(app).broken = False
    assert ann.get("/saml/acme/signed-out").status_code == 303


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, ASKED),
        ({"slo_url": ""}, LOCAL),
        ({"okta": {"single_logout": False}}, LOCAL),
        ({"signs": False}, LOCAL),
    ],
)
def test_page_says_that_the_provider_was_not_asked(
    build: Build, key: SigningKey, how: dict[str, Any], said: str
) -> None:
    browser = logged_in(build(**how), key)
    answer = leave(browser)
    assert (answer.headers["Location"] == "/saml/acme/signed-out") == (said == LOCAL)
    assert said in browser.get("/saml/acme/signed-out").text
    assert said in next_page(browser)
    assert browser.user == ""


def test_login_without_a_provider_ends_here(app: Flask, key: SigningKey) -> None:
    opaque = runtime(app).sessions.start(contact_center="acme", account_id=account_id(app), step="application")
    browser = carrying(app, key, opaque)
    assert browser.user == ANN
    assert leave(browser).headers["Location"] == "/saml/acme/signed-out"
    assert browser.user == ""
    assert HERE in next_page(browser)


def account_id(app: Flask) -> str:
    found = accounts(app).get_by_name("acme", ANN)
    assert found is not None
    return str(found.id)


def carrying(app: Flask, key: SigningKey, opaque: str) -> Browser:
    """A browser with this login session."""
    browser = Browser(app, key)
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        kept["_user_id"] = kept[LOGIN] = opaque
    return browser


def test_logout_works_without_the_provider(build: Build, key: SigningKey) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/idp.xml"
        app = build(others={"far": {"metadata": address}})
        name_id = NameId(ANN, EMAIL).text
        for provider, said in (("gone", LOCAL), ("far", LOCAL), ("okta", ASKED)):
            opaque = runtime(app).sessions.start(
                contact_center="acme", account_id=account_id(app), step="saml", provider=provider, name_id=name_id
            )
            browser = carrying(app, key, opaque)
            page = browser.get("/saml/acme/logout")
            assert page.status_code == 200
            assert ("https:" in page.headers[CSP]) == (said == ASKED)
            leave(browser)
            assert browser.user == ""
            assert said in next_page(browser)


@pytest.mark.parametrize("binding", BINDINGS)
def test_applications_own_logout_goes_on_too(build: Build, key: SigningKey, binding: str) -> None:
    offered = {"redirect": "HTTP-Redirect", "post": "HTTP-POST"}[binding]
    app = build(slo_bindings=(offered,))

    @app.post("/leave")
    @unprotected
    def leave_here() -> Any:
        return GenesysAuth().logout() or redirect("/bye", 303)

    browser = logged_in(app, key)
    headers = {"Origin": PUBLIC_URL}
    answer = browser.post("/leave", headers=headers)
    assert sent(answer, binding)[0].findtext(f"{{{SAML}}}NameID") == ANN
    assert browser.user == ""
    assert ASKED in next_page(browser)
    assert browser.post("/leave", headers=headers).headers["Location"] == "/bye"


def test_logout_page_policy_allows_the_provider(build: Build, key: SigningKey) -> None:
    for slo_url, targets in ((SLO, "'self' https:"), ("http://idp.example/slo", "'self' http: https:"), ("", "'self'")):
        page = logged_in(build(slo_url=slo_url), key).get("/saml/acme/logout")
        assert f"form-action {targets};" in page.headers[CSP]
        assert "default-src 'none'" in page.headers[CSP]
        assert "frame-ancestors 'none'" in page.headers[CSP]


# From the provider


@pytest.mark.parametrize("cookies", [True, False])
@pytest.mark.parametrize("binding", BINDINGS)
def test_providers_word_ends_the_login(ann: Browser, binding: str, cookies: bool) -> None:
    request = request_of(ann, relay_state="theirs")
    answer = bring(ann, request, binding, cookies=cookies)
    response, relay_state = sent(answer, binding)
    assert is_success(response, request)
    assert relay_state == "theirs"
    assert ("Set-Cookie" in answer.headers) == cookies
    assert ann.user == ""
    assert HERE in next_page(ann)
    ann.log_in()
    assert ann.user == ANN


def test_providers_request_may_have_a_foreign_origin(ann: Browser) -> None:
    headers = {"Origin": "https://idp.example", "Sec-Fetch-Site": "cross-site"}
    assert leave_from_elsewhere(ann, headers).status_code == 403
    assert ann.user == ANN
    request = request_of(ann)
    assert is_success(sent(bring(ann, request, "post", cookies=True, headers=headers), "post")[0], request)
    assert ann.user == ""


def leave_from_elsewhere(browser: Browser, headers: dict[str, str]) -> TestResponse:
    return browser.post("/saml/acme/logout", headers=headers)


def test_login_after_providers_logout_forces_authentication(build: Build, key: SigningKey) -> None:
    browser = logged_in(build(force_authn_after_logout=True), key)
    assert browser.begin()[0].get("ForceAuthn") is None
    bring(browser, request_of(browser), "redirect", cookies=True)
    assert browser.begin()[0].get("ForceAuthn") == "true"


def test_only_logins_of_named_sessions_end(app: Flask, key: SigningKey) -> None:
    one, again, elsewhere = (logged_in(app, key, session_index=index) for index in ("s1", "s1", "s2"))
    bring(one, request_of(one, session_indexes=("s1",)), "redirect", cookies=True)
    assert (one.user, again.user, elsewhere.user) == ("", "", ANN)
    bring(one, request_of(one, session_indexes=()), "redirect")
    assert elsewhere.user == ""


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    "changes",
    [
        {"name_id": "bob@acme.example"},
        {"name_id_format": PERSISTENT},
        {"name_id_format": None},
        {"session_indexes": ("session-2",)},
        {"name_qualifier": "https://elsewhere.example"},
        {"sp_name_qualifier": "https://elsewhere.example"},
        {"issuer": idp_of("entra")},
    ],
)
def test_logout_request_for_another_user_ends_nothing(
    build: Build, key: SigningKey, changes: dict[str, Any], binding: str
) -> None:
    browser = logged_in(build(others={"entra": {}}), key, idp="okta")
    request = request_of(browser, **changes)
    answer = bring(browser, request, binding, cookies=True)
    if "issuer" in changes:  # it offers no address to answer to
        assert answer.headers["Location"] == "/saml/acme/signed-out"
    else:
        assert is_success(sent(answer, binding)[0], request)
    assert browser.user == ANN
    genuine = request_of(browser)
    assert is_success(sent(bring(browser, genuine, binding, cookies=True), binding)[0], genuine)
    assert browser.user == ""


def test_logout_request_stays_in_its_contact_center(build: Build, key: SigningKey) -> None:
    app = build(("acme", "umbra"))
    browser = logged_in(app, key)
    at_umbra = Browser(app, key, "https://umbra.example", "umbra")
    request = request_of(at_umbra)
    assert is_success(sent(bring(at_umbra, request, "redirect"), "redirect")[0], request)
    assert browser.user == ANN
    bring(browser, request_of(browser), "redirect")
    assert browser.user == ""


def test_message_for_another_contact_center_is_refused(
    build: Build, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(("acme", "umbra"))
    browser = logged_in(app, key)
    at_umbra = Browser(app, key, "https://umbra.example", "umbra")
    assert_refused(bring(at_umbra, request_of(browser), "post"), caplog, "destination")
    assert browser.user == ANN
    bring(browser, request_of(browser), "post")
    assert browser.user == ""


def test_logins_end_and_are_announced(app: Flask, key: SigningKey) -> None:
    browsers = [logged_in(app, key) for _ in range(2)]
    told: list[tuple[str, dict[str, Any]]] = []

    def on_logged_out(sender: Flask, **said: Any) -> None:
        told.append(("logged_out", said))

    def on_revoked(sender: Flask, **said: Any) -> None:
        told.append(("session_revoked", said))

    with logged_out.connected_to(on_logged_out, app), session_revoked.connected_to(on_revoked, app):
        bring(browsers[0], request_of(browsers[0], name_id="bob@acme.example"), "redirect")
        assert told == []
        bring(browsers[0], request_of(browsers[0]), "redirect")
    whose = {"account_id": account_id(app), "contact_center": "acme"}
    one = ("logged_out", {**whose, "step": "saml"})
    assert told == [one, one, ("session_revoked", {**whose, "count": 2})]


@pytest.mark.parametrize("binding", BINDINGS)
def test_login_of_another_node_ends_on_both(build: Build, tmp_path: Path, key: SigningKey, binding: str) -> None:
    address = f"sqlite:///{tmp_path}/state.sqlite3"
    here = build(state=SqlState(address, "desk", 5.0))
    there = second_node(here, tmp_path, SqlState(address, "desk", 5.0))
    browser = logged_in(here, key)
    on_the_other = Browser(there, key)
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        on_the_other = carrying(there, key, kept[LOGIN])
    assert on_the_other.user == ANN
    request = request_of(on_the_other)
    assert is_success(sent(bring(on_the_other, request, binding), binding)[0], request)
    assert (browser.user, on_the_other.user) == ("", "")
    # A message is used up on all nodes at once.
    browser.log_in()
    assert bring(browser, request, binding).status_code == 400
    assert browser.user == ANN
    # And what one node has asked, another may be answered.
    asked, relay_state = sent(leave(browser), "redirect")
    assert bring(on_the_other, response_to(asked, relay_state), binding).status_code == 303
    assert COMPLETE in browser.get("/saml/acme/signed-out").text
    runtime(there).state.close()


def second_node(first: Flask, tmp_path: Path, state: SqlState) -> Flask:
    app = Flask("desk", instance_path=str(tmp_path / "second"))
    app.secret_key = first.secret_key
    app.config["GENESYS_AUTH"] = first.config["GENESYS_AUTH"]
    GenesysAuth(app, state=state, accounts=accounts(first))
    app.add_url_rule("/private", view_func=lambda: current_user.user_name)
    return app


def test_logout_without_key_stays_here(build: Build, key: SigningKey) -> None:
    for how in ({"signs": False}, {"slo_url": ""}):
        browser = logged_in(build(**how), key)
        answer = bring(browser, request_of(browser), "redirect", cookies=True)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/saml/acme/signed-out")
        assert browser.user == ""
        assert HERE in browser.get("/saml/acme/signed-out").text


# What is refused


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signed": False}, "not_signed"),
        ({"issuer": "https://evil.example"}, "issuer"),
        ({"destination": "https://portal.acme.example/saml/acme/acs"}, "destination"),
        ({"not_on_or_after": -100}, "expired"),
        ({"parameter": "SAMLResponse"}, "structure"),
        ({"name_id": None}, "schema"),
    ],
)
def test_wrong_request_ends_no_session(
    ann: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str, binding: str
) -> None:
    answer = bring(ann, request_of(ann, **changes), binding, cookies=True)
    assert_refused(answer, caplog, reason)
    assert "Signing out could not be completed" in answer.text
    assert "Sign in<" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers[CSP]
    assert ann.user == ANN
    assert bring(ann, request_of(ann), binding, cookies=True).status_code in {200, 303}
    assert ann.user == ""


@pytest.mark.parametrize("binding", BINDINGS)
def test_forged_request_is_refused(
    ann: Browser, other_key: SigningKey, caplog: pytest.LogCaptureFixture, binding: str
) -> None:
    ann.key, key = other_key, ann.key
    assert_refused(bring(ann, request_of(ann), binding), caplog, "bad_signature")
    ann.key = key
    assert ann.user == ANN
    bring(ann, request_of(ann), binding)
    assert ann.user == ""


@pytest.mark.parametrize("binding", BINDINGS)
def test_replayed_request_is_refused(ann: Browser, caplog: pytest.LogCaptureFixture, binding: str) -> None:
    request = request_of(ann)
    assert is_success(sent(bring(ann, request, binding), binding)[0], request)
    ann.log_in()
    assert_refused(bring(ann, request, binding), caplog, "replayed")
    assert ann.user == ANN


def test_answer_counts_once_for_a_pending_request(ann: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = sent(leave(ann), "redirect")
    never = response_to(request, relay_state, in_response_to="_never")
    assert_refused(bring(ann, never, "post"), caplog, "in_response_to")
    assert_refused(bring(ann, response_to(request, relay_state + "x"), "post"), caplog, "relay_state")
    assert_refused(bring(ann, response_to(request, relay_state, signed=False), "post"), caplog, "not_signed")
    assert ASKED in ann.get("/saml/acme/signed-out").text
    genuine = response_to(request, relay_state)
    assert bring(ann, genuine, "post").status_code == 303
    assert_refused(bring(ann, genuine, "post"), caplog, "replayed")
    again = response_to(request, relay_state, statuses=(RESPONDER,))
    assert_refused(bring(ann, again, "post"), caplog, "in_response_to")
    assert COMPLETE in ann.get("/saml/acme/signed-out").text


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"SAMLRequest": "PHgvPg==", "SAMLResponse": "PHgvPg=="},
        {"SAMLRequest": ["PHgvPg==", "PHgvPg=="]},
        {"SAMLRequest": "%%%"},
        {"SAMLResponse": "PHgvPg==", "RelayState": ["a", "b"]},
    ],
)
def test_form_without_exactly_one_message_is_refused(
    ann: Browser, caplog: pytest.LogCaptureFixture, form: dict[str, Any]
) -> None:
    assert_refused(ann.post("/saml/acme/slo", data=form), caplog, "malformed")
    assert ann.user == ANN
    bring(ann, request_of(ann), "post")
    assert ann.user == ""


@pytest.mark.parametrize("query", ["", "SAMLRequest=x", "SAMLRequest=x&SAMLResponse=y", "SAMLRequest=\xe4"])
def test_query_without_a_signed_message_is_refused(ann: Browser, query: str) -> None:
    answer = ann.get("/saml/acme/slo", query_string=query)
    assert answer.status_code == 400
    assert "Signing out could not be completed" in answer.text
    assert ann.user == ANN


def test_head_uses_no_message_up(ann: Browser) -> None:
    query = request_of(ann).query(ann.key)
    answer = ann.client.head("/saml/acme/slo", query_string=query, base_url=PUBLIC_URL)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert ann.user == ANN
    assert ann.get("/saml/acme/slo", query_string=query).status_code == 303
    assert ann.user == ""


def test_contact_center_without_saml_has_no_logout_service(ann: Browser) -> None:
    assert ann.get("/saml/nowhere/slo").status_code == 404
    assert ann.get("/saml/acme/slo").status_code == 400


# When the state does not answer


def state_of(app: Flask) -> BreakableState:
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    return state


class NothingEnds(BreakableState):
    """Reads, and cannot take anything away."""

    def take(self, key: str) -> Any:
        raise StateUnavailable("told to fail")


class NothingIsKept(BreakableState):
    """Reads and takes away, and keeps nothing new but the ids of messages."""

    def put(self, *args: Any, **more: Any) -> None:
        raise StateUnavailable("told to fail")


class NothingIsFound(BreakableState):
    """Cannot read."""

    def get(self, key: str) -> Any:
        raise StateUnavailable("told to fail")


def test_failed_logout_is_not_reported_as_done(app: Flask, ann: Browser) -> None:
    state = state_of(app)
    state.broken = True
    answer = leave(ann)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    state.broken = False
    state.__class__ = NothingEnds
    answer = leave(ann)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert ann.user == ANN
    assert ann.get("/private", headers=NAVIGATION).status_code == 200
    state.__class__ = BreakableState
    sent(leave(ann), "redirect")
    assert ann.user == ""


def test_unstorable_request_gives_a_local_logout(app: Flask, ann: Browser) -> None:
    state_of(app).__class__ = NothingIsKept
    assert leave(ann).headers["Location"] == "/saml/acme/signed-out"
    state_of(app).__class__ = BreakableState
    assert ann.user == ""
    assert LOCAL in next_page(ann)


@pytest.mark.parametrize("binding", BINDINGS)
def test_no_answer_while_the_state_is_down(app: Flask, ann: Browser, binding: str) -> None:
    state = state_of(app)
    request = request_of(ann)
    state.broken = True
    answer = bring(ann, request, binding, cookies=True)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    state.broken = False
    assert ann.user == ANN
    # What could not be carried out is not used up, and neither is what could not be accepted.
    for broken in (NothingEnds, NothingIsKept):
        request = request_of(ann)
        state.__class__ = broken
        assert bring(ann, request, binding, cookies=True).status_code == 503
        state.__class__ = BreakableState
        assert ann.user == ANN
        assert is_success(sent(bring(ann, request, binding, cookies=True), binding)[0], request)
        assert bring(ann, request, binding, cookies=True).status_code == 400
        assert ann.user == ""
        ann.log_in()


def test_unreadable_state_ends_the_session_later(app: Flask, ann: Browser) -> None:
    state_of(app).__class__ = NothingIsFound
    request = request_of(ann)
    assert is_success(sent(bring(ann, request, "redirect", cookies=True), "redirect")[0], request)
    state_of(app).__class__ = BreakableState
    assert ann.user == ""
    assert HERE in next_page(ann)


def test_unstorable_answer_stays_unconfirmed(app: Flask, ann: Browser) -> None:
    request, relay_state = sent(leave(ann), "redirect")
    state = state_of(app)
    state.__class__ = NothingIsKept
    assert bring(ann, response_to(request, relay_state), "post").status_code == 503
    assert ASKED in ann.get("/saml/acme/signed-out").text
    state.__class__ = BreakableState
    ann.log_in()
    request, relay_state = sent(leave(ann), "redirect")
    assert bring(ann, response_to(request, relay_state), "post").status_code == 303
    state.broken = True
    assert ASKED in ann.get("/saml/acme/signed-out").text
    state.broken = False
    assert COMPLETE in ann.get("/saml/acme/signed-out").text


def test_message_waits_for_the_providers_metadata(build: Build, key: SigningKey) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/idp.xml"
        browser = logged_in(build(others={"far": {"metadata": address}}), key, idp="okta")
        answer = bring(browser, request_of(browser, issuer=idp_of("far")), "redirect")
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert browser.user == ANN
        bring(browser, request_of(browser), "redirect")
        assert browser.user == ""


def test_unavailable_provider_blocks_no_other(build: Build, key: SigningKey) -> None:
    site = Site(metadata_of(key, entity_id=idp_of("near")))
    with socket.socket() as nobody, site.serve():
        nobody.bind(("127.0.0.1", 0))
        far = {"metadata": f"http://127.0.0.1:{nobody.getsockname()[1]}/idp.xml", "allow_unsolicited": True}
        near = {"metadata": site.address, "allow_unsolicited": True}
        browser = Browser(build(others={"far": far, "near": near}), key)
        # Of neither is anything known so far; and one that is known is heard without asking any other.
        bring(browser, request_of(browser, issuer=IDP), "redirect")
        assert site.asked == 0
        assert bring(browser, request_of(browser, issuer=idp_of("near")), "redirect").status_code == 303
        assert browser.answer(browser.unsolicited(issuer=idp_of("near")), None).status_code == 303
        assert bring(browser, request_of(browser, issuer=idp_of("far")), "redirect").status_code == 503
        assert browser.answer(browser.unsolicited(issuer=idp_of("far")), None).status_code == 503
        assert site.asked == 1


def test_provider_is_found_by_its_new_entity_id(build: Build, key: SigningKey) -> None:
    clock, browser = Clock(), Browser(build(), key)
    age_metadata_by(clock, browser.client.application)
    trusted = runtime(browser.client.application).saml.service_providers["acme"].providers["okta"]
    path = Path(trusted.settings.metadata)
    path.write_text(path.read_text().replace(IDP, idp_of("renamed")))
    assert bring(browser, request_of(browser), "redirect").status_code == 303
    clock.pass_(HOUR)
    assert bring(browser, request_of(browser, issuer=idp_of("renamed")), "redirect").status_code == 303
    assert bring(browser, request_of(browser), "redirect").status_code == 400
