from __future__ import annotations

from conftest import MakeApp
from flask import Flask

from flask_genesys_auth.testing import (
    AuthClient,
    DevelopmentIdentityProvider,
    GenesysEmulator,
    SalesforceEmulator,
    generate_signing_key,
)


def test_every_account_sees_the_calls(app: Flask) -> None:
    assert app.test_client().get("/calls").status_code == 401
    assert app.test_client(user="ann@acme.example").get("/calls").text == "Calls of ann@acme.example"


def test_reports_are_for_supervisors(app: Flask) -> None:
    assert app.test_client(user="ann@acme.example").get("/reports").status_code == 403
    assert app.test_client(user="ann@acme.example", roles=["ROLE_SUPERVISOR"]).get("/reports").text == "Reports"


def test_roles_of_another_test_are_reset(app: Flask) -> None:
    assert app.test_client(user="ann@acme.example").get("/reports").status_code == 403


def test_guessing_is_throttled(app: Flask) -> None:
    client = app.test_client()
    guesses = [client.post("/login", data={"user_name": "ann", "password": "guess"}) for _ in range(11)]
    assert [guess.status_code for guess in guesses] == [401] * 11
    assert client.get("/calls", auth=("ann", "guess")).status_code == 429


def test_failures_of_another_test_are_reset(app: Flask) -> None:
    assert app.test_client().get("/calls", auth=("ann", "guess")).status_code == 401


def test_saml_login_makes_sue_a_supervisor(app: Flask, provider: DevelopmentIdentityProvider) -> None:
    client = AuthClient(app)
    answer = client.log_in_with_saml(provider, "Sue", return_to="/reports")
    assert answer.location == "/reports"
    assert client.get("/reports").text == "Reports"


def test_saml_answer_for_another_service_is_refused(app: Flask, provider: DevelopmentIdentityProvider) -> None:
    client = AuthClient(app)
    login = client.begin_saml_login(provider)
    assert login.answer(login.message("Sue").but(audience="https://elsewhere.example")).status_code == 400
    login = client.begin_saml_login(provider)
    assert login.answer(login.message("Sue"), key=generate_signing_key("a stranger")).status_code == 400
    assert client.get("/calls").status_code == 401


def test_salesforce_session_authenticates(make_app: MakeApp, salesforce_emulator: SalesforceEmulator) -> None:
    app = make_app(salesforce={"organizations": ["00D000000000001"], "identity_hosts": [salesforce_emulator.url]})
    app.test_client(user="ann@acme.example")  # makes the account
    headers = salesforce_emulator.add_user("ann@acme.example")
    assert app.test_client(headers=headers).get("/calls").text == "Calls of ann@acme.example"
    salesforce_emulator.end_session(headers)
    assert app.test_client(headers={**headers, "ssid": "unknown"}).get("/calls").status_code == 401
    assert salesforce_emulator.count == 2


def test_outage_is_503_and_not_401(make_app: MakeApp, genesys_emulator: GenesysEmulator) -> None:
    app = make_app(
        configuration_server={
            "url": genesys_emulator.url,
            "client_id": genesys_emulator.client_id,
            "client_secret": genesys_emulator.client_secret,
            "timeout": 0.2,
        }
    )
    app.test_client(user="ann")
    client = app.test_client(headers=genesys_emulator.add_user("ann", "a password"))
    genesys_emulator.fail(500, times=1)
    assert client.get("/calls").status_code == 503
    genesys_emulator.fail(hang=True)
    assert client.get("/calls").status_code == 503
    genesys_emulator.repair()
    assert client.get("/calls").text == "Calls of ann"
