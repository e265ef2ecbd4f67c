"""Single logout (saml-profiles 4.4): requests and responses in both directions.

Every message must be signed, and only signed bytes are read: the octets of the query, or the signed element.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lxml import etree
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.logout_response import OneLogin_Saml2_Logout_Response

from ..errors import StateUnavailable
from .documents import (
    DS,
    SAML,
    SAMLP,
    ForbiddenXml,
    MalformedXml,
    as_instant,
    instant_of,
    local_name,
    parse,
    protocol_schema,
    text_of,
)
from .encryption import decrypt_name_id
from .errors import Fault, SamlError
from .gate import SUCCESS, check_head, check_ids
from .requests import ENTITY, NameId, digest, reference_of, use_once
from .signatures import check_place, check_signature, covered, read_form
from .transport import (
    LIMITS,
    Kind,
    RedirectMessage,
    check_relay_state,
    decode,
    form_field,
    location,
    read_query,
    sign_message,
)
from .trust import trusts_named
from .verify import refuse_weak

if TYPE_CHECKING:
    from ..chain.outcomes import LoginSession
    from ..chain.protocols import Json, StateStore
    from .metadata import Endpoint
    from .requests import Login
    from .service_provider import ServiceProvider
    from .trust import Trust

Outcome: TypeAlias = Literal["success", "partial", "failed"]

LONGEST_AGE = 300
"""Seconds for which a logout message is accepted after its IssueInstant."""

REQUEST_AGE = 300
"""Seconds for which a request of ours is valid (saml-core 3.7.1, NotOnOrAfter)."""

_ROOTS: dict[Kind, str] = {"SAMLRequest": "LogoutRequest", "SAMLResponse": "LogoutResponse"}
_PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A verified LogoutRequest of a provider.

    :param session_indexes: the sessions to end; none: all of this NameID.
    :param relay_state: to be returned with the response.
    :param binding: how it arrived.
    :param issued: unix time.
    :param ends: unix time from which no node accepts it.
    :param spent: key of the state's record that it was used.
    """

    trust: Trust
    request_id: str
    name_id: NameId
    session_indexes: tuple[str, ...]
    relay_state: str
    binding: Literal["redirect", "post"]
    issued: float
    ends: float
    spent: str

    def allow_resend(self, state: StateStore) -> None:
        """Delete the record of its use: the logout failed, and the provider may send the request again."""
        with suppress(StateUnavailable):
            state.delete(self.spent)


@dataclass(frozen=True, slots=True)
class LogoutResponse:
    """A provider's verified LogoutResponse to a request of ours.

    :param outcome: ``partial`` if another application may still have a session, ``failed`` if none was ended.
    :param reference: :func:`~.requests.reference_of` the request that it answers.
    """

    trust: Trust
    outcome: Outcome
    reference: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of ours for the browser to send.

    :param location: for ``redirect`` the whole URL, for ``post`` the action of the form.
    :param fields: of the form.
    :param reference: of a request: :func:`~.requests.reference_of` it.
    """

    binding: Literal["redirect", "post"]
    location: str
    fields: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True, slots=True)
class _Message:
    """A parsed, unverified logout message.

    :param query: of the Redirect binding, else ``None``.
    """

    kind: Kind
    root: etree._Element
    relay_state: str
    query: RedirectMessage | None


def receive(
    service: ServiceProvider,
    state: StateStore,
    kind: Kind,
    *,
    raw_query: str | None = None,
    form: tuple[str, str] | None = None,
) -> LogoutRequest | LogoutResponse:
    """Validate and consume a logout message (saml-profiles 4.4.4).

    :param kind: the form field of the message; ignored with a query.
    :param raw_query: of a GET, not decoded.
    :param form: of a POST: the message in base64, and ``RelayState`` or empty.
    :raises SamlError: if any check fails.
    :raises BackendUnavailable: if the state times out, or the provider's metadata were never fetched.
    """
    try:
        message = _read(kind, raw_query, form or ("", ""))
        trust = _sender(service, message)
        try:
            root = _verified(message, trust)
            if message.kind == "SAMLRequest":
                # After the signature check, so that only the provider can have encrypted it.
                decrypt_name_id(root, trust, service.keys.decryption)
            _check(root, service, trust)
            seconds = _last_moment(root, service) - service.clock()
            spent = use_once(state, "saml-logout-message", trust.entity_id, root.get("ID", ""), seconds)
            if message.kind == "SAMLRequest":
                return _read_request(root, message, service, trust, spent)
            outcome = _read_outcome(root, message, service, trust, state)
            return LogoutResponse(trust, outcome, reference_of(root.get("InResponseTo", "")))
        except SamlError as error:
            error.provider = trust.name
            raise
    except MalformedXml as error:
        raise SamlError(Fault.MALFORMED, f"the message is {error}") from error
    except ForbiddenXml as error:
        raise SamlError(Fault.FORBIDDEN_XML, f"the message has {error}") from error


def _read(kind: Kind, raw_query: str | None, form: tuple[str, str]) -> _Message:
    """Parse the message and check its root element and IDs."""
    query = None if raw_query is None else read_query(raw_query)
    if query is None:
        xml, relay_state = decode(form[0]), check_relay_state(form[1])
    else:
        kind, xml, relay_state = query.kind, query.xml, query.relay_state
    root = parse(xml, LIMITS)
    if root.tag != f"{{{SAMLP}}}{_ROOTS[kind]}":
        raise SamlError(Fault.STRUCTURE, f"{kind} holds a {local_name(root)}, not a {_ROOTS[kind]}")
    check_ids(root.iter())
    check_head(root)
    return _Message(kind, root, relay_state, query)


def _sender(service: ServiceProvider, message: _Message) -> Trust:
    """Return the provider that the message claims as its issuer. The signature is checked later."""
    claimed = _issuer(message.root)
    found = trusts_named(service.providers.values(), claimed)
    if len(found) != 1:
        raise SamlError(
            Fault.ISSUER, f"{len(found)} providers of {service.contact_center} have the entity ID {claimed!r}, not one"
        )
    return found[0]


def _issuer(root: etree._Element) -> str:
    found = root.findall(f"{{{SAML}}}Issuer")
    if len(found) != 1 or found[0].get("Format", ENTITY) != ENTITY:
        raise SamlError(Fault.ISSUER, f"{len(found)} Issuer elements, not one with the format entity")
    return text_of(found[0])


def _verified(message: _Message, trust: Trust) -> etree._Element:
    """Check the signature and return the signed message."""
    signatures = [element for element in message.root.iter() if local_name(element) == "Signature"]
    if message.query is not None:
        if signatures:
            # saml-bindings 3.4.4.1: it must be removed. The query is signed instead.
            raise SamlError(Fault.SIGNATURE_FORM, "a Signature inside a message of the Redirect binding")
        message.query.verify(trust.keys, allow_sha1=trust.settings.allow_sha1)
        return message.root
    if not signatures:
        raise SamlError(Fault.NOT_SIGNED, "the message is not signed: configure the provider to sign logout messages")
    (signature, *more) = signatures
    if more or signature.tag != f"{{{DS}}}Signature" or signature.getparent() is not message.root:
        raise SamlError(Fault.SIGNATURE_FORM, "not exactly one Signature as a child of the message")
    check_place(signature)
    form = read_form(signature, message.root)
    refuse_weak(form, trust)
    check_signature(form, trust.keys)
    return covered(form)


def _check(root: etree._Element, service: ServiceProvider, trust: Trust) -> None:
    """Check a verified message against the schema, our address and the clock (saml-core 3.2.1, 3.2.2, 3.7.1)."""
    if not protocol_schema().validate(root):
        raise SamlError(Fault.SCHEMA, "the message is not valid against saml-schema-protocol-2.0")
    if _issuer(root) != trust.entity_id:
        raise SamlError(Fault.ISSUER, f"issued by {_issuer(root)!r}, not by {trust.entity_id!r}")
    if root.get("Destination") != service.slo_url:
        raise SamlError(Fault.DESTINATION, f"Destination is {root.get('Destination')!r}, not {service.slo_url!r}")
    now = service.clock()
    trust.check_valid(now)
    issued = instant_of(root, "IssueInstant")
    if now < issued - service.clock_skew:
        raise SamlError(Fault.NOT_YET_VALID, f"IssueInstant is {as_instant(issued)}; our clock says {as_instant(now)}")
    if now >= _end(root) + service.clock_skew:
        raise SamlError(
            Fault.EXPIRED, f"the message expired at {as_instant(_end(root))}; our clock says {as_instant(now)}"
        )


def _end(root: etree._Element) -> float:
    """Return when the message expires: ``LONGEST_AGE`` after it was issued, or earlier if it says so."""
    oldest = instant_of(root, "IssueInstant") + LONGEST_AGE
    if root.get("NotOnOrAfter") is None:
        return oldest
    return min(oldest, instant_of(root, "NotOnOrAfter"))


def _last_moment(root: etree._Element, service: ServiceProvider) -> float:
    # Our clock may be one skew ahead, and another node's one skew behind.
    return _end(root) + 2 * service.clock_skew


def _read_request(
    root: etree._Element, message: _Message, service: ServiceProvider, trust: Trust, spent: str
) -> LogoutRequest:
    name_id = root.find(f"{{{SAML}}}NameID")
    if name_id is None:
        raise SamlError(Fault.NAME_ID, "the request has no NameID")
    return LogoutRequest(
        trust=trust,
        request_id=root.get("ID", ""),
        name_id=NameId.read(name_id, provider=trust.entity_id, ours=service.entity_id),
        session_indexes=tuple(text_of(index) for index in root.findall(f"{{{SAMLP}}}SessionIndex")),
        relay_state=message.relay_state,
        binding="post" if message.query is None else "redirect",
        issued=instant_of(root, "IssueInstant"),
        ends=_last_moment(root, service),
        spent=spent,
    )


def _read_outcome(
    root: etree._Element, message: _Message, service: ServiceProvider, trust: Trust, state: StateStore
) -> Outcome:
    """Consume the request that a response answers and return the outcome (saml-core 3.2.2)."""
    _take_request(service, trust, state, root.get("InResponseTo", ""), message.relay_state)
    codes = [code.get("Value", "") for code in root.iter(f"{{{SAMLP}}}StatusCode")]
    if _PARTIAL in codes[:2]:
        return "partial"
    return "success" if codes[:1] == [SUCCESS] else "failed"


def _take_request(service: ServiceProvider, trust: Trust, state: StateStore, request_id: str, relay_state: str) -> None:
    """Delete the stored request that a response answers.

    :raises SamlError: unless it is a pending request of ours to this provider, with the same RelayState.
    """
    found: Any = state.get(_request_key(request_id)) if request_id else None
    if found is None:
        raise SamlError(Fault.IN_RESPONSE_TO, f"no pending logout has the request ID {request_id!r}")
    if (found["contact_center"], found["provider"]) != (service.contact_center, trust.name):
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the logout began with {found['provider']} of {found['contact_center']}, not with {trust.name} of "
            f"{service.contact_center}",
        )
    if not hmac.compare_digest(digest(relay_state), found["relay_state_hash"]):
        raise SamlError(Fault.RELAY_STATE, "RelayState does not match the request")
    if state.take(_request_key(request_id)) is None:
        raise SamlError(Fault.REPLAYED, f"logout {request_id!r} was already answered")


def can_log_out(service: ServiceProvider, trust: Trust, session: LoginSession) -> bool:
    """Return whether the provider offers single logout and we have a key to sign the request."""
    offered = trust.settings.single_logout and bool(trust.metadata.single_logout)
    return offered and service.keys.signing is not None and bool(session.name_id)


def begin_logout(service: ServiceProvider, trust: Trust, state: StateStore, session: LoginSession) -> Outgoing:
    """Make a LogoutRequest for the provider of a session, and store what the response must match.

    :param session: already ended here; :func:`can_log_out` is true for it.
    :raises StateUnavailable: if it cannot be stored.
    """
    name_id = NameId.of_text(session.name_id)
    built = OneLogin_Saml2_Logout_Request(
        trust.toolkit,
        name_id=name_id.value,
        session_index=escape(session.session_index) or None,
        nq=name_id.qualifier or None,
        name_id_format=name_id.format or None,
        spnq=name_id.sp_qualifier or None,
    )
    root = _parsed(built.get_xml())
    named = root.find(f"{{{SAML}}}NameID")
    if named is not None and not name_id.format:
        # python3-saml adds the format of our metadata, but the provider used none.
        named.attrib.pop("Format", None)
    root.set("NotOnOrAfter", as_instant(service.clock() + REQUEST_AGE))
    relay_state = secrets.token_urlsafe(32)
    pending: Json = {
        "contact_center": service.contact_center,
        "provider": trust.name,
        "relay_state_hash": digest(relay_state),
    }
    state.put(_request_key(root.get("ID", "")), pending, service.request_lifetime)
    binding, endpoint = _endpoint(trust, "redirect")
    outgoing = _outgoing(service, binding, endpoint.location, "SAMLRequest", root, relay_state)
    return replace(outgoing, reference=reference_of(root.get("ID", "")))


def answer(service: ServiceProvider, asked: LogoutRequest) -> Outgoing | None:
    """Make the LogoutResponse (Success) to a provider's request.

    :returns: ``None`` if the provider has no address for it, or we have no signing key.
    """
    if service.keys.signing is None or not asked.trust.metadata.single_logout:
        return None
    built = OneLogin_Saml2_Logout_Response(asked.trust.toolkit)
    built.build(escape(asked.request_id))
    binding, endpoint = _endpoint(asked.trust, asked.binding)
    root = _parsed(built.get_xml())
    return _outgoing(service, binding, endpoint.response_location, "SAMLResponse", root, asked.relay_state)


def _endpoint(trust: Trust, wanted: Literal["redirect", "post"]) -> tuple[Literal["redirect", "post"], Endpoint]:
    other: Literal["redirect", "post"] = "post" if wanted == "redirect" else "redirect"
    offered = trust.metadata.single_logout
    return (wanted, offered[wanted]) if wanted in offered else (other, offered[other])


def _outgoing(
    service: ServiceProvider,
    binding: Literal["redirect", "post"],
    address: str,
    kind: Kind,
    root: etree._Element,
    relay_state: str,
) -> Outgoing:
    root.set("Destination", address)
    xml = etree.tostring(root, encoding="unicode")
    signing = service.keys.signing
    if binding == "redirect" and signing is not None:
        return Outgoing(binding, location(address, kind, xml.encode(), relay_state, signing))
    fields: dict[str, str] = {kind: form_field(sign_message(xml, service))}
    if relay_state:
        fields["RelayState"] = relay_state
    return Outgoing("post", address, fields)


def _parsed(xml: str | bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    return etree.fromstring(xml, parser)


def _request_key(request_id: str) -> str:
    return f"saml-logout:{digest(request_id)}"


def note_logout(state: StateStore, service: ServiceProvider, asked: LogoutRequest, login_window: float) -> None:
    """Record which user a provider's request logs out, until no earlier login of theirs can still be pending.

    Each request has its own record, so that parallel requests do not overwrite each other.

    :param login_window: longest time in seconds from an accepted assertion to its login session.
    :raises StateUnavailable: if it cannot be stored.
    """
    named = (service.contact_center, asked.trust.name, asked.name_id.text)
    lifetime = max(asked.ends - service.clock(), 0.0) + login_window
    value: Any = {"issued": asked.issued, "session_indexes": list(asked.session_indexes)}
    state.put(_key("saml-logged-out", *named, asked.request_id), value, lifetime, index=[_term(*named)])


def check_not_logged_out(state: StateStore, service: ServiceProvider, login: Login) -> None:
    """Check that the provider did not log this user out while the login was pending.

    Times of the provider's clock are compared: an assertion issued after the request is a new login.

    :raises SamlError: if it did.
    :raises StateUnavailable: if the state cannot be read.
    """
    if not login.name_id:
        return
    for key in state.find(_term(service.contact_center, login.provider, login.name_id)):
        noted: Any = state.get(key)
        if noted is None or login.issued > noted["issued"]:
            continue
        if not noted["session_indexes"] or login.session_index in noted["session_indexes"]:
            raise SamlError(
                Fault.LOGGED_OUT,
                "the provider logged this user out before the login was complete",
                provider=login.provider,
            )


def _term(contact_center: str, provider: str, name_id: str) -> str:
    return _key("saml-logged-out-name", contact_center, provider, name_id)


def _key(kind: str, *parts: str) -> str:
    return f"{kind}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"
