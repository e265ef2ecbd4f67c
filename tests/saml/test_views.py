"""The addresses of the SAML login, in a real application: what a browser and an attacker can do with them."""

from __future__ import annotations

import base64
import logging
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth import GenesysAuth, current_user, unprotected
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.decision import Identity
from flask_genesys_auth.errors import AccountsUnavailable, StateUnavailable
from flask_genesys_auth.saml.documents import MD
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, provider_metadata
from flask_genesys_auth.testing.signing_keys import SigningKey
from flask_genesys_auth.web.runtime import runtime
from flask_genesys_auth.web.saml_views import MOST_PENDING, local_path

from .conftest import IDP, PUBLIC_URL, SSO

ANN = "ann@acme.example"
REFUSED = "could not be accepted"


class BreakableState(MemoryState):
    """Memory that can be told not to answer."""

    broken = False

    def get(self, key: str) -> Any:
        self._fail()
        return super().get(key)

    def put(self, *args: Any, **more: Any) -> None:
        self._fail()
        super().put(*args, **more)

    def take(self, key: str) -> Any:
        self._fail()
        return super().take(key)

    def add(self, *args: Any, **more: Any) -> bool:
        self._fail()
        return super().add(*args, **more)

    def _fail(self) -> None:
        if self.broken:
            raise StateUnavailable("told to fail")


class BreakableAccounts(SqlAccounts):
    """Accounts that can be told not to answer."""

    broken = False

    def find(self, identity: Identity) -> Account | None:
        if self.broken:
            raise AccountsUnavailable("told to fail")
        return super().find(identity)


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(tmp_path: Path, key: SigningKey) -> Iterator[MakeApp]:
    made: list[Flask] = []
    (tmp_path / "idp.xml").write_text(provider_metadata(IDP, SSO, (key.certificate,)))

    def make(centers: tuple[str, ...] = ("acme",), **saml: Any) -> Flask:
        app = Flask("desk", instance_path=str(tmp_path / f"instance{len(made)}"))
        app.secret_key = "a secret key of the tests"
        app.testing = True
        table = {"identity_providers": {"okta": {"metadata": str(tmp_path / "idp.xml")}}, **saml}
        hosts = {"acme": "portal.acme.example", "umbra": "umbra.example"}
        app.config["GENESYS_AUTH"] = {
            "default_contact_center": "acme",
            "state_url": "memory://",
            "contact_centers": {
                name: {"hosts": [hosts[name]], "public_url": f"https://{hosts[name]}", "saml": table}
                for name in centers
            },
        }
        database = tmp_path / f"accounts{len(made)}.sqlite3"
        GenesysAuth(app, state=BreakableState("desk"), accounts=BreakableAccounts(f"sqlite:///{database}"))
        made.append(app)
        store = accounts(app)
        store.create_tables()
        store.link(store.add("acme", ANN, roles={"ROLE_AGENT"}).id, "okta", ANN)

        @app.get("/private")
        def private() -> str:
            return current_user.user_name

        @app.get("/keep")
        @unprotected
        def keep() -> str:
            session["basket"] = "full"
            return "kept"

        return app

    yield make
    for app in made:
        accounts(app).close()
        runtime(app).state.close()


def accounts(app: Flask) -> BreakableAccounts:
    store = runtime(app).accounts
    assert isinstance(store, BreakableAccounts)
    return store


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


class Browser:
    """A client of the application, and the identity provider behind it."""

    def __init__(self, app: Flask, key: SigningKey, url: str = PUBLIC_URL, contact_center: str = "acme") -> None:
        self.client: FlaskClient = app.test_client()
        self.key = key
        self.url = url
        self.base = f"/saml/{contact_center}"

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, base_url=self.url, **more)

    def post(self, path: str, **more: Any) -> TestResponse:
        return self.client.post(path, base_url=self.url, **more)

    def begin(self, next_: str = "/private") -> tuple[etree._Element, str]:
        """Begin a login; return the AuthnRequest and RelayState."""
        answer = self.get(f"{self.base}/login?next={quote(next_, safe='')}")
        assert answer.status_code == 302
        fields = parse_qs(urlsplit(answer.headers["Location"]).query)
        request = zlib.decompress(base64.b64decode(fields["SAMLRequest"][0]), -zlib.MAX_WBITS)
        return etree.fromstring(request), fields["RelayState"][0]

    def message(self, request: etree._Element, **changes: Any) -> Message:
        acs = request.get("AssertionConsumerServiceURL", "")
        audience = request.findtext("{*}Issuer") or ""
        return Message(IDP, acs, audience, request.get("ID")).but(**changes)

    def answer(self, message: Message, relay_state: str | None, **more: Any) -> TestResponse:
        """Post the provider's answer, as from another site: without this browser's cookie."""
        fields = {"SAMLResponse": message.encoded(self.key)}
        if relay_state is not None:
            fields["RelayState"] = relay_state
        stranger = self.client.application.test_client(use_cookies=False)
        return stranger.post(f"{self.base}/acs", base_url=self.url, data=fields, **more)

    def code(self, next_: str = "/private", **changes: Any) -> str:
        """Log in up to the one-time code; return the path with it."""
        request, relay_state = self.begin(next_)
        answer = self.answer(self.message(request, **changes), relay_state)
        assert answer.status_code == 303, answer.text
        assert "Set-Cookie" not in answer.headers
        location = urlsplit(answer.headers["Location"])
        assert f"{location.scheme}://{location.netloc}" == self.url
        return f"{location.path}?{location.query}"

    def log_in(self, next_: str = "/private", **changes: Any) -> TestResponse:
        return self.get(self.code(next_, **changes))

    @property
    def user(self) -> str:
        """Who is logged in, or nothing."""
        answer = self.get("/private")
        return answer.text if answer.status_code == 200 else ""


@pytest.fixture
def browser(app: Flask, key: SigningKey) -> Browser:
    return Browser(app, key)


def assert_refused(answer: TestResponse, log: pytest.LogCaptureFixture, reason: str) -> None:
    """One public answer, whatever the reason; the reason is in the log alone, under the same reference."""
    record = log.records[-1]
    assert (record.name, vars(record)["saml_reason"]) == ("flask_genesys_auth.saml", reason), record.getMessage()
    assert answer.status_code == 400
    assert REFUSED in answer.text
    assert vars(record)["saml_reference"] in answer.text
    assert reason not in re.sub("<[^>]*>", "", answer.text)
    assert vars(record)["saml_detail"] not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers


def test_login_comes_back_to_the_page_that_was_asked_for(browser: Browser) -> None:
    assert browser.user == ""
    answer = browser.log_in("/private?x=1&y=%2F")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/private?x=1&y=%2F")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert browser.user == ANN


def test_protected_page_sends_a_browser_to_the_login(browser: Browser) -> None:
    answer = browser.get("/private?x=1", headers={"Sec-Fetch-Mode": "navigate"})
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/saml/acme/login?next=%2Fprivate%3Fx%3D1"


def test_metadata_are_served(browser: Browser) -> None:
    answer = browser.get("/saml/acme/metadata")
    assert answer.mimetype == "application/samlmetadata+xml"
    assert etree.fromstring(answer.data).find(f".//{{{MD}}}AssertionConsumerService") is not None


def test_host_header_builds_no_address(browser: Browser) -> None:
    browser.url = "https://evil.example"
    request, _ = browser.begin()
    assert request.get("AssertionConsumerServiceURL") == f"{PUBLIC_URL}/saml/acme/acs"


@pytest.mark.parametrize("name", ["login", "metadata", "complete", "logout", "signed-out"])
def test_contact_center_without_saml_has_no_addresses(browser: Browser, name: str) -> None:
    assert browser.get(f"/saml/nowhere/{name}").status_code == 404
    assert browser.get(f"/saml/acme/{name}").status_code != 404


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "private",
        "",
        "/" + "a" * 3000,
        "/saml/acme/login",
        "/saml/acme/logout?x=1",
    ],
)
def test_address_that_is_no_page_here_is_not_kept(browser: Browser, address: str) -> None:
    assert browser.log_in("/private?fine").headers["Location"] == "/private?fine"
    assert browser.log_in(address).headers["Location"] == "/"


def test_return_addresses_stay_below_the_application(app: Flask) -> None:
    with app.test_request_context("/x", base_url=f"{PUBLIC_URL}/desk"):
        assert local_path("/desk/private") == "/desk/private"
        assert local_path("/desk/größe?q=1") == "/desk/größe?q=1"
        assert local_path("/desk/saml/acme/login") == "/desk/"
        assert local_path("") == "/desk/"


def test_same_message_is_refused_a_second_time_whoever_brings_it(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    request, relay_state = browser.begin()
    message = browser.message(request)
    assert browser.answer(message, relay_state).status_code == 303
    assert_refused(browser.answer(message, relay_state), caplog, "unsolicited")
    # Also as the answer to a new request: the assertion itself was used.
    again, relay_state = browser.begin()
    replayed = browser.message(again, assertion_id=message.assertion_id)
    assert_refused(browser.answer(replayed, relay_state), caplog, "replayed")


def test_request_is_answered_once(browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin()
    state = runtime(app).state
    assert isinstance(state, BreakableState)

    class Racing(BreakableState):
        def take(self, key: str) -> Any:
            return None

    state.__class__ = Racing  # another process takes the request between the look-up and the end
    assert_refused(browser.answer(browser.message(request), relay_state), caplog, "replayed")
    state.__class__ = BreakableState
    assert browser.log_in().status_code == 303


def test_code_is_good_once(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    path = browser.code()
    assert browser.get(path).status_code == 303
    assert_refused(browser.get(path), caplog, "code")
    assert_refused(browser.get("/saml/acme/complete?code=guess"), caplog, "code")
    assert_refused(browser.get("/saml/acme/complete"), caplog, "code")
    assert browser.user == ANN


def test_other_browser_is_refused_and_burns_the_code(
    browser: Browser, app: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    assert browser.log_in().status_code == 303
    victim = Browser(app, key)
    victim.begin()
    path = browser.code()
    assert_refused(victim.get(path), caplog, "other_browser")
    assert victim.user == ""
    assert_refused(browser.get(path), caplog, "code")


def test_head_does_not_burn_the_code(browser: Browser) -> None:
    path = browser.code()
    answer = browser.client.head(path, base_url=PUBLIC_URL)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert browser.get(path).status_code == 303


def test_code_of_one_contact_center_is_refused_at_another(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(("acme", "umbra"))
    browser = Browser(app, key)
    assert browser.log_in().status_code == 303
    assert_refused(browser.get(browser.code().replace("acme", "umbra")), caplog, "other_contact_center")
    request, relay_state = browser.begin()
    message = browser.message(request, acs_url="https://umbra.example/saml/umbra/acs")
    at_umbra = Browser(app, key, "https://umbra.example", "umbra")
    assert_refused(at_umbra.answer(message, relay_state), caplog, "other_contact_center")


def test_login_in_one_tab_leaves_the_others_their_logins(browser: Browser) -> None:
    paths = [browser.code(f"/private?tab={number}") for number in range(MOST_PENDING)]
    for number, path in enumerate(paths):
        assert browser.get(path).headers["Location"] == f"/private?tab={number}"


def test_only_the_latest_logins_of_a_browser_are_kept(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    oldest = browser.code()
    paths = [browser.code() for _ in range(MOST_PENDING)]
    assert browser.get(paths[0]).status_code == 303
    assert_refused(browser.get(oldest), caplog, "other_browser")


def test_login_changes_the_session(browser: Browser) -> None:
    browser.get("/keep")
    with browser.client.session_transaction(base_url=PUBLIC_URL) as before:
        assert before["basket"] == "full"
    browser.log_in()
    with browser.client.session_transaction(base_url=PUBLIC_URL) as after:
        first = after["_user_id"]
        assert "basket" not in after
    browser.log_in()
    with browser.client.session_transaction(base_url=PUBLIC_URL) as again:
        assert again["_user_id"] != first


def test_relay_state_is_ours_or_absent(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin()
    for wrong in ("https://evil.example", "<script>alert(1)</script>", relay_state + "x"):
        answer = browser.answer(browser.message(request), wrong)
        assert_refused(answer, caplog, "relay_state")
        assert "evil" not in answer.text
        assert "alert" not in answer.text
    assert browser.answer(browser.message(request), None).status_code == 303


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request_id": "_never"}, "unsolicited"),
        ({"request_id": None}, "unsolicited"),
        ({"sign_assertion": False}, "not_signed"),
        ({"audience": "https://other.example"}, "audience"),
        ({"issuer": "https://evil.example"}, "issuer"),
        ({"confirmation_not_on_or_after": -100}, "expired"),
        ({"status": "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"}, "status"),
        ({"name_id": "<script>alert(1)</script>"}, "account"),
    ],
)
def test_every_wrong_message_gets_the_same_answer(
    browser: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, **changes), relay_state)
    if answer.status_code == 303:
        answer = browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert_refused(answer, caplog, reason)
    assert "alert" not in answer.text
    assert browser.user == ""
    assert browser.log_in().status_code == 303


def test_forged_answer_does_not_spoil_the_login(browser: Browser, other_key: SigningKey) -> None:
    request, relay_state = browser.begin()
    genuine = browser.message(request)
    browser.key, key = other_key, browser.key
    assert browser.answer(genuine, relay_state).status_code == 400
    browser.key = key
    assert browser.answer(genuine, relay_state).status_code == 303


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"data": {}}, "malformed"),
        ({"data": {"SAMLResponse": ["PHgvPg==", "PHgvPg=="]}}, "malformed"),
        ({"data": {"SAMLResponse": "PHgvPg==", "RelayState": ["a", "b"]}}, "malformed"),
        ({"json": {"SAMLResponse": "PHgvPg=="}}, "malformed"),
        ({"data": b"x"}, "malformed"),
        ({"data": {"SAMLResponse": "%%%"}}, "malformed"),
        ({"data": {"SAMLResponse": "A" * 300_000}}, "too_large"),
        ({"data": {"SAMLResponse": "A" * 1_100_000}}, "too_large"),
        ({"data": {"SAMLResponse": "PHgvPg=="}}, "structure"),
    ],
)
def test_what_is_no_answer_of_a_provider_is_refused(
    browser: Browser, caplog: pytest.LogCaptureFixture, sent: dict[str, Any], reason: str
) -> None:
    assert_refused(browser.post("/saml/acme/acs", **sent), caplog, reason)
    assert browser.log_in().status_code == 303


def test_unknown_and_disabled_accounts_get_the_one_answer(
    browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    store = accounts(app)
    ann = store.get_by_name("acme", ANN)
    assert ann is not None
    assert_refused(browser.log_in(name_id="bob@acme.example"), caplog, "account")
    assert "no_account" in caplog.text
    store.set_enabled(ann.id, False)
    assert_refused(browser.log_in(), caplog, "account")
    assert "account_disabled" in caplog.text
    store.set_enabled(ann.id, True)
    assert browser.log_in().status_code == 303


def test_log_carries_no_control_characters_and_no_secrets(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, issuer="evil\nFAKE LINE \x9b31m"), relay_state)
    assert_refused(answer, caplog, "issuer")
    assert caplog.records[-1].getMessage().isprintable()
    path = browser.code()
    browser.get(path)
    assert browser.get(path).status_code == 400
    assert parse_qs(urlsplit(path).query)["code"][0] not in caplog.text
    assert relay_state not in caplog.text


def test_login_ends_with_the_providers_own_session(browser: Browser, app: Flask) -> None:
    browser.log_in(session_not_on_or_after=3600.0)
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        found = runtime(app).sessions.resume(kept["_user_id"])
    assert (found.step, found.provider, found.name_id, found.session_index) == ("saml", "okta", ANN, "session-1")  # type: ignore[union-attr]
    assert abs(found.expires - (time.time() + 3600)) < 60  # type: ignore[union-attr]


def test_logging_out_ends_the_session_and_does_not_log_in_again_by_itself(browser: Browser) -> None:
    browser.log_in()
    page = browser.get("/saml/acme/logout")
    assert page.status_code == 200
    assert 'action="/saml/acme/logout"' in page.text
    assert ANN in page.text
    assert browser.user == ANN
    answer = browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/saml/acme/signed-out")
    assert browser.user == ""
    page = browser.get("/saml/acme/signed-out")
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert 'href="/saml/acme/login"' in page.text
    assert browser.get("/private", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 401
    assert browser.get("/saml/acme/logout").headers["Location"] == "/saml/acme/signed-out"


def test_other_site_cannot_log_somebody_out(browser: Browser) -> None:
    browser.log_in()
    assert browser.post("/saml/acme/logout", headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.user == ANN
    assert browser.post("/saml/acme/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert browser.user == ""


def test_login_after_a_logout_asks_for_a_new_proof_where_told(make_app: MakeApp, key: SigningKey) -> None:
    for told in (True, False):
        browser = Browser(make_app(force_authn_after_logout=told), key)
        assert browser.begin()[0].get("ForceAuthn") is None
        browser.log_in()
        browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL})
        assert browser.begin()[0].get("ForceAuthn") == ("true" if told else None)
        browser.log_in()
        assert browser.begin()[0].get("ForceAuthn") is None


def test_state_that_does_not_answer_is_no_refusal(browser: Browser, app: Flask) -> None:
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    request, relay_state = browser.begin()
    message = browser.message(request)
    path = browser.code()

    def broken(ask: Callable[[], TestResponse]) -> TestResponse:
        state.broken = True
        answer = ask()
        state.broken = False
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        return answer

    broken(lambda: browser.get("/saml/acme/login"))
    broken(lambda: browser.answer(message, relay_state))
    broken(lambda: browser.get(path))
    browser.log_in()
    broken(lambda: browser.get("/saml/acme/logout"))
    broken(lambda: browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL}))
    assert browser.user == ANN
    assert browser.answer(message, relay_state).status_code == 303
    assert browser.get(path).status_code == 303


def test_accounts_that_do_not_answer_are_no_refusal(browser: Browser, app: Flask) -> None:
    path, later = browser.code(), browser.code()
    store = accounts(app)
    store.broken = True
    assert browser.get(path).status_code == 503
    store.broken = False
    assert browser.get(later).status_code == 303
