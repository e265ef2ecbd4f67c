"""Refusals of the development identity provider, and the service providers it knows."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from lxml import etree
from werkzeug.test import Client

from flask_genesys_auth.saml.documents import MD
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.testing.identity_provider import PARTIAL, DevelopmentIdentityProvider
from flask_genesys_auth.testing.saml_messages import SUCCESS, LogoutMessage, SigningKey
from flask_genesys_auth.testing.server import LoopbackServer
from flask_genesys_auth.testing.service_providers import ServiceProviders, is_local

from .logout.test_messages import BINDINGS, Build, build
from .provider_site import Site

__all__ = ["build"]

URL = "http://localhost:1"


@pytest.fixture
def service(build: Build) -> ServiceProvider:
    return build()


@pytest.fixture
def idp(key: SigningKey, service: ServiceProvider) -> DevelopmentIdentityProvider:
    made = DevelopmentIdentityProvider(URL, key=key)
    made.add_user("ann")
    assert made.add_service_provider(service.metadata_xml()) == service.entity_id
    return made


@pytest.fixture
def client(idp: DevelopmentIdentityProvider) -> Client:
    return Client(idp)


@pytest.fixture
def request_(service: ServiceProvider) -> LogoutMessage:
    return LogoutMessage(issuer=service.entity_id, destination=f"{URL}/slo", name_id="ann", session_indexes=())


def send(client: Client, message: LogoutMessage, key: SigningKey, binding: str) -> int:
    origin = {"REMOTE_ADDR": "127.0.0.1"}
    if binding == "post":
        return client.post("/slo", data=message.form(key), environ_overrides=origin).status_code
    return client.get(f"/slo?{message.query(key)}", environ_overrides=origin).status_code


@pytest.mark.parametrize("binding", BINDINGS)
def test_logout_message_needs_a_known_signer(
    client: Client, request_: LogoutMessage, key: SigningKey, other_key: SigningKey, binding: str
) -> None:
    accepted = {"redirect": 303, "post": 200}[binding]
    assert send(client, request_, other_key, binding) == accepted
    assert send(client, request_, key, binding) == 400
    assert send(client, request_.but(signed=False), other_key, binding) == 400
    assert send(client, request_.but(issuer="https://nobody.example"), other_key, binding) == 400
    assert send(client, request_.but(parameter="SAMLResponse"), other_key, binding) == 400
    answer = request_.but(kind="LogoutResponse", relay_state="of nobody")
    assert send(client, answer, other_key, binding) == 400
    assert send(client, request_, other_key, binding) == accepted


@pytest.mark.parametrize("encoded", ["", "%%%", "ä", base64.b64encode(b"<x").decode()])
def test_other_message_is_refused_as_logout(client: Client, encoded: str) -> None:
    origin = {"REMOTE_ADDR": "127.0.0.1"}
    assert client.get("/slo", query_string={"SAMLRequest": encoded}, environ_overrides=origin).status_code == 400
    assert client.post("/slo", data={"SAMLRequest": encoded}, environ_overrides=origin).status_code == 400


@pytest.mark.parametrize(("statuses", "whole"), [((SUCCESS,), True), ((SUCCESS, PARTIAL), False), ((PARTIAL,), False)])
def test_logout_answer_reports_the_outcome(
    idp: DevelopmentIdentityProvider,
    client: Client,
    service: ServiceProvider,
    request_: LogoutMessage,
    other_key: SigningKey,
    statuses: tuple[str, ...],
    whole: bool,
) -> None:
    origin = {"REMOTE_ADDR": "127.0.0.1"}
    begun = client.post("/login", data={"service": service.entity_id, "user": "ann"}, environ_overrides=origin)
    assert begun.status_code == 200
    asked = client.post("/logout", environ_overrides=origin)
    relay_state = parse_qs(urlsplit(asked.headers["Location"]).query)["RelayState"][0]
    message = request_.but(kind="LogoutResponse", statuses=statuses, relay_state=relay_state)
    page = client.get(f"/slo?{message.query(other_key)}", environ_overrides=origin).text
    assert "has ended" in page
    assert ("Some applications" not in page) is whole


def test_unsolicited_login_needs_a_known_service_provider(client: Client, service: ServiceProvider) -> None:
    origin = {"REMOTE_ADDR": "127.0.0.1"}
    for name, status in (("https://nobody.example", 400), (service.entity_id, 200)):
        assert client.post("/begin", data={"service": name}, environ_overrides=origin).status_code == status


def test_only_service_provider_metadata_are_accepted(
    idp: DevelopmentIdentityProvider, service: ServiceProvider
) -> None:
    good = service.metadata_xml().decode()
    idp.add_service_provider(good)
    wrong = good.replace(next(line.strip() for line in good.splitlines() if "X509Certificate" in line), "<X/>")
    for metadata in ("", "<x/>", idp.metadata_xml, wrong.replace("<X/>", _certificate("AAAA"))):
        with pytest.raises(ValueError, match="metadata"):
            idp.add_service_provider(metadata)


def _certificate(text: str) -> str:
    ns = 'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    return f"<ds:X509Certificate {ns}>{text}</ds:X509Certificate>"


def test_metadata_of_local_service_providers_are_fetched(service: ServiceProvider) -> None:
    site = Site("")
    with site.serve():
        known = ServiceProviders()
        root = etree.fromstring(service.metadata_xml())
        assert root.tag == f"{{{MD}}}EntityDescriptor"
        site.document = etree.tostring(root).decode()
        # The document names another entity.
        assert known.find(site.address) is None
        root.set("entityID", site.address)
        site.document = etree.tostring(root).decode()
        found = known.find(site.address)
        assert found is not None
        assert (found.acs_url, known.names) == (service.acs_url, [site.address])
        site.document = "no metadata"
        assert known.find(site.address) is None
    assert known.find(site.address) is None
    with LoopbackServer(DevelopmentIdentityProvider(URL)) as server:
        assert known.find(server.url) is None


def test_metadata_of_other_hosts_are_not_fetched() -> None:
    assert all(is_local(f"http://{host}/x") for host in ("localhost", "127.0.0.1:80", "[::1]"))
    assert not any(
        is_local(name) for name in ("http://192.0.2.1/", "https://sp.example", "ftp://localhost/", "urn:x", "")
    )
    assert not is_local("http://[::1/")
