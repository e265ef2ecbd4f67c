"""Pages, errors and sessions of the SAML addresses."""

from __future__ import annotations

import dataclasses
import secrets
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.browser import PENDING
from flask_genesys_auth.web.runtime import runtime

from ..addresses import PUBLIC_URL
from ..application import ANN, CSP, NAVIGATION, Browser, MakeApp, accounts, assert_refused, idp_of

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("choose", 200),
        ("signed-out", 200),
        ("logout", 200),
        ("complete?code=x", 400),
        ("login", 302),
        ("complete", 400),
    ],
)
def test_every_page_has_strict_headers(make_app: MakeApp, key: SigningKey, path: str, status: int) -> None:
    browser = Browser(make_app(), key)
    if path != "signed-out":  # this page redirects a user who is signed in
        browser.log_in()
    answer = browser.get(f"/saml/acme/{path}", headers=NAVIGATION)
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
    if status != 302:
        assert "default-src 'none'" in answer.headers[CSP]
        assert "frame-ancestors 'none'" in answer.headers[CSP]
        assert "'unsafe-inline'" not in answer.headers[CSP]
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "<script" not in answer.text
        assert "style=" not in answer.text


def test_refusal_page_has_strict_headers(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    answer = browser.post("/saml/acme/acs", data={"SAMLResponse": SCRIPT, "RelayState": SCRIPT})
    assert_refused(answer, caplog, "malformed")
    assert "alert" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers[CSP]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["login", "choose", "complete", "logout", "signed-out", "metadata"])
@pytest.mark.parametrize("name", ["next", "idp", "code", "login_hint", "is_passive", "moved", "RelayState", "ticket"])
def test_no_parameter_ever_becomes_markup(make_app: MakeApp, key: SigningKey, path: str, name: str) -> None:
    browser = Browser(make_app(others={"adfs": {}}), key)
    query = {name: f"{SCRIPT}\"'><img onerror=x>", **({} if name == "idp" else {"idp": "okta"})}
    answer = browser.get(f"/saml/acme/{path}", query_string=query, headers=NAVIGATION)
    assert answer.status_code in {200, 302, 303, 400, 404}
    assert "<script>" not in answer.text
    assert "<img" not in answer.text


def test_provider_without_metadata_is_unavailable(tmp_path: Path, key: SigningKey) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/idp.xml"
        app = Flask("desk", instance_path=str(tmp_path))
        app.secret_key = "a secret key of the tests"
        app.config["GENESYS_AUTH"] = {
            "public_url": PUBLIC_URL,
            "state_url": "memory://",
            "contact_centers": {
                "acme": {"saml": {"identity_providers": {"okta": {"metadata": address, "allow_unsolicited": True}}}}
            },
        }
        GenesysAuth(app, state=MemoryState("desk"))
        browser = Browser(app, key)
        for answer in (
            browser.get("/saml/acme/login", headers=NAVIGATION),
            browser.answer(browser.unsolicited(), None, headers=NAVIGATION),
        ):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "<h1>Temporarily unavailable</h1>" in answer.text
            assert "frame-ancestors 'none'" in answer.headers[CSP]
            assert "127.0.0.1" not in answer.text
        assert browser.get("/saml/acme/metadata").status_code == 200
        accounts_of(app).close()


def accounts_of(app: Flask) -> Any:
    return runtime(app).accounts


def test_answer_to_another_users_login_is_refused(
    app: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    attacker, victim = Browser(app, key), Browser(app, key)
    store = accounts(app)
    store.link(store.add("acme", "mallory").id, "okta", "mallory@acme.example")
    victim.begin()
    request, relay_state = attacker.begin()
    answer = victim.answer(attacker.message(request, name_id="mallory@acme.example"), relay_state)
    path = answer.headers["Location"].removeprefix(PUBLIC_URL)
    assert_refused(victim.get(path), caplog, "other_browser")
    assert vars(caplog.records[-1])["genesys_auth"]["provider"] == "okta"
    assert victim.user == attacker.user == ""
    assert victim.log_in().status_code == 303
    assert victim.user == ANN


def test_browser_drops_finished_logins(browser: Browser) -> None:
    ended, waiting = browser.code(), browser.code()
    assert browser.get(ended).status_code == 303
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        assert len(kept[PENDING]) == 1
    assert browser.get(waiting).status_code == 303
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        assert kept[PENDING] == []


class ServerSession(dict[str, Any], SessionMixin):
    """A session of which the browser has nothing but a name."""

    def __init__(self, name: str, kept: dict[str, Any]) -> None:
        super().__init__(kept)
        self.name = name


class ServerSessions(SessionInterface):
    """Keeps sessions as server-side extensions do."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def open_session(self, app: Flask, request: Request) -> ServerSession:
        name = request.cookies.get("session", "") or secrets.token_hex(8)
        return ServerSession(name, self.kept.get(name, {}))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        assert isinstance(session, ServerSession)
        if session or session.name in self.kept:
            self.kept[session.name] = dict(session)
            response.set_cookie("session", session.name)


class RegeneratingSessions(ServerSessions):
    def regenerate(self, session: ServerSession) -> None:
        self.kept.pop(session.name, None)
        session.name = secrets.token_hex(8)


@pytest.mark.parametrize(("sessions", "fixed"), [(RegeneratingSessions, False), (ServerSessions, True)])
def test_session_id_from_before_login_is_useless(
    app: Flask, key: SigningKey, sessions: type[ServerSessions], fixed: bool
) -> None:
    app.session_interface = sessions()
    browser, other = Browser(app, key), Browser(app, key)
    path = browser.code()
    known = browser.client.get_cookie("session", domain="portal.acme.example")
    assert known is not None
    assert browser.get(path).status_code == 303
    assert browser.user == ANN
    other.client.set_cookie("session", known.value, domain="portal.acme.example")
    assert other.user == (ANN if fixed else ""), "without regenerate() nobody can give it another name"


def test_expired_provider_session_gives_no_login(app: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    browser = Browser(app, key)
    assert browser.log_in(session_not_on_or_after=-30).status_code == 303
    assert browser.user == ANN
    late = Browser(app, key)
    path = late.code(session_not_on_or_after=-30)
    providers = runtime(app).saml.service_providers
    assert isinstance(providers, dict)
    providers["acme"] = dataclasses.replace(providers["acme"], clock=lambda: time.time() + 31)
    assert_refused(late.get(path), caplog, "session_expired")
    assert late.user == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"a&" * 200_000, "too_large"),
        (b"&" * 8, "too_large"),
        (b"&" * 7, "malformed"),
        (b"SAMLResponse=" + b"A" * 600_000, "too_large"),
    ],
)
@pytest.mark.parametrize("address", ["acs", "slo"])
def test_a_form_of_many_fields_is_not_read(
    browser: Browser, caplog: pytest.LogCaptureFixture, address: str, body: bytes, reason: str
) -> None:
    answer = browser.post(f"/saml/acme/{address}", data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert vars(caplog.records[-1])["genesys_auth"]["reason"] == reason


@pytest.mark.parametrize(
    ("method", "path", "status", "ours"),
    [
        ("GET", "/saml/acme/login?idp=nobody", 404, True),
        ("GET", "/saml/nobody/login", 404, True),
        ("HEAD", "/saml/acme/login", 405, True),
        ("GET", "/saml/acme/acs", 405, True),
        ("GET", "/saml/acme/nothing", 404, True),
        ("GET", "/samlet", 404, False),
    ],
)
def test_other_error_pages_refuse_framing(browser: Browser, method: str, path: str, status: int, ours: bool) -> None:
    answer = browser.client.open(path, method=method, base_url=PUBLIC_URL)
    assert answer.status_code == status
    assert ("frame-ancestors 'none'" in answer.headers.get(CSP, "")) == ours
    assert (answer.headers.get("X-Frame-Options") == "DENY") == ours


def test_refusal_is_logged_with_its_provider(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_app(others={"adfs": {}}), key)
    request, relay_state = browser.begin(idp="adfs")
    genuine = browser.message(request, issuer=idp_of("adfs"))
    assert_refused(browser.answer(genuine.but(audience="https://x.example"), relay_state), caplog, "audience")
    told = vars(caplog.records[-1])["genesys_auth"]
    assert (told["provider"], told["contact_center"]) == ("adfs", "acme")
    assert_refused(browser.answer(genuine.but(request_id="_x"), relay_state), caplog, "unsolicited")
    assert vars(caplog.records[-1])["genesys_auth"]["provider"] == ""
    assert browser.answer(genuine, relay_state).status_code == 303


def test_requested_address_is_kept_unchanged(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app()

    @app.get("/files/<path:name>")
    def files(name: str) -> str:
        return name

    browser = Browser(app, key)
    for address in ("/files/a%3Fb?x=1", "/files/a%20b", "/files/gr%C3%B6%C3%9Fe?q=%C3%B6", "/files/50%25?a=b%2Fc&d"):
        answer = browser.get(address, headers=NAVIGATION)
        begun = urlsplit(answer.headers["Location"])
        assert begun.path == "/saml/acme/login"
        answer = browser.get(answer.headers["Location"])
        assert answer.headers["Location"].startswith("https://idp.example")
        fresh = Browser(app, key)
        (back,) = parse_qs(begun.query)["next"]
        assert back == address
        location = fresh.log_in(back).headers["Location"]
        assert location == address
        assert fresh.get(location).status_code == 200


@pytest.mark.parametrize(("path", "reason"), [("acs", "malformed"), ("complete", "code")])
def test_truncated_form_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture, path: str, reason: str) -> None:
    answer = browser.post(
        f"/saml/acme/{path}",
        data={"SAMLResponse": "PHgvPg==", "ticket": "x"},
        headers={"Sec-Fetch-Site": "same-origin"},
        environ_overrides={"CONTENT_LENGTH": "900"},
    )
    assert_refused(answer, caplog, reason)
    assert browser.log_in().status_code == 303


def test_removed_provider_is_refused(make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(others={"adfs": {}})
    browser = Browser(app, key)
    path = browser.code(idp="okta")
    request, relay_state = browser.begin(idp="okta")
    providers = runtime(app).saml.service_providers["acme"].providers
    assert isinstance(providers, dict)
    removed = providers.pop("okta")
    assert_refused(browser.get(path), caplog, "issuer")
    assert_refused(browser.answer(browser.message(request), relay_state), caplog, "other_contact_center")
    assert browser.get("/saml/acme/login?idp=okta").status_code == 404
    assert browser.user == ""
    providers["okta"] = removed
    assert browser.answer(browser.message(request), relay_state).status_code == 303
