"""The emulators answer other clients as the real services do."""

from __future__ import annotations

import base64
import json
from urllib.parse import urlencode

import pytest
import werkzeug.test

from flask_genesys_auth.chain.evidence import parse_identity_url
from flask_genesys_auth.directories.genesys import TOKEN_PATH, USERINFO_PATH
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import Emulator
from flask_genesys_auth.upstream import Answer, Deadline, Upstream


def ask(
    upstream: Upstream, url: str, headers: dict[str, str], form: dict[str, str] | None = None
) -> tuple[int, bytes, str]:
    body = urlencode(form).encode() if form is not None else None
    if form is not None:
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    answer = upstream.send("GET" if form is None else "POST", url, headers=headers, body=body, deadline=Deadline(60))
    assert isinstance(answer, Answer)
    return answer.status, answer.body, answer.headers["Content-Type"]


def test_salesforce_emulator_answers_json_or_xml(upstream: Upstream, salesforce: SalesforceEmulator) -> None:
    ann = salesforce.add_user("ann@acme.example")
    bearer = {"Authorization": f"Bearer {ann['ssid']}"}
    status, body, kind = ask(upstream, ann["surl"], {**bearer, "Accept": "application/json"})
    assert (status, json.loads(body)["asserted_user"], kind) == (200, True, "application/json;charset=UTF-8")
    status, body, kind = ask(upstream, ann["surl"], {**bearer, "Accept": "application/xml"})
    assert (status, kind.partition(";")[0]) == (200, "application/xml")
    assert b"<username>ann@acme.example</username>" in body
    assert parse_identity_url(ann["surl"]) is not None


@pytest.mark.parametrize(
    ("path", "session", "expected"),
    [
        ("", "", (403, b"Missing_OAuth_Token")),
        ("", "Bearer wrong", (403, b"Bad_OAuth_Token")),
        ("", "Basic YTpi", (403, b"Missing_OAuth_Token")),
        ("/id/00D000000000002/005Dn0000000001", "good", (403, b"Wrong_Org")),
        ("/id/00D000000000001/005Dn0000000099", "good", (404, b"Bad_Id")),
        ("/other", "good", (404, b"Bad_Id")),
    ],
)
def test_salesforce_refuses_by_one_word(
    upstream: Upstream, salesforce: SalesforceEmulator, path: str, session: str, expected: tuple[int, bytes]
) -> None:
    ann = salesforce.add_user("ann@acme.example")
    sent = f"Bearer {ann['ssid']}" if session == "good" else session
    url = salesforce.url + path if path else ann["surl"]
    assert ask(upstream, url, {"Authorization": sent} if sent else {})[:2] == expected


def test_salesforce_needs_an_address_before_people() -> None:
    with pytest.raises(RuntimeError, match="serve"):
        SalesforceEmulator().add_user("ann@acme.example")


@pytest.mark.parametrize(
    ("change", "client", "expected"),
    [
        ({}, "flask-genesys-auth:client-secret", None),
        ({}, "flask-genesys-auth:wrong", "invalid_client"),
        ({}, "other:client-secret", "invalid_client"),
        ({}, "", "invalid_client"),
        ({"client_id": "other"}, "flask-genesys-auth:client-secret", "invalid_request"),
        ({"grant_type": "client_credentials"}, "flask-genesys-auth:client-secret", "unsupported_grant_type"),
        ({"username": "ann"}, "flask-genesys-auth:client-secret", "invalid_grant"),
        ({"password": "wrong"}, "flask-genesys-auth:client-secret", "invalid_grant"),
    ],
)
def test_genesys_checks_client_and_person(
    upstream: Upstream, genesys: GenesysEmulator, change: dict[str, str], client: str, expected: str | None
) -> None:
    assert genesys.add_user("ann", "secret") == {"Authorization": "Basic YW5uOnNlY3JldA=="}
    form = {
        "grant_type": "password",
        "client_id": "flask-genesys-auth",
        "username": "Environment\\ann",
        "password": "secret",
    }
    headers = {"Authorization": "Basic " + base64.b64encode(client.encode()).decode()} if client else {}
    status, body, _ = ask(upstream, genesys.url + TOKEN_PATH, headers, form | change)
    found = json.loads(body)
    assert found.get("error") == expected
    assert (status == 200) is (expected is None)
    if expected is None:
        bearer = {"Authorization": f"Bearer {found['access_token']}"}
        assert json.loads(ask(upstream, genesys.url + USERINFO_PATH, bearer)[1])["username"] == "ann"
        assert ask(upstream, genesys.url + USERINFO_PATH, {"Authorization": "Bearer wrong"})[0] == 401
        assert ask(upstream, genesys.url + USERINFO_PATH, {})[0] == 401
        assert ask(upstream, genesys.url + "/other", {})[0] == 404


def test_genesys_forgets_old_tokens_and_requests() -> None:
    emulator = GenesysEmulator()
    emulator.add_user("ann", "secret")
    client = werkzeug.test.Client(emulator)
    basic = {"Authorization": "Basic " + base64.b64encode(b"flask-genesys-auth:client-secret").decode()}
    form = {"grant_type": "password", "client_id": "flask-genesys-auth", "password": "secret"}
    form["username"] = "Environment\\ann"

    def status(token: str) -> int:
        return client.get(USERINFO_PATH, headers={"Authorization": f"Bearer {token}"}).status_code

    tokens = [client.post(TOKEN_PATH, data=form, headers=basic).get_json()["access_token"] for _ in range(1001)]
    assert [status(token) for token in tokens[:2]] == [401, 200]
    assert emulator.count > len(emulator.requests)


def test_base_emulator_must_be_subclassed() -> None:
    with pytest.raises(NotImplementedError):
        Emulator().respond(None)  # type: ignore[arg-type] # nothing is read of it
