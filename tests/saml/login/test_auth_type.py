"""``?authType=saml`` on a page begins the SAML login."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, abort
from flask.views import MethodView
from flask_login import login_user

from flask_genesys_auth import unprotected
from flask_genesys_auth.testing.saml_messages import SigningKey

from ..addresses import PUBLIC_URL
from ..application import ANN, NAVIGATION, Browser, MakeApp, accounts


def next_of(location: str) -> str:
    (address,) = parse_qs(urlsplit(location).query)["next"]
    return address


@pytest.mark.parametrize("page", ["/private", "/keep"])
def test_auth_type_starts_login_and_returns(browser: Browser, page: str) -> None:
    answer = browser.get(f"{page}?b=2&authType=saml&a=%2F1&b=3", headers=NAVIGATION)
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert location.startswith("/saml/acme/login?next=")
    assert next_of(location) == f"{page}?b=2&a=%2F1&b=3"
    assert answer.headers["Cache-Control"] == "no-store"
    request, relay_state = browser.begin(next_of(location))
    answer = browser.answer(browser.message(request), relay_state)
    answer = browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert answer.headers["Location"] == f"{page}?b=2&a=%2F1&b=3"
    assert browser.get(answer.headers["Location"], headers=NAVIGATION).status_code == 200
    assert browser.user == ANN


def test_saml_session_skips_the_login(browser: Browser) -> None:
    browser.log_in()
    for query, rest in (
        ("authType=saml", ""),
        ("x=1&authType=saml&y=", "?x=1&y="),
        ("authType=saml&authType=saml", ""),
    ):
        answer = browser.get(f"/private?{query}", headers=NAVIGATION)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/private{rest}")
    assert browser.get("/private?x=1", headers=NAVIGATION).status_code == 200


def test_session_of_another_step_does_not_count(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app()

    @app.post("/enter")
    @unprotected
    def enter() -> str:
        login_user(accounts(app).get_by_name("acme", ANN))
        return "in"

    browser = Browser(app, key)
    assert browser.post("/enter", headers={"Origin": PUBLIC_URL}).text == "in"
    assert browser.user == ANN
    location = browser.get("/private?authType=saml", headers=NAVIGATION).headers["Location"]
    assert location == "/saml/acme/login?next=%2Fprivate"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"X-Requested-With": "XMLHttpRequest", "Accept": "text/html"},
        {"Accept": "application/json"},
        {"Accept": "*/*"},
        {},
    ],
)
def test_script_and_client_are_not_redirected(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.get("/keep?authType=saml", headers=NAVIGATION).status_code == 302
    assert browser.get("/keep?authType=saml", headers={"Accept": "text/html"}).status_code == 302
    assert browser.get("/keep?authType=saml", headers=headers).text == "kept"
    answer = browser.get("/private?authType=saml", headers=headers)
    assert answer.status_code == 401
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "query",
    ["authType=SAML", "authType=basic", "authType=", "authType", "authtype=saml", "xauthType=saml", "a=authType=saml"],
)
def test_other_auth_types_are_ignored(browser: Browser, query: str) -> None:
    assert browser.get(f"/keep?{query}", headers=NAVIGATION).text == "kept"
    assert browser.get(f"/keep?{query}&authType=saml", headers=NAVIGATION).status_code == 302


def test_other_requests_are_not_redirected(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app()

    class Page(MethodView):
        decorators: ClassVar[list[Any]] = [unprotected]

        def get(self) -> str:
            return "got"

        def post(self) -> str:
            return "posted"

    app.add_url_rule("/page", view_func=Page.as_view("page"))
    browser = Browser(app, key)
    asked = "?authType=saml"
    assert browser.get(f"/page{asked}", headers=NAVIGATION).status_code == 302
    assert browser.post(f"/page{asked}", headers=NAVIGATION).text == "posted"
    assert browser.client.head(f"/page{asked}", base_url=PUBLIC_URL, headers=NAVIGATION).status_code == 200
    assert browser.client.put(f"/page{asked}", base_url=PUBLIC_URL, headers=NAVIGATION).status_code == 405
    assert browser.get(f"/nowhere{asked}", headers=NAVIGATION).status_code == 404
    assert browser.get(f"/saml/acme/metadata{asked}", headers=NAVIGATION).status_code == 200
    assert browser.get(f"/saml/acme/login{asked}", headers=NAVIGATION).headers["Location"].startswith("https://idp.")
    assert browser.get(f"/saml/acme/signed-out{asked}", headers=NAVIGATION).status_code == 200


def test_contact_center_without_saml_ignores_it(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app(("acme", "umbra"), plain="umbra")
    assert Browser(app, key).get("/keep?authType=saml", headers=NAVIGATION).status_code == 302
    umbra = Browser(app, key, "https://umbra.example", "umbra")
    assert umbra.get("/keep?authType=saml", headers=NAVIGATION).text == "kept"
    nobody = {**NAVIGATION, "ContactCenterId": "nobody"}
    assert Browser(app, key).get("/keep?authType=saml", headers=nobody).text == "kept"


def test_login_belongs_to_the_requests_contact_center(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app(("acme", "umbra"))
    for url, name in ((PUBLIC_URL, "acme"), ("https://umbra.example", "umbra")):
        answer = Browser(app, key, url, name).get("/keep?authType=saml", headers=NAVIGATION)
        assert answer.headers["Location"].startswith(f"/saml/{name}/login?")


@pytest.mark.parametrize("path", ["//evil.example/x", "/%5Cevil.example", "/%2F%2Fevil.example", "/a%3Fb%23c%25d%09e"])
def test_return_address_stays_on_this_host(make_app: MakeApp, key: SigningKey, path: str) -> None:
    app = make_app()
    app.url_map.merge_slashes = False

    @app.get("/<path:anything>")
    @unprotected
    def anything(anything: str) -> str:
        return anything

    browser = Browser(app, key)
    answer = browser.get("/x?authType=saml&next=https://evil.example", headers=NAVIGATION)
    assert next_of(answer.headers["Location"]) == "/x?next=https://evil.example"
    answer = browser.get(f"{path}?authType=saml", headers=NAVIGATION)
    assert answer.status_code == 302
    begun = urlsplit(answer.headers["Location"])
    assert (begun.scheme, begun.netloc, begun.path) == ("", "", "/saml/acme/login")
    back = next_of(answer.headers["Location"])
    assert back.startswith("/")
    assert not back.startswith(("//", "/\\"))
    assert urlsplit(back).netloc == ""
    assert browser.log_in(back).headers["Location"] == back
    answer = browser.get(f"{path}?authType=saml", headers=NAVIGATION)
    assert answer.headers["Location"] == back


def test_login_returns_below_the_applications_path(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/keep?authType=saml&x=1", base_url=f"{PUBLIC_URL}/desk", headers=NAVIGATION)
    assert answer.headers["Location"] == "/desk/saml/acme/login?next=%2Fdesk%2Fkeep%3Fx%3D1"


def test_view_is_not_called_before_login(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app()

    @app.get("/never")
    @unprotected
    def never() -> str:
        abort(500)

    browser = Browser(app, key)
    assert browser.get("/never", headers=NAVIGATION).status_code == 500
    assert browser.get("/never?authType=saml", headers=NAVIGATION).status_code == 302


@pytest.mark.parametrize(
    ("path", "goes_to"),
    [("//evil.example/x", "/evil.example/x"), ("/\\evil.example", "/%5Cevil.example"), ("/" + "a" * 2100, "/")],
)
def test_session_does_not_allow_foreign_addresses(make_app: MakeApp, key: SigningKey, path: str, goes_to: str) -> None:
    app = make_app()
    app.url_map.merge_slashes = False

    @app.get("/<path:anything>")
    @unprotected
    def anything(anything: str) -> str:
        return anything

    browser = Browser(app, key)
    browser.log_in()

    def asked(path_info: str) -> str:
        query = {"PATH_INFO": path_info, "QUERY_STRING": "authType=saml"}
        answer = browser.get("/", headers=NAVIGATION, environ_overrides=query)
        assert answer.status_code == 302
        return answer.headers["Location"]

    assert asked("/some/page") == "/some/page"
    assert asked(path) == goes_to
