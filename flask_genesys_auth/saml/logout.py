"""Single logout (saml-profiles 4.4): what a provider asks of us, what we ask of it, and the answers.

Either side signs all it says, and what counts is what the signature covers: the query's octets, or the element.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import StateUnavailable
from .decryption import reveal_child
from .documents import DS, SAML, SAMLP, ForbiddenXml, MalformedXml, as_instant, instant, local_name, parse, text_of
from .errors import Fault, SamlError
from .gate import LARGEST_ENCODED, LIMITS, SUCCESS, check_ids
from .logout_requests import answered
from .name_ids import NameId
from .redirect import LONGEST_RELAY_STATE, Kind, RedirectMessage, read_query
from .requests import reference_of
from .senders import named
from .signatures import read_form
from .verify import check_signature, covered, protocol_schema, refuse_weak

if TYPE_CHECKING:
    from lxml import etree

    from ..chain.protocols import StateStore
    from .settings import ServiceProvider
    from .trust import Trust

Outcome: TypeAlias = Literal["success", "partial", "failed"]

LONGEST_AGE = 300
"""Seconds after which a logout message that names no end of its own is too old."""

_ROOTS: dict[Kind, str] = {"SAMLRequest": "LogoutRequest", "SAMLResponse": "LogoutResponse"}
_PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"
_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """A provider asks us to end somebody's sessions; proven.

    :param session_indexes: those that end; none: all of this NameID.
    :param relay_state: to be handed back.
    :param binding: ``redirect`` or ``post``, by which it came.
    :param issued: unix time.
    :param ends: unix time at which no node would accept it any more.
    :param spent: the key under which it is noted as used.
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

    def let_in_again(self, state: StateStore) -> None:
        """Forget that it was used: nothing came of it, and the provider is asked to send it again."""
        with suppress(StateUnavailable):
            state.delete(self.spent)


@dataclass(frozen=True, slots=True)
class LogoutAnswered:
    """A provider says what came of the logout that we have asked it for; proven.

    :param outcome: ``partial`` if another application may still be signed in, ``failed`` if nothing was ended.
    :param reference: the short name of the request that this answers.
    """

    trust: Trust
    outcome: Outcome
    reference: str


@dataclass(frozen=True, slots=True)
class _Message:
    """A logout message as it came.

    :param query: how it came by the Redirect binding, or ``None``.
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
) -> LogoutAsked | LogoutAnswered:
    """Take a logout message as what it is worth (saml-profiles 4.4.4).

    :param kind: the form's field that the message came in; a query says so itself.
    :param raw_query: of a GET, as it was sent.
    :param form: of a POST: the message in base64, and ``RelayState`` or nothing.
    :raises SamlError: whatever is wrong with it.
    :raises BackendUnavailable: if the state does not answer, or the provider's metadata were never fetched.
    """
    try:
        message = _read(kind, raw_query, form or ("", ""))
        trust = _sender(service, message)
        try:
            root = _proven(message, trust)
            if message.kind == "SAMLRequest":
                # Nobody but the provider has encrypted what is in there: it is signed.
                reveal_child(root, trust, service.decryption_keys)
            _check(root, service, trust)
            spent = _spend(root, service, trust, state)
            if message.kind == "SAMLRequest":
                return _asked(root, message, service, trust, spent)
            outcome = _answered(root, message, service, trust, state)
            return LogoutAnswered(trust, outcome, reference_of(root.get("InResponseTo", "")))
        except SamlError as error:
            error.provider = trust.name
            raise
    except MalformedXml as error:
        raise SamlError(Fault.MALFORMED, f"the message is {error}") from error
    except ForbiddenXml as error:
        raise SamlError(Fault.FORBIDDEN_XML, f"the message has {error}") from error


def _read(kind: Kind, raw_query: str | None, form: tuple[str, str]) -> _Message:
    """Parse the message and check its form: the root that its field is for, IDs that mean one element."""
    query = None if raw_query is None else read_query(raw_query)
    if query is None:
        xml, relay_state = _decoded(form[0]), form[1]
        if len(relay_state) > LONGEST_RELAY_STATE:
            raise SamlError(Fault.TOO_LARGE, f"RelayState has {len(relay_state)} characters")
    else:
        kind, xml, relay_state = query.kind, query.xml, query.relay_state
    root = parse(xml, LIMITS)
    if root.tag != f"{{{SAMLP}}}{_ROOTS[kind]}":
        raise SamlError(Fault.STRUCTURE, f"{kind} holds a {local_name(root)}, not a {_ROOTS[kind]}")
    check_ids(root.iter())
    if not root.get("ID"):
        raise SamlError(Fault.STRUCTURE, f"{local_name(root)} without an ID")
    if root.get("Version") != "2.0":
        raise SamlError(Fault.STRUCTURE, f"{local_name(root)} is not of version 2.0")
    return _Message(kind, root, relay_state, query)


def _decoded(encoded: str) -> bytes:
    if len(encoded) > LARGEST_ENCODED:
        raise SamlError(Fault.TOO_LARGE, f"{len(encoded)} characters, more than {LARGEST_ENCODED}")
    try:
        return base64.b64decode("".join(encoded.split()).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise SamlError(Fault.MALFORMED, "the message is not in base64") from error


def _sender(service: ServiceProvider, message: _Message) -> Trust:
    """Return the provider of this contact center that the message says it comes from: for its keys to show."""
    claimed = _issuer(message.root)
    found = named(service.providers.values(), claimed)
    if len(found) != 1:
        raise SamlError(Fault.ISSUER, f"{len(found)} providers of {service.contact_center} are {claimed!r}, not one")
    return found[0]


def _issuer(root: etree._Element) -> str:
    found = root.findall(f"{{{SAML}}}Issuer")
    if len(found) != 1 or found[0].get("Format", _ENTITY) != _ENTITY:
        raise SamlError(Fault.ISSUER, f"{len(found)} Issuer elements, not one that names an entity")
    return text_of(found[0])


def _proven(message: _Message, trust: Trust) -> etree._Element:
    """Check the signature; return the message as the signature covers it."""
    signatures = [element for element in message.root.iter() if local_name(element) == "Signature"]
    if message.query is not None:
        if signatures:
            # saml-bindings 3.4.4.1: it must have been removed, and it would vouch for nothing here.
            raise SamlError(Fault.SIGNATURE_FORM, "a Signature inside a message of the Redirect binding")
        message.query.verify(trust)
        return message.root
    if not signatures:
        raise SamlError(Fault.NOT_SIGNED, "the message is not signed: let the provider sign logout messages")
    (signature, *more) = signatures
    issuer = signature.getprevious()
    if more or signature.tag != f"{{{DS}}}Signature" or signature.getparent() is not message.root:
        raise SamlError(Fault.SIGNATURE_FORM, "not exactly one Signature, which is a child of the message")
    if issuer is None or issuer.tag != f"{{{SAML}}}Issuer" or issuer.getprevious() is not None:
        raise SamlError(Fault.SIGNATURE_FORM, "a Signature that does not follow the Issuer")
    form = read_form(signature, message.root)
    refuse_weak(form, trust)
    check_signature(form, trust.keys)
    return covered(form)


def _check(root: etree._Element, service: ServiceProvider, trust: Trust) -> None:
    """Check a proven message against the schema, us and the clock (saml-core 3.2.1, 3.2.2, 3.7.1)."""
    if not protocol_schema().validate(root):
        raise SamlError(Fault.SCHEMA, "the message is not valid against saml-schema-protocol-2.0")
    if _issuer(root) != trust.entity_id:
        raise SamlError(Fault.ISSUER, f"issued by {_issuer(root)!r}, not by {trust.entity_id!r}")
    if root.get("Destination") != service.slo_url:
        raise SamlError(
            Fault.DESTINATION, f"Destination is {root.get('Destination')!r}, our address is {service.slo_url!r}"
        )
    now = service.clock()
    until = trust.metadata.valid_until
    if until is not None and now >= until:
        raise SamlError(Fault.METADATA_EXPIRED, f"the provider's metadata ended at {as_instant(until)}")
    issued = _instant_of(root, "IssueInstant")
    if now < issued - service.clock_skew:
        raise SamlError(Fault.NOT_YET_VALID, f"IssueInstant is {as_instant(issued)}, it is {as_instant(now)}")
    if now >= _end(root) + service.clock_skew:
        raise SamlError(Fault.EXPIRED, f"the message ended at {as_instant(_end(root))}, it is {as_instant(now)}")


def _end(root: etree._Element) -> float:
    """Return when the message ends: by its own word, but not later than it would have without one."""
    oldest = _instant_of(root, "IssueInstant") + LONGEST_AGE
    if root.get("NotOnOrAfter") is None:
        return oldest
    return min(oldest, _instant_of(root, "NotOnOrAfter"))


def _instant_of(root: etree._Element, attribute: str) -> float:
    try:
        return instant(root.get(attribute, ""))
    except ValueError as error:
        raise SamlError(Fault.CONDITIONS, f"{attribute}: {error}") from error


def _spend(root: etree._Element, service: ServiceProvider, trust: Trust, state: StateStore) -> str:
    """Let each message be used once: its id is kept until no node could accept it any more; return the key for it."""
    identifier = root.get("ID", "")
    digest = hashlib.sha256(f"{len(trust.entity_id)}:{trust.entity_id}{identifier}".encode()).hexdigest()
    key = f"saml-logout-message:{digest}"
    if not state.add(key, True, max(_last_moment(root, service) - service.clock(), 1.0)):
        raise SamlError(Fault.REPLAYED, f"message {identifier!r} was used before")
    return key


def _last_moment(root: etree._Element, service: ServiceProvider) -> float:
    # Our clock may be as far ahead as another node's is behind.
    return _end(root) + 2 * service.clock_skew


def _asked(root: etree._Element, message: _Message, service: ServiceProvider, trust: Trust, spent: str) -> LogoutAsked:
    name_id = root.find(f"{{{SAML}}}NameID")
    if name_id is None:
        raise SamlError(Fault.NAME_ID, "the request names nobody by a NameID")
    return LogoutAsked(
        trust=trust,
        request_id=root.get("ID", ""),
        name_id=NameId.read(name_id, provider=trust.entity_id, ours=service.entity_id),
        session_indexes=tuple(text_of(index) for index in root.findall(f"{{{SAMLP}}}SessionIndex")),
        relay_state=message.relay_state,
        binding="post" if message.query is None else "redirect",
        issued=_instant_of(root, "IssueInstant"),
        ends=_last_moment(root, service),
        spent=spent,
    )


def _answered(
    root: etree._Element, message: _Message, service: ServiceProvider, trust: Trust, state: StateStore
) -> Outcome:
    """Return how the logout ended that this answers, which must be one of ours (saml-core 3.2.2)."""
    answered(service, trust, state, root.get("InResponseTo", ""), message.relay_state)
    codes = [code.get("Value", "") for code in root.iter(f"{{{SAMLP}}}StatusCode")]
    if _PARTIAL in codes[:2]:
        return "partial"
    return "success" if codes[:1] == [SUCCESS] else "failed"
