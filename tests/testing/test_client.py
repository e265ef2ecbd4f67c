"""The test client logs in by a session, by headers, by a password, or by a complete SAML login."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.testing import (
    AuthClient,
    DevelopmentIdentityProvider,
    Encryption,
    GenesysEmulator,
    SalesforceEmulator,
    SigningKey,
    generate_signing_key,
)
from flask_genesys_auth.testing.saml_messages import CBC
from flask_genesys_auth.web.runtime import runtime

from .conftest import ANN, MakeApp, accounts_of

URL = "https://portal.acme.example"


def client_of(app: Flask, **who: Any) -> AuthClient:
    made = app.test_client(**who)
    assert isinstance(made, AuthClient)
    return made


@pytest.fixture
def saml_app(make_app: MakeApp, provider: DevelopmentIdentityProvider, tmp_path: Path) -> Flask:
    metadata = provider.write_metadata(tmp_path / "idp.xml")
    app = make_app(
        settings={"public_url": URL},
        saml={"identity_providers": {"idp": {"metadata": str(metadata)}}},
    )
    accounts_of(app).add("acme", ANN, identities=[("idp", ANN)])
    return app


def test_basic_is_sent_with_every_request(app: Flask) -> None:
    account = accounts_of(app).add("acme", "änn")
    accounts_of(app).set_password(account.id, runtime(app).hasher.hash("ein Paßwort:"))
    client = client_of(app, basic=("änn", "ein Paßwort:"))
    assert client.get("/me").json == client.get("/me").json == {"user": "änn", "by": "web_services"}
    assert client_of(app, basic=("änn", "wrong")).get("/me").status_code == 401


def test_salesforce_headers_of_the_emulator_log_in(make_app: MakeApp) -> None:
    salesforce = SalesforceEmulator()
    with salesforce.serve() as server:
        app = make_app(salesforce={"organizations": ["00D000000000001"], "identity_hosts": [server.url]})
        accounts_of(app).add("acme", ANN)
        headers = salesforce.add_user(ANN)
        client = client_of(app, headers=headers)
        assert client.get("/me").json == {"user": ANN, "by": "salesforce"}
        assert salesforce.count == 1
        assert client.get("/me").status_code == 200
        assert salesforce.count == 1, "it was remembered"
        salesforce.end_session(headers)
        assert client_of(app, headers={**headers, "ssid": "another"}).get("/me").status_code == 401
        assert salesforce.count == 2


def test_configuration_server_users_of_the_emulator_log_in(make_app: MakeApp) -> None:
    genesys = GenesysEmulator()
    with genesys.serve() as server:
        table = {"url": server.url, "client_id": genesys.client_id, "client_secret": genesys.client_secret}
        app = make_app(configuration_server=table)
        accounts_of(app).add("acme", "ann")
        client = client_of(app, headers=genesys.add_user("ann", "a password"))
        assert client.get("/me").json == {"user": "ann", "by": "configuration_server"}


def test_saml_login_succeeds(saml_app: Flask, provider: DevelopmentIdentityProvider) -> None:
    client = client_of(saml_app)
    assert client.get("/me").status_code == 401
    answer = client.log_in_with_saml(provider, "Ann", return_to="/me")
    assert (answer.status_code, answer.location) == (303, "/me")
    assert client.get("/me").json == {"user": ANN, "by": "saml"}
    assert client_of(saml_app).get("/me").status_code == 401, "it is this client's login alone"


def test_unknown_user_is_refused_at_the_end(saml_app: Flask, provider: DevelopmentIdentityProvider) -> None:
    client = client_of(saml_app)
    answer = client.log_in_with_saml(provider, "Bob")
    assert answer.status_code == 400
    assert "could not be accepted" in answer.text
    assert client.get("/me").status_code == 401
    with pytest.raises(LookupError, match="no user 'Zoe'; there are 'Ann', 'Bob'"):
        client.log_in_with_saml(provider, "Zoe")


def test_providers_contact_centers_and_bindings_are_selectable(
    make_app: MakeApp, provider: DevelopmentIdentityProvider, tmp_path: Path
) -> None:
    metadata = provider.write_metadata(tmp_path / "idp.xml")
    other = tmp_path / "other.xml"
    other.write_text(provider.metadata_xml.replace(provider.url, "https://other.example"))
    trusted = {"idp": {"metadata": str(metadata), "binding": "post"}, "other": {"metadata": str(other)}}
    centers = {
        name: {
            "hosts": [f"{name}.example"],
            "public_url": f"https://{name}.example",
            "saml": {"identity_providers": trusted},
        }
        for name in ("acme", "umbra")
    }
    app = make_app(settings={"contact_centers": centers})
    accounts_of(app).add("umbra", ANN, identities=[("idp", ANN)])
    client = client_of(app)
    with pytest.raises(ConfigurationError, match="name the contact center"):
        client.log_in_with_saml(provider, "Ann")
    with pytest.raises(AssertionError, match="the application did not start a login: 302"):
        client.log_in_with_saml(provider, "Ann", contact_center="umbra")
    assert client.log_in_with_saml(provider, "Ann", contact_center="umbra", idp="idp").status_code == 303
    assert client.get("/me").json == {"user": ANN, "by": "saml"}


def test_assertions_are_encrypted_for_encryption_keys(
    make_app: MakeApp, provider: DevelopmentIdentityProvider, tmp_path: Path, key: SigningKey
) -> None:
    pair = {"key": key.private_pem, "certificate": key.certificate_pem}
    metadata = provider.write_metadata(tmp_path / "idp.xml")
    app = make_app(
        settings={"public_url": URL},
        saml={"identity_providers": {"idp": {"metadata": str(metadata)}}, "encryption_keys": [pair]},
    )
    accounts_of(app).add("acme", ANN, identities=[("idp", ANN)])
    assert client_of(app).log_in_with_saml(provider, "Ann").status_code == 303
    begun = client_of(app).begin_saml_login(provider)
    badly = begun.message("Ann").but(between_signing=Encryption(key, algorithm=CBC).assertion)
    assert begun.answer(badly).status_code == 400
    begun = client_of(app).begin_saml_login(provider)
    well = begun.message("Ann").but(between_signing=Encryption(key).assertion)
    assert begun.answer(well).status_code == 303


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"audience": "https://elsewhere.example"},
    "another recipient": {"acs_url": "https://elsewhere.example/acs"},
    "too old": {"now": 1_000_000_000.0},
    "another request": {"request_id": "_another"},
    "another issuer": {"issuer": "https://elsewhere.example"},
    "not signed": {"sign_assertion": False},
    "a failure": {"status": "urn:oasis:names:tc:SAML:2.0:status:Responder"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_message_is_refused_genuine_one_accepted(
    saml_app: Flask, provider: DevelopmentIdentityProvider, wrong: str
) -> None:
    client = client_of(saml_app)
    begun = client.begin_saml_login(provider, return_to="/me")
    assert begun.answer(begun.message("Ann").but(**WRONG[wrong])).status_code == 400
    assert client.get("/me").status_code == 401
    begun = client.begin_saml_login(provider, return_to="/me")
    answer = begun.answer(begun.message("Ann"))
    assert (answer.status_code, answer.location) == (303, "/me")
    assert client.get("/me").status_code == 200


def test_another_key_and_garbage_are_refused(saml_app: Flask, provider: DevelopmentIdentityProvider) -> None:
    begun = client_of(saml_app).begin_saml_login(provider)
    assert begun.answer(begun.message("Ann"), key=generate_signing_key("a stranger")).status_code == 400
    assert begun.answer("PHNhbWw+").status_code == 400


def test_provider_can_sign_the_response(make_app: MakeApp, key: SigningKey, tmp_path: Path) -> None:
    provider = DevelopmentIdentityProvider("http://127.0.0.1:9", key=key, sign_response=True)
    provider.add_user(ANN)
    metadata = provider.write_metadata(tmp_path / "idp.xml")
    wanted = {"idp": {"metadata": str(metadata), "want_response_signed": True}}
    app = make_app(settings={"public_url": URL}, saml={"identity_providers": wanted})
    accounts_of(app).add("acme", ANN, identities=[("idp", ANN)])
    begun = client_of(app).begin_saml_login(provider)
    assert begun.answer(begun.message(ANN).but(sign_response=False)).status_code == 400
    begun = client_of(app).begin_saml_login(provider)
    assert begun.answer(begun.message(ANN)).status_code == 303


def test_roles_and_names_need_built_in_accounts(app: Flask) -> None:
    assert client_of(app, user=ANN, roles=["ROLE_SUPERVISOR"]).get("/reports").status_code == 200
    with pytest.raises(ConfigurationError, match="its own account store"):
        client_of(app, user=object(), roles=["ROLE_SUPERVISOR"])


def test_headers_can_be_added_later(app: Flask) -> None:
    client = client_of(app, user=ANN)
    answer: TestResponse = client.get("/me")
    assert answer.status_code == 200
    client.send_always({"Sec-Fetch-Site": "cross-site"})
    assert client.post("/me").status_code == 405
    client.send_always({"Authorization": "Basic nonsense"})
    assert client.get("/me").status_code == 401
