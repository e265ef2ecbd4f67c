"""What we send for single logout: python3-saml builds it, here it is addressed, signed and remembered."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from lxml import etree
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.logout_response import OneLogin_Saml2_Logout_Response

from .documents import SAML, as_instant
from .errors import Fault, SamlError
from .name_ids import NameId
from .outgoing import form_field, sign_message
from .redirect import Kind, location
from .requests import digest, reference_of

if TYPE_CHECKING:
    from ..chain.outcomes import LoginSession
    from ..chain.protocols import Json, StateStore
    from .logout import LogoutAsked
    from .metadata import Endpoint
    from .settings import ServiceProvider
    from .trust import Trust

REQUEST_AGE = 300
"""Seconds for which a request of ours is good (saml-core 3.7.1, NotOnOrAfter)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Where the browser carries a message of ours.

    :param location: for ``redirect`` the whole address, for ``post`` where the form goes.
    :param fields: of that form.
    :param reference: of a request: a short name for it, which its answer has too.
    """

    binding: Literal["redirect", "post"]
    location: str
    fields: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""


def can_log_out(service: ServiceProvider, trust: Trust, session: LoginSession) -> bool:
    """Tell whether the provider can be asked to end its session too: it offers that, and we are able to sign."""
    offered = trust.settings.single_logout and bool(trust.metadata.single_logout)
    return offered and service.signing is not None and bool(session.name_id)


def begin_logout(service: ServiceProvider, trust: Trust, state: StateStore, session: LoginSession) -> Outgoing:
    """Make a LogoutRequest for the provider that has vouched for a session, and keep what its answer must match.

    :param session: one that :func:`can_log_out` is true of; it has ended here.
    :raises StateUnavailable: if it cannot be kept.
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
        # python3-saml fills in the format that our metadata ask for; the provider has used none.
        named.attrib.pop("Format", None)
    root.set("NotOnOrAfter", as_instant(service.clock() + REQUEST_AGE))
    relay_state = secrets.token_urlsafe(32)
    pending: Json = {
        "contact_center": service.contact_center,
        "provider": trust.name,
        "relay_state_hash": digest(relay_state),
    }
    state.put(_key(root.get("ID", "")), pending, service.request_lifetime)
    binding, endpoint = _endpoint(trust, "redirect")
    outgoing = _outgoing(service, binding, endpoint.location, "SAMLRequest", root, relay_state)
    return replace(outgoing, reference=reference_of(root.get("ID", "")))


def answered(service: ServiceProvider, trust: Trust, state: StateStore, request_id: str, relay_state: str) -> None:
    """Take away the request that a provider says it answers.

    :raises SamlError: unless it is one of ours to this provider, not answered yet, with the RelayState that went along.
    """
    found: Any = state.get(_key(request_id)) if request_id else None
    if found is None:
        raise SamlError(Fault.IN_RESPONSE_TO, f"no logout that was begun here has the id {request_id!r}")
    if (found["contact_center"], found["provider"]) != (service.contact_center, trust.name):
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the logout was begun with {found['provider']} of {found['contact_center']}, not with {trust.name} of "
            f"{service.contact_center}",
        )
    if not hmac.compare_digest(digest(relay_state), found["relay_state_hash"]):
        raise SamlError(Fault.RELAY_STATE, "RelayState is not the one that went with the request")
    if state.take(_key(request_id)) is None:
        raise SamlError(Fault.REPLAYED, f"logout {request_id!r} has been answered before")


def answer(service: ServiceProvider, asked: LogoutAsked) -> Outgoing | None:
    """Make the answer to a provider's request: all it has asked for is done.

    :returns: ``None`` where nothing can be answered: the provider has no address for it, or we have no key.
    """
    if service.signing is None or not asked.trust.metadata.single_logout:
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
    if binding == "redirect" and service.signing is not None:
        return Outgoing(binding, location(address, kind, xml.encode(), relay_state, service.signing))
    fields: dict[str, str] = {kind: form_field(sign_message(xml, service))}
    if relay_state:
        fields["RelayState"] = relay_state
    return Outgoing("post", address, fields)


def _parsed(xml: str | bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    return etree.fromstring(xml, parser)


def _key(request_id: str) -> str:
    return f"saml-logout:{digest(request_id)}"
