"""The whole login over HTTP with the development identity provider and SimpleSAMLphp."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from werkzeug.test import Client

from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing.identity_provider import DevelopmentIdentityProvider
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.testing.server import LoopbackServer
from flask_genesys_auth.web.runtime import runtime

from ..conftest import Consumer
from ..plain_browser import Form, Page, PlainBrowser
from ..simplesaml import SimpleSamlPhp, simplesamlphp

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["simplesamlphp"]

ANN = "ann@acme.example"


@pytest.fixture
def browser() -> Iterator[PlainBrowser]:
    made = PlainBrowser()
    yield made
    made.close()


@pytest.fixture
def provider(key: SigningKey) -> Iterator[DevelopmentIdentityProvider]:
    made = DevelopmentIdentityProvider(key=key)
    made.add_user("Ann", name_id=ANN, attributes={"mail": ANN, "groups": ["agents", "people"]})
    made.add_user("Bob <b>")
    with LoopbackServer(made, host="localhost") as server:
        made.url = server.url
        yield made


Serve = Callable[[Path], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve an application that trusts the provider of this metadata file; return its address."""
    apps: list[Flask] = []
    servers: list[LoopbackServer] = []

    def late(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        return apps[0](environ, start_response)

    def make(metadata: Path) -> str:
        server = LoopbackServer(late).start()
        servers.append(server)
        app = Flask("desk", instance_path=str(tmp_path / "instance"))
        app.secret_key = "a secret key of the tests"
        app.config["SESSION_COOKIE_NAME"] = "desk"
        app.config["GENESYS_AUTH"] = {
            "public_url": server.url,
            "contact_centers": {"acme": {"saml": {"identity_providers": {"idp": {"metadata": str(metadata)}}}}},
        }
        GenesysAuth(app)
        apps.append(app)
        store = runtime(app).accounts
        assert isinstance(store, SqlAccounts)
        store.create_tables()
        store.link(store.add("acme", ANN).id, "idp", ANN)

        @app.get("/private")
        def private() -> str:
            return f"Hello {current_user.user_name}"

        return server.url

    yield make
    for server in servers:
        server.stop()
    for app in apps:
        store = runtime(app).accounts
        assert isinstance(store, SqlAccounts)
        store.close()
        runtime(app).state.close()


def test_development_provider_logs_in_and_out(
    serve: Serve, provider: DevelopmentIdentityProvider, browser: PlainBrowser, tmp_path: Path
) -> None:
    desk = serve(provider.write_metadata(tmp_path / "idp.xml"))
    choice = browser.get(f"{desk}/saml/acme/login?next=%2Fprivate%3Fx%3D1")
    assert "Sign in as Ann" in choice.text
    assert "Bob &lt;b&gt;" in choice.text
    page = browser.submit(browser.submit(choice.form, user="Ann").form)
    assert (page.text, page.url) == (f"Hello {ANN}", f"{desk}/private?x=1")
    # The provider has a session of its own now; who has chosen wrongly can still choose again.
    choice = browser.get(f"{desk}/saml/acme/login?next=/private")
    assert choice.text.index("Continue as Ann") < choice.text.index("Sign in as Bob")
    page = browser.submit(browser.submit(choice.form, user="Ann").form)
    assert page.text == f"Hello {ANN}"
    assert "You are signed in here as Ann" in browser.get(provider.url).text
    assert "has ended" in browser.submit(browser.get(provider.url).form).text
    assert "not signed in" in browser.get(provider.url).text
    assert "Sign in as Ann" in browser.get(f"{desk}/saml/acme/login").text


def test_user_without_an_account_is_refused(
    serve: Serve, provider: DevelopmentIdentityProvider, browser: PlainBrowser, tmp_path: Path
) -> None:
    desk = serve(provider.write_metadata(tmp_path / "idp.xml"))
    choice = browser.get(f"{desk}/saml/acme/login")
    page = browser.submit(browser.submit(choice.form, user="Bob <b>").form)
    assert page.status == 400
    assert "Signing in did not work" in page.text
    # The wrong choice is no dead end.
    choice = browser.get(f"{desk}/saml/acme/login?next=/private")
    assert "Continue as Bob" in choice.text
    page = browser.submit(browser.submit(choice.form, user="Ann").form)
    assert page.text == f"Hello {ANN}"


def asked(consumer: Consumer, **changes: str) -> str:
    xml = (
        '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_request-1" Version="2.0" '
        f'IssueInstant="2026-01-01T00:00:00Z" ForceAuthn="{changes.get("force", "false")}" '
        f'AssertionConsumerServiceURL="{changes.get("acs", consumer.service.acs_url)}">'
        f"<saml:Issuer>{consumer.service.entity_id}</saml:Issuer></samlp:AuthnRequest>"
    )
    return base64.b64encode(xml.encode()).decode()


def test_development_provider_supports_post_and_force_authn(
    consumer: Consumer, provider: DevelopmentIdentityProvider, browser: PlainBrowser
) -> None:
    def send(encoded: str) -> Page:
        return browser.submit(Form(f"{provider.url}/sso", "post"), SAMLRequest=encoded, RelayState="<opaque>")

    choice = send(asked(consumer))
    assert "Choose who you are" in choice.text
    back = browser.submit(choice.form, user="Ann").form
    assert (back.action, back.fields["RelayState"]) == (consumer.service.acs_url, "<opaque>")
    assert "Continue as Ann" in send(asked(consumer)).text
    anew = send(asked(consumer, force="true"))
    assert "Sign in as Ann" in anew.text
    assert "Continue as Ann" not in anew.text
    assert "signed in as Ann" in browser.submit(anew.form, user="Ann").text


@pytest.mark.parametrize(
    "encoded",
    ["", "%%%", "PHgvPg==", base64.b64encode(b"\0" * 50).decode(), base64.b64encode(b"<!DOCTYPE x><x/>").decode()],
)
def test_development_provider_refuses_other_messages(
    provider: DevelopmentIdentityProvider, browser: PlainBrowser, encoded: str
) -> None:
    assert browser.get(f"{provider.url}/sso?SAMLRequest={quote(encoded)}").status == 400
    assert browser.submit(Form(f"{provider.url}/sso", "post"), SAMLRequest=encoded).status == 400


def test_development_provider_refuses_attacks(
    consumer: Consumer, provider: DevelopmentIdentityProvider, browser: PlainBrowser
) -> None:
    for address in ("javascript:x", "http://["):
        request = asked(consumer, acs=address)
        assert browser.submit(Form(f"{provider.url}/sso", "post"), SAMLRequest=request).status == 400
    squeezer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = base64.b64encode(squeezer.compress(b" " * 20_000_000) + squeezer.flush()).decode()
    assert browser.get(f"{provider.url}/sso?{urlencode({'SAMLRequest': bomb})}").status == 400
    login = Form(f"{provider.url}/login", "post")
    assert browser.submit(login, SAMLRequest=asked(consumer), binding="post", user="Nobody").status == 400
    assert browser.submit(login, SAMLRequest=asked(consumer), binding="post", user="Ann").status == 200
    assert browser.get(f"{provider.url}/login").status == 405
    assert browser.get(f"{provider.url}/nothing").status == 404
    assert browser.get(provider.entity_id).headers["content-type"].startswith("application/samlmetadata+xml")


def test_development_provider_answers_its_own_machine_only() -> None:
    client = Client(DevelopmentIdentityProvider("http://localhost"))
    for address in ("192.0.2.1", "::2", ""):
        assert client.get("/", environ_overrides={"REMOTE_ADDR": address}).status_code == 403
    assert client.get("/", environ_overrides={"REMOTE_ADDR": "::1"}).status_code == 200


def test_development_provider_makes_its_own_key_once() -> None:
    provider = DevelopmentIdentityProvider("http://localhost", sign_response=True)
    assert provider.key is provider.key
    assert provider.key.certificate in provider.metadata_xml


def test_simplesamlphp_logs_in(
    serve: Serve, simplesamlphp: SimpleSamlPhp, browser: PlainBrowser, tmp_path: Path
) -> None:
    desk = serve(simplesamlphp.write_metadata(tmp_path / "idp.xml"))
    simplesamlphp.trust(f"{desk}/saml/acme/metadata", f"{desk}/saml/acme/acs")
    form = browser.get(f"{desk}/saml/acme/login?next=%2Fprivate").form
    wrong = browser.submit(form, username=simplesamlphp.user_name, password="wrong")
    assert "SAMLResponse" not in wrong.text
    back = browser.submit(wrong.form, username=simplesamlphp.user_name, password=simplesamlphp.password)
    page = browser.submit(back.form)
    assert page.text == f"Hello {ANN}"
    assert page.url == f"{desk}/private"
