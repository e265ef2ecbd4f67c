"""The same-origin check and CORS."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_genesys_auth import Authenticated, Identity
from flask_genesys_auth.web.origin import origin_of

from .conftest import MakeApp

ANN = ("ann@acme.example", "ann's: password")
FRIEND = "https://crm.example"


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(
        {
            "default_contact_center": "acme",
            "contact_centers": {
                "acme": {"web_services": {}, "allowed_origins": [FRIEND], "public_url": "https://portal.acme.example"},
                "globex": {"allowed_origins": ["https://globex.example"]},
            },
        },
        flask_config={"SESSION_COOKIE_SECURE": False},
    )


def status(app: Flask, *, session: bool, headers: dict[str, str], path: str = "/private") -> int:
    client = app.test_client(user=ANN[0]) if session else app.test_client()
    client.environ_base.pop("HTTP_SEC_FETCH_SITE")
    secure = {"base_url": "https://localhost"} if session else {}
    return client.post(path, headers=headers, auth=None if session else ANN, **secure).status_code


SAME = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://portal.acme.example"},
    {"Origin": FRIEND},
    {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"},
]
FOREIGN = [
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://globex.example"},
    {"Origin": "https://crm.example.evil.example"},
    {"Origin": "http://portal.acme.example"},
    {"Sec-Fetch-Site": "SAME-ORIGIN-ISH"},
]


@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("headers", SAME)
def test_our_own_and_allowed_origins_pass(app: Flask, session: bool, headers: dict[str, str]) -> None:
    assert status(app, session=session, headers=headers) == 200
    assert status(app, session=session, headers=headers, path="/who") == 200


@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("headers", FOREIGN)
def test_foreign_origins_are_refused_in_unprotected_views_too(
    app: Flask, session: bool, headers: dict[str, str]
) -> None:
    assert status(app, session=session, headers=headers) == 403
    assert status(app, session=session, headers=headers, path="/who") == 403
    assert status(app, session=session, headers=headers, path="/open") == 200  # this view reads no user


def test_without_headers_sessions_are_refused_and_basic_passes(app: Flask) -> None:
    assert status(app, session=True, headers={}) == 403
    assert status(app, session=False, headers={}) == 200


def test_safe_methods_are_not_checked(app: Flask) -> None:
    client = app.test_client(user=ANN[0])
    cross = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert client.get("/private", base_url="https://localhost", headers=cross).status_code == 200


def test_the_authenticating_credentials_decide(make_app: MakeApp) -> None:
    class Token:
        name = "token"

        def authenticate(self, evidence: object, contact_center: object) -> Authenticated:
            return Authenticated(Identity("token", "acme", ANN[0]))

        def challenge(self, request: object, contact_center: object) -> None:
            return None

    app = make_app(extra_steps=[Token])
    client = app.test_client(user=ANN[0])
    assert client.post("/private", headers={"Origin": "https://evil.example"}).get_json()["by"] == "token"


def test_preflights_of_allowed_origins_are_answered(app: Flask) -> None:
    asked = {"Origin": FRIEND, "Access-Control-Request-Method": "POST"}
    answer = app.test_client().options("/private", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert answer.headers["Access-Control-Max-Age"] == "120"
    listed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert listed == {
        "x-requested-with",
        "content-type",
        "accept",
        "origin",
        "cookie",
        "authorization",
        "ssid",
        "surl",
        "contactcenterid",
        "x-csrf-token",
    }
    assert "Origin" in answer.headers["Vary"]


def test_preflights_of_other_origins_get_no_permission(app: Flask) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = app.test_client().options("/private", headers=asked)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.headers["Vary"]


def test_refusals_have_cors_headers(app: Flask) -> None:
    refused = app.test_client().get("/private", headers={"Origin": FRIEND})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == FRIEND
    other = app.test_client().get("/private", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Origin" in other.headers["Vary"]


def test_origin_reads_only_contact_centers_allowing_it(app: Flask) -> None:
    foreign = app.test_client().get("/private", headers={"Origin": "https://globex.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers
    own = app.test_client().get("/private", headers={"Origin": "https://globex.example", "ContactCenterId": "globex"})
    assert own.headers["Access-Control-Allow-Origin"] == "https://globex.example"


def test_without_allowed_origins_nothing_is_added(make_app: MakeApp) -> None:
    answer = make_app().test_client().get("/open", headers={"Origin": FRIEND})
    assert "Vary" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://Portal.Acme.example:443/path", "https://portal.acme.example"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_origins_are_serialized_as_browsers_do(address: str, origin: str) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize(("host", "status"), [("portal.acme.example", 200), ("evil.example", 403)])
def test_host_headers_are_not_trusted_with_public_url(make_app: MakeApp, host: str, status: int) -> None:
    table = {"web_services": {}, "public_url": "https://acme.example", "hosts": ["portal.acme.example"]}
    app = make_app({"contact_centers": {"acme": table}})
    client = app.test_client()
    client.environ_base.pop("HTTP_SEC_FETCH_SITE")
    answer = client.post("/private", base_url=f"https://{host}", headers={"Origin": f"https://{host}"}, auth=ANN)
    assert answer.status_code == status
    named = client.post("/private", base_url=f"https://{host}", headers={"Origin": "https://acme.example"}, auth=ANN)
    assert named.status_code == 200


def test_without_public_url_the_requested_host_is_ours(make_app: MakeApp) -> None:
    client = make_app().test_client()
    client.environ_base.pop("HTTP_SEC_FETCH_SITE")
    own = {"Origin": "http://127.0.0.1:5000"}
    assert client.post("/private", base_url="http://127.0.0.1:5000", headers=own, auth=ANN).status_code == 200
    assert client.post("/private", base_url="http://localhost:5000", headers=own, auth=ANN).status_code == 403
