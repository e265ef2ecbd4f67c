"""Logout messages: accepted, refused and sent ones; each refusal beside an accepted message."""

from __future__ import annotations

import base64
import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import xmlsec
from lxml import etree
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.logout_response import OneLogin_Saml2_Logout_Response
from xmlsec import constants

from flask_genesys_auth.chain.outcomes import LoginSession
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.saml.documents import SAML, SAMLP
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.logout import (
    LogoutRequest,
    LogoutResponse,
    Outgoing,
    answer,
    begin_logout,
    can_log_out,
    receive,
)
from flask_genesys_auth.saml.requests import NameId
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.transport import read_query
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import (
    EMAIL,
    PERSISTENT,
    SUCCESS,
    LogoutMessage,
    SigningKey,
    provider_metadata,
)

from ..addresses import IDP, PUBLIC_URL, SSO
from ..conftest import NOW, center, trust_of

SLO = "https://idp.example/slo"
RESPONDER = "urn:oasis:names:tc:SAML:2.0:status:Responder"
PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"
BINDINGS = ("redirect", "post")
ANN = NameId("ann@acme.example", EMAIL)
SESSION = LoginSession("acme", "7", "saml", NOW, NOW, NOW + 3600, "okta", ANN.text, "session-1")

Build = Callable[..., ServiceProvider]


@pytest.fixture
def build(tmp_path: Path, key: SigningKey, other_key: SigningKey) -> Build:
    """A service provider with a signing key, and a provider with single logout."""

    def made(*, name: str = "acme", metadata: str = "", signs: bool = True, **provider: object) -> ServiceProvider:
        path = tmp_path / f"{name}.xml"
        path.write_text(metadata or provider_metadata(IDP, SSO, (key.certificate,), slo_url=SLO))
        table = center(path, name=name, **provider)
        assert table.saml is not None
        if signs:
            ours = {"signing_key": Secret(other_key.private_pem), "signing_certificate": other_key.certificate_pem}
            table = dataclasses.replace(table, saml=dataclasses.replace(table.saml, **ours))  # type: ignore[arg-type]
        return build_service_provider(table, public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)

    return made


@dataclasses.dataclass(frozen=True)
class LogoutService:
    """The single logout service, and the provider that writes to it."""

    service: ServiceProvider
    key: SigningKey
    state: MemoryState

    @property
    def request(self) -> LogoutMessage:
        return LogoutMessage(issuer=IDP, destination=self.service.slo_url, now=NOW)

    def response(self, asked: Outgoing) -> LogoutMessage:
        """The genuine answer to a request of ours."""
        xml, relay_state = sent(asked)
        return LogoutMessage(
            issuer=IDP,
            destination=self.service.slo_url,
            kind="LogoutResponse",
            in_response_to=xml.get("ID"),
            relay_state=relay_state,
            now=NOW,
        )

    def begin(self) -> Outgoing:
        return begin_logout(self.service, trust_of(self.service), self.state, SESSION)

    def take(
        self, message: LogoutMessage, binding: str, key: SigningKey | None = None
    ) -> LogoutRequest | LogoutResponse:
        if binding == "redirect":
            return self.take_query(message.query(key or self.key))
        return self.take_form(message.form(key or self.key))

    def take_query(self, query: str) -> LogoutRequest | LogoutResponse:
        return receive(self.service, self.state, "SAMLRequest", raw_query=query)

    def take_form(self, fields: dict[str, str]) -> LogoutRequest | LogoutResponse:
        kind = "SAMLRequest" if "SAMLRequest" in fields else "SAMLResponse"
        return receive(
            self.service,
            self.state,
            kind,  # type: ignore[arg-type]  # one of the two
            form=(fields[kind], fields.get("RelayState", "")),
        )

    def refuses(self, message: LogoutMessage, binding: str, *faults: Fault, key: SigningKey | None = None) -> SamlError:
        """Check that the genuine request is accepted and this message is not, for the right reason."""
        assert isinstance(self.take(self.request, binding), LogoutRequest)
        with pytest.raises(SamlError) as refusal:
            self.take(message, binding, key)
        assert refusal.value.reason in faults, refusal.value
        return refusal.value


@pytest.fixture
def logout_service(build: Build, key: SigningKey) -> LogoutService:
    return LogoutService(build(), key, MemoryState("tests"))


def sent(outgoing: Outgoing) -> tuple[etree._Element, str]:
    """The message that we send, and its RelayState."""
    if outgoing.binding == "post":
        kind = "SAMLRequest" if "SAMLRequest" in outgoing.fields else "SAMLResponse"
        return etree.fromstring(base64.b64decode(outgoing.fields[kind])), outgoing.fields.get("RelayState", "")
    fields = {name: values[0] for name, values in parse_qs(urlsplit(outgoing.location).query).items()}
    data = base64.b64decode(fields.get("SAMLRequest") or fields["SAMLResponse"])
    return etree.fromstring(zlib.decompress(data, -zlib.MAX_WBITS)), fields.get("RelayState", "")


@pytest.mark.parametrize("binding", BINDINGS)
def test_genuine_request_is_accepted_with_all_it_says(logout_service: LogoutService, binding: str) -> None:
    message = logout_service.request.but(session_indexes=("a", "b"), relay_state="theirs")
    asked = logout_service.take(message, binding)
    assert isinstance(asked, LogoutRequest)
    assert (asked.name_id, asked.session_indexes, asked.relay_state) == (ANN, ("a", "b"), "theirs")
    assert (asked.request_id, asked.binding, asked.trust.name) == (message.message_id, binding, "okta")


@pytest.mark.parametrize("binding", BINDINGS)
def test_default_name_id_attributes_make_no_difference(logout_service: LogoutService, binding: str) -> None:
    said = logout_service.request.but(
        name_id_format=PERSISTENT, name_qualifier=IDP, sp_name_qualifier=logout_service.service.entity_id
    )
    unsaid = logout_service.request.but(name_id_format=PERSISTENT)
    other = logout_service.request.but(name_id_format=PERSISTENT, name_qualifier="https://elsewhere.example")
    names = [logout_service.take(message, binding).name_id for message in (said, unsaid, other)]  # type: ignore[union-attr]
    assert names[0] == names[1] != names[2]
    unspecified = logout_service.request.but(name_id_format="urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified")
    assert logout_service.take(unspecified, binding).name_id == NameId("ann@acme.example")  # type: ignore[union-attr]


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"signed": False}, Fault.NOT_SIGNED),
        ({"issuer": "https://other.example"}, Fault.ISSUER),
        ({"destination": None}, Fault.DESTINATION),
        ({"destination": f"{PUBLIC_URL}/saml/acme/slo/more"}, Fault.DESTINATION),
        ({"destination": f"{PUBLIC_URL}/saml/acme/acs"}, Fault.DESTINATION),
        ({"destination": f"{PUBLIC_URL}/saml/acme"}, Fault.DESTINATION),
        ({"not_on_or_after": -61}, Fault.EXPIRED),
        ({"issued": -361, "not_on_or_after": None}, Fault.EXPIRED),
        ({"issued": -361, "not_on_or_after": 86400}, Fault.EXPIRED),
        ({"issued": 61}, Fault.NOT_YET_VALID),
        ({"version": "1.1"}, Fault.STRUCTURE),
        ({"parameter": "SAMLResponse"}, Fault.STRUCTURE),
        ({"kind": "LogoutResponse", "parameter": "SAMLRequest"}, Fault.STRUCTURE),
        ({"kind": "LogoutResponse", "in_response_to": "_never"}, Fault.IN_RESPONSE_TO),
        ({"kind": "LogoutResponse"}, Fault.IN_RESPONSE_TO),
        ({"name_id": None}, Fault.SCHEMA),
        ({"message_id": "1-no-name"}, Fault.SCHEMA),
        ({"signature_algorithm": "RsaSha1"}, Fault.ALGORITHM),
    ],
)
def test_wrong_logout_request_is_refused(
    logout_service: LogoutService, binding: str, changes: dict[str, object], fault: Fault
) -> None:
    logout_service.refuses(logout_service.request.but(**changes), binding, fault)


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_request_within_the_skew_is_accepted(logout_service: LogoutService, binding: str) -> None:
    for changes in ({"not_on_or_after": -59}, {"issued": 59}, {"issued": -359, "not_on_or_after": None}):
        assert isinstance(logout_service.take(logout_service.request.but(**changes), binding), LogoutRequest)


@pytest.mark.parametrize("binding", BINDINGS)
def test_logout_request_counts_once(logout_service: LogoutService, binding: str) -> None:
    message = logout_service.request
    assert isinstance(logout_service.take(message, binding), LogoutRequest)
    for again in BINDINGS:
        with pytest.raises(SamlError) as refusal:
            logout_service.take(message, again)
        assert refusal.value.reason is Fault.REPLAYED


@pytest.mark.parametrize("binding", BINDINGS)
def test_other_signing_key_is_refused(logout_service: LogoutService, other_key: SigningKey, binding: str) -> None:
    error = logout_service.refuses(logout_service.request, binding, Fault.BAD_SIGNATURE, key=other_key)
    assert error.provider == "okta"


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_request_to_another_contact_center_is_refused(
    logout_service: LogoutService, build: Build, binding: str
) -> None:
    other = LogoutService(build(name="beta"), logout_service.key, logout_service.state)
    error = logout_service.refuses(other.request, binding, Fault.DESTINATION)
    assert "/saml/beta/slo" in error.detail
    assert isinstance(other.take(other.request, binding), LogoutRequest)


@pytest.mark.parametrize("binding", BINDINGS)
def test_metadata_that_have_expired_vouch_for_nothing(
    logout_service: LogoutService, build: Build, key: SigningKey, binding: str
) -> None:
    ends = provider_metadata(IDP, SSO, (key.certificate,), slo_url=SLO, valid_until=NOW + 1)
    later = LogoutService(build(metadata=ends), key, MemoryState("tests"))
    assert isinstance(later.take(later.request, binding), LogoutRequest)
    expired = dataclasses.replace(later, service=dataclasses.replace(later.service, clock=lambda: NOW + 2))
    with pytest.raises(SamlError) as refusal:
        expired.take(expired.request, binding)
    assert refusal.value.reason is Fault.METADATA_EXPIRED


def test_changed_content_is_refused(logout_service: LogoutService) -> None:
    def other_name(root: etree._Element) -> None:
        root.find(f"{{{SAML}}}NameID").text = "bob@acme.example"  # type: ignore[union-attr]

    logout_service.refuses(logout_service.request.but(after_signing=other_name), "post", Fault.BAD_SIGNATURE)


def wrap(root: etree._Element) -> None:
    """Wrap the signed request in another one that names another user."""
    signed = etree.fromstring(etree.tostring(root))
    root.set("ID", "_wrapper")
    root.find(f"{{{SAML}}}NameID").text = "bob@acme.example"  # type: ignore[union-attr]
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    extensions.append(signed)
    root.insert(1, extensions)
    root.remove(root.find("{*}Signature"))  # type: ignore[arg-type]  # it is there


def move_signature(root: etree._Element) -> None:
    root.append(root.find("{*}Signature"))  # type: ignore[arg-type]  # it is there


def second_signature(root: etree._Element) -> None:
    root.append(etree.fromstring(etree.tostring(root.find("{*}Signature"))))  # type: ignore[arg-type]


def second_id(root: etree._Element) -> None:
    root[-1].set("Id", root.get("ID", ""))


def second_issuer(root: etree._Element) -> None:
    etree.SubElement(root, f"{{{SAML}}}Issuer").text = IDP


@pytest.mark.parametrize(
    ("attack", "faults"),
    [
        (wrap, (Fault.SIGNATURE_FORM,)),
        (move_signature, (Fault.SIGNATURE_FORM,)),
        (second_signature, (Fault.SIGNATURE_FORM,)),
        (second_id, (Fault.DUPLICATE_ID,)),
        (second_issuer, (Fault.ISSUER,)),
    ],
)
def test_wrapping_is_refused(
    logout_service: LogoutService, attack: Callable[[etree._Element], None], faults: tuple[Fault, ...]
) -> None:
    logout_service.refuses(logout_service.request.but(after_signing=attack), "post", *faults)


def test_inner_signature_does_not_count_for_query(logout_service: LogoutService) -> None:
    def with_signature(root: etree._Element) -> None:
        root.insert(1, etree.fromstring('<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>'))

    logout_service.refuses(logout_service.request.but(before_signing=with_signature), "redirect", Fault.SIGNATURE_FORM)


@pytest.mark.parametrize("algorithm", ["RsaSha384", "RsaSha512"])
@pytest.mark.parametrize("binding", BINDINGS)
def test_other_good_algorithms_are_accepted(logout_service: LogoutService, binding: str, algorithm: str) -> None:
    assert isinstance(
        logout_service.take(logout_service.request.but(signature_algorithm=algorithm), binding), LogoutRequest
    )


def test_sha1_in_a_query_needs_the_relaxation(logout_service: LogoutService, build: Build) -> None:
    relaxed = LogoutService(build(allow_sha1=True), logout_service.key, MemoryState("tests"))
    message = logout_service.request.but(signature_algorithm="RsaSha1")
    assert isinstance(relaxed.take(message, "redirect"), LogoutRequest)
    logout_service.refuses(message, "redirect", Fault.ALGORITHM)


def test_lower_case_escapes_are_verified_as_sent(logout_service: LogoutService) -> None:
    def lower(value: str) -> str:
        escaped = quote(value, safe="")
        return "".join(
            character.lower() if escaped[max(place - 2, 0) : place].count("%") else character
            for place, character in enumerate(escaped)
        )

    query = logout_service.request.but(relay_state="a/b?c").query(logout_service.key, escaped=lower)
    assert "%2f" in query
    assert isinstance(logout_service.take_query(query), LogoutRequest)
    shouted = (
        logout_service.request.but(relay_state="a/b?c").query(logout_service.key, escaped=lower).replace("%2f", "%2F")
    )
    with pytest.raises(SamlError) as refusal:
        logout_service.take_query(shouted)
    assert refusal.value.reason is Fault.BAD_SIGNATURE


def smuggled(query: str) -> str:
    return f"SAML%52equest=EVIL&{query}"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (smuggled, Fault.MALFORMED),
        (lambda query: query + "&SAML%52equest=EVIL", Fault.MALFORMED),
        (lambda query: query + "&SAMLRequest=EVIL", Fault.MALFORMED),
        (lambda query: query + "&SAMLResponse=EVIL", Fault.MALFORMED),
        (lambda query: query + "&RelayState=x&RelayState=y", Fault.MALFORMED),
        (lambda query: query + "&+SAMLRequest=EVIL", Fault.MALFORMED),
        (lambda query: query + "&RelayState=x", Fault.BAD_SIGNATURE),
        (lambda query: query + "&SAMLEncoding=none", Fault.MALFORMED),
        (lambda query: query.replace("SAMLRequest=", "samlrequest="), Fault.MALFORMED),
        (lambda query: query.partition("&Signature=")[0], Fault.NOT_SIGNED),
        (
            lambda query: query.partition("&SigAlg=")[0] + "&Signature=" + query.partition("&Signature=")[2],
            Fault.NOT_SIGNED,
        ),
        (lambda query: query.partition("&Signature=")[0] + "&Signature=", Fault.BAD_SIGNATURE),
        (lambda query: query.partition("&Signature=")[0] + "&Signature=!", Fault.MALFORMED),
        (lambda query: query.replace("rsa-sha256", "hmac-sha256"), Fault.ALGORITHM),
        (lambda query: query + "\u00e4", Fault.MALFORMED),
        (lambda query: query + "&RelayState=%ff", Fault.MALFORMED),
        (lambda query: query + "&RelayState=" + "x" * 1025, Fault.TOO_LARGE),
        (lambda query: query + "&x=" + "x" * 65536, Fault.TOO_LARGE),
        (lambda query: query + "&x=1" * 32, Fault.TOO_LARGE),
        (lambda query: "", Fault.MALFORMED),
    ],
)
def test_ambiguous_queries_are_refused(
    logout_service: LogoutService, change: Callable[[str], str], fault: Fault
) -> None:
    query = logout_service.request.query(logout_service.key)
    with pytest.raises(SamlError) as refusal:
        logout_service.take_query(change(query))
    assert refusal.value.reason is fault, refusal.value
    encoding = quote("urn:oasis:names:tc:SAML:2.0:bindings:URL-Encoding:DEFLATE", safe="")
    assert isinstance(logout_service.take_query(f"{query}&SAMLEncoding={encoding}" + "&other=1" * 27), LogoutRequest)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"<a/>", Fault.MALFORMED),
        (zlib.compress(b"<a/>")[2:-5], Fault.MALFORMED),
        (zlib.compress(b"<a/>")[2:-4] + b"more", Fault.MALFORMED),
        (zlib.compress(b" " * 300_000_000)[2:-4][:190_000], Fault.TOO_LARGE),
    ],
)
def test_broken_or_unbounded_deflate_is_refused(data: bytes, fault: Fault) -> None:
    good = quote(base64.b64encode(zlib.compress(b"<a/>")[2:-4]), safe="")
    assert read_query(f"SAMLRequest={good}&SigAlg=x&Signature=AAAA").xml == b"<a/>"
    with pytest.raises(SamlError) as refusal:
        read_query(f"SAMLRequest={quote(base64.b64encode(data), safe='')}&SigAlg=x&Signature=AAAA")
    assert refusal.value.reason is fault


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("!", Fault.MALFORMED),
        ("A" * 262_148, Fault.TOO_LARGE),
        (base64.b64encode(b"<a").decode(), Fault.MALFORMED),
        (base64.b64encode(b"<!DOCTYPE a><a/>").decode(), Fault.FORBIDDEN_XML),
        (base64.b64encode(f'<x:LogoutRequest xmlns:x="{SAMLP}" Version="2.0"/>'.encode()).decode(), Fault.STRUCTURE),
        (base64.b64encode(f'<x:LogoutRequest xmlns:x="{SAMLP}" ID="a"/>'.encode()).decode(), Fault.STRUCTURE),
    ],
)
def test_forms_that_are_no_message_are_refused(logout_service: LogoutService, message: str, fault: Fault) -> None:
    with pytest.raises(SamlError) as refusal:
        logout_service.take_form({"SAMLRequest": message})
    assert refusal.value.reason is fault
    assert isinstance(logout_service.take_form(logout_service.request.form(logout_service.key)), LogoutRequest)


@pytest.mark.parametrize("binding", BINDINGS)
def test_relay_state_is_returned_up_to_its_limit(logout_service: LogoutService, binding: str) -> None:
    asked = logout_service.take(logout_service.request.but(relay_state="x" * 1024), binding)
    assert isinstance(asked, LogoutRequest)
    assert asked.relay_state == "x" * 1024
    with pytest.raises(SamlError) as refusal:
        logout_service.take(logout_service.request.but(relay_state="x" * 1025), binding)
    assert refusal.value.reason is Fault.TOO_LARGE


@pytest.mark.parametrize("binding", BINDINGS)
def test_used_message_is_remembered_until_it_expires(logout_service: LogoutService, binding: str) -> None:
    message = logout_service.request
    ahead = dataclasses.replace(logout_service.service, clock=lambda: NOW + logout_service.service.clock_skew)
    skew = logout_service.service.clock_skew
    kept: list[float] = []

    class Noting(MemoryState):
        def add(self, key: str, value: Any, ttl: float, **more: Any) -> bool:
            kept.append(ttl)
            return super().add(key, value, ttl, **more)

    asked = dataclasses.replace(logout_service, service=ahead, state=Noting("tests")).take(message, binding)
    assert isinstance(asked, LogoutRequest)
    # The other node's clock is as far behind as this one's is ahead, and it allows the skew besides.
    assert ahead.clock() + kept[0] == NOW + 300 + 2 * skew == asked.ends


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((SUCCESS,), "success"),
        ((SUCCESS, PARTIAL), "partial"),
        ((RESPONDER, PARTIAL), "partial"),
        ((RESPONDER,), "failed"),
        ((RESPONDER, SUCCESS), "failed"),
    ],
)
def test_answer_to_our_request_reports_the_outcome(
    logout_service: LogoutService, binding: str, statuses: tuple[str, ...], outcome: str
) -> None:
    message = logout_service.response(logout_service.begin()).but(statuses=statuses)
    found = logout_service.take(message, binding)
    assert isinstance(found, LogoutResponse)
    assert (found.outcome, found.trust.name) == (outcome, "okta")
    with pytest.raises(SamlError) as refusal:
        logout_service.take(message.but(message_id="_another"), binding)
    assert refusal.value.reason is Fault.IN_RESPONSE_TO


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"relay_state": None}, Fault.RELAY_STATE),
        ({"relay_state": "other"}, Fault.RELAY_STATE),
        ({"in_response_to": "_other"}, Fault.IN_RESPONSE_TO),
        ({"signed": False}, Fault.NOT_SIGNED),
        ({"parameter": "SAMLRequest"}, Fault.STRUCTURE),
        ({"destination": None}, Fault.DESTINATION),
        ({"issued": -361}, Fault.EXPIRED),
    ],
)
def test_wrong_answer_does_not_spoil_the_right_one(
    logout_service: LogoutService, binding: str, changes: dict[str, object], fault: Fault
) -> None:
    genuine = logout_service.response(logout_service.begin())
    with pytest.raises(SamlError) as refusal:
        logout_service.take(genuine.but(**changes, message_id="_wrong"), binding)
    assert refusal.value.reason is fault
    assert isinstance(logout_service.take(genuine, binding), LogoutResponse)


def test_another_contact_center_cannot_answer(logout_service: LogoutService, build: Build) -> None:
    other = LogoutService(build(name="beta"), logout_service.key, logout_service.state)
    begun = logout_service.begin()
    with pytest.raises(SamlError) as refusal:
        other.take(logout_service.response(begun).but(destination=other.service.slo_url), "post")
    assert refusal.value.reason is Fault.OTHER_CONTACT_CENTER
    assert isinstance(logout_service.take(logout_service.response(begun), "post"), LogoutResponse)


def test_our_request_is_signed_and_names_the_session(logout_service: LogoutService) -> None:
    begun = logout_service.begin()
    assert begun.binding == "redirect"
    root, relay_state = sent(begun)
    assert root.get("Destination") == SLO
    assert root.get("NotOnOrAfter")
    assert root.findtext(f"{{{SAMLP}}}SessionIndex") == "session-1"
    name_id = root.find(f"{{{SAML}}}NameID")
    assert name_id is not None
    assert (name_id.text, dict(name_id.attrib)) == ("ann@acme.example", {"Format": EMAIL})
    assert len(relay_state) >= 43
    # Read back with our own certificate, as the provider does.
    message = read_query(urlsplit(begun.location).query)
    message.verify(_own_keys(logout_service.service))
    with pytest.raises(SamlError):
        message.verify(trust_of(logout_service.service).keys)
    referee = OneLogin_Saml2_Logout_Request
    assert referee.get_nameid(etree.tostring(root)) == "ann@acme.example"
    assert referee.get_session_indexes(etree.tostring(root)) == ["session-1"]


def _own_keys(service: ServiceProvider) -> tuple[xmlsec.Key, ...]:
    assert service.keys.signing is not None
    return (xmlsec.Key.from_memory(service.keys.signing.certificate.encode(), constants.KeyDataFormatCertPem, None),)


@pytest.mark.parametrize("evil", ["<saml:x/>", "a&b", 'a"b', "</samlp:SessionIndex><samlp:SessionIndex>x", "&lt;"])
def test_names_and_indexes_are_escaped(logout_service: LogoutService, evil: str) -> None:
    session = dataclasses.replace(SESSION, name_id=NameId(evil, "", evil, evil).text, session_index=evil)
    root, _ = sent(
        begin_logout(logout_service.service, trust_of(logout_service.service), logout_service.state, session)
    )
    assert root.findtext(f"{{{SAML}}}NameID") == evil
    assert [element.text for element in root.findall(f"{{{SAMLP}}}SessionIndex")] == [evil]
    name_id = root.find(f"{{{SAML}}}NameID")
    assert name_id is not None
    assert dict(name_id.attrib) == {"NameQualifier": evil, "SPNameQualifier": evil}


def test_provider_with_post_only_gets_a_form(logout_service: LogoutService, build: Build, key: SigningKey) -> None:
    metadata = provider_metadata(IDP, SSO, (key.certificate,), slo_url=SLO, slo_bindings=("HTTP-POST",))
    service = build(metadata=metadata)
    begun = begin_logout(service, trust_of(service), logout_service.state, SESSION)
    assert (begun.binding, begun.location) == ("post", SLO)
    root, relay_state = sent(begun)
    assert relay_state
    assert root[1].tag == "{http://www.w3.org/2000/09/xmldsig#}Signature"


def test_single_logout_requires_endpoint_key_and_name_id(
    logout_service: LogoutService, build: Build, key: SigningKey
) -> None:
    def possible(service: ServiceProvider, session: LoginSession = SESSION) -> bool:
        return can_log_out(service, trust_of(service), session)

    assert possible(logout_service.service)
    assert not possible(build(single_logout=False))
    assert not possible(build(metadata=provider_metadata(IDP, SSO, (key.certificate,))))
    assert not possible(build(signs=False))
    assert not possible(logout_service.service, dataclasses.replace(SESSION, name_id=""))


@pytest.mark.parametrize("binding", BINDINGS)
def test_our_answer_goes_where_the_provider_wants_answers(logout_service: LogoutService, binding: str) -> None:
    asked = logout_service.take(logout_service.request.but(relay_state="theirs", message_id="_x"), binding)
    assert isinstance(asked, LogoutRequest)
    answered = answer(logout_service.service, asked)
    assert answered is not None
    assert answered.binding == binding
    assert answered.location.partition("?")[0] == SLO
    root, relay_state = sent(answered)
    assert (root.get("InResponseTo"), root.get("Destination"), relay_state) == ("_x", SLO, "theirs")
    status = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
    assert status is not None
    assert status.get("Value") == SUCCESS
    encoded = base64.b64encode(etree.tostring(root)).decode()
    referee = OneLogin_Saml2_Logout_Response(trust_of(logout_service.service).toolkit, encoded)
    assert (referee.get_status(), referee.get_in_response_to()) == (SUCCESS, "_x")


def test_answers_use_the_response_location(logout_service: LogoutService, build: Build, key: SigningKey) -> None:
    metadata = provider_metadata(IDP, SSO, (key.certificate,), slo_url=SLO)
    own = metadata.replace(f'Location="{SLO}"', f'Location="{SLO}" ResponseLocation="{SLO}/answers?x=1"')
    service = build(metadata=own)
    asked = LogoutService(service, key, logout_service.state).take(logout_service.request, "redirect")
    assert isinstance(asked, LogoutRequest)
    answered = answer(service, asked)
    assert answered is not None
    assert answered.location.startswith(f"{SLO}/answers?x=1&SAMLResponse=")


def test_no_answer_without_key_or_address(logout_service: LogoutService, build: Build, key: SigningKey) -> None:
    asked = logout_service.take(logout_service.request, "redirect")
    assert isinstance(asked, LogoutRequest)
    assert answer(logout_service.service, asked) is not None
    assert answer(build(signs=False), asked) is None
    silent = build(metadata=provider_metadata(IDP, SSO, (key.certificate,)))
    assert answer(silent, dataclasses.replace(asked, trust=trust_of(silent))) is None


@pytest.mark.parametrize("text", ["", "[]", '["a"]', '["a","b","c",1]', '{"a":1}'])
def test_only_a_name_id_is_read_as_one(text: str) -> None:
    assert NameId.of_text(ANN.text) == ANN
    with pytest.raises(ValueError, match=r"NameID|Expecting value"):
        NameId.of_text(text)
