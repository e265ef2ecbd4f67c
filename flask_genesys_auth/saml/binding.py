"""Bind a verified response to us, to the stored request and to the current time (saml-profiles 4.1.4.3, 4.1.4.5).

Stricter than common libraries: required values must be present, and names must be equal, not a prefix or substring.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping

from lxml import etree

from ..chain.protocols import StateStore
from ..config.names import lower_ascii
from .documents import SAML, ForbiddenXml, as_instant, instant_of, local_name, text_of
from .errors import Fault, SamlError
from .gate import SUCCESS
from .requests import ENTITY, TRANSIENT, Login, NameId, PendingLogin, use_once
from .service_provider import ServiceProvider
from .trust import Trust
from .verify import Verified

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"

_LONGEST_VALUE = 255
_VALUE, _NAME_ID = f"{{{SAML}}}AttributeValue", f"{{{SAML}}}NameID"


def bind(
    message: Verified, service: ServiceProvider, trust: Trust, request: PendingLogin | None, state: StateStore
) -> Login:
    """Check a verified message against our addresses, the stored request and the clock, and consume it.

    :param trust: the provider whose keys verified the message.
    :param request: the stored request; ``None`` for an unsolicited response, which needs ``allow_unsolicited``.
    :param state: records the ID of the assertion until it expires.
    :raises SamlError: at the first check that fails.
    :raises StateUnavailable: if the state cannot record the ID.
    """
    now = service.clock()
    try:
        trust.check_valid(now)
        _check_request(service, trust, request)
        _check_response(message.response, service, trust, request)
        issuer = _only(message.assertion, "Issuer", Fault.ISSUER)
        _check_issuer(issuer, trust)
        ends = min(
            _check_conditions(message.assertion, service, now),
            _check_confirmation(message.assertion, service, request, now),
        )
        statement = _only(message.assertion, "AuthnStatement", Fault.AUTHN_STATEMENT)
        _check_authentication(statement, service, trust, request)
        login = _read_login(message.assertion, service, trust, *_session_of(statement, service, now))
    except ForbiddenXml as error:
        raise SamlError(Fault.STRUCTURE, str(error)) from error
    # Until no node accepts it: our clock may be one skew ahead, and another node's one skew behind.
    seconds = ends + 2 * service.clock_skew - now
    use_once(state, "saml-assertion", trust.entity_id, message.assertion.get("ID", ""), seconds)
    return login


def _check_request(service: ServiceProvider, trust: Trust, request: PendingLogin | None) -> None:
    if request is None:
        if not trust.settings.allow_unsolicited:
            raise SamlError(
                Fault.UNSOLICITED, f"the message answers no request, and {trust.name} does not have allow_unsolicited"
            )
        return
    if request.contact_center != service.contact_center:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login began at {request.contact_center}, the message arrived at {service.contact_center}",
        )
    if request.provider != trust.name:
        raise SamlError(Fault.ISSUER, f"the login began with {request.provider}, not {trust.name}")


def _check_response(
    response: etree._Element, service: ServiceProvider, trust: Trust, request: PendingLogin | None
) -> None:
    status = response.find("{urn:oasis:names:tc:SAML:2.0:protocol}Status/*")
    if status is None or status.get("Value") != SUCCESS:
        raise SamlError(Fault.STATUS, "the signed status is not Success")
    _check_issuer(_only(response, "Issuer", Fault.ISSUER), trust)
    if response.get("Destination") != service.acs_url:
        raise SamlError(Fault.DESTINATION, f"Destination is {response.get('Destination')!r}, not {service.acs_url!r}")
    answered = response.get("InResponseTo")
    if answered is not None:
        _check_answer(answered, request, "Response")


def _check_answer(answered: str, request: PendingLogin | None, whose: str) -> None:
    """Check an ``InResponseTo``. An unsolicited message must not have one."""
    expected = "no request" if request is None else repr(request.request_id)
    if request is None or not hmac.compare_digest(answered.encode(), request.request_id.encode()):
        raise SamlError(Fault.IN_RESPONSE_TO, f"{whose} answers {answered!r}, not {expected}")


def _check_issuer(issuer: etree._Element, trust: Trust) -> None:
    found = text_of(issuer)
    if found != trust.entity_id or issuer.get("Format", ENTITY) != ENTITY:
        raise SamlError(Fault.ISSUER, f"issued by {found!r}, not by {trust.entity_id!r}")


def _check_conditions(assertion: etree._Element, service: ServiceProvider, now: float) -> float:
    """Check audience and times (saml-core 2.5). Return the unix time at which the conditions end."""
    conditions = _only(assertion, "Conditions", Fault.CONDITIONS)
    for condition in conditions:
        if condition.tag not in {
            f"{{{SAML}}}AudienceRestriction",
            f"{{{SAML}}}OneTimeUse",
            f"{{{SAML}}}ProxyRestriction",
        }:
            raise SamlError(Fault.CONDITIONS, f"unknown condition {condition.tag!s}")
    restrictions = conditions.findall(f"{{{SAML}}}AudienceRestriction")
    if not restrictions:
        raise SamlError(Fault.AUDIENCE, f"Audience is missing; it must be {service.entity_id!r}")
    for restriction in restrictions:
        audiences = [text_of(audience) for audience in restriction.findall(f"{{{SAML}}}Audience")]
        if service.entity_id not in audiences:
            raise SamlError(Fault.AUDIENCE, f"Audience is {', '.join(audiences)!r}, not {service.entity_id!r}")
    if conditions.get("NotBefore") is not None:
        begins = instant_of(conditions, "NotBefore")
        if now < begins - service.clock_skew:
            raise SamlError(Fault.NOT_YET_VALID, f"Conditions begin {_clocks(begins, now, service)}")
    return _end_of(conditions, service, now)


def _check_confirmation(
    assertion: etree._Element, service: ServiceProvider, request: PendingLogin | None, now: float
) -> float:
    """Check that one bearer confirmation is valid (saml-profiles 4.1.4.2). Return the latest expiry of all."""
    subject = _only(assertion, "Subject", Fault.CONFIRMATION)
    if request is None:
        for any_data in subject.iter(f"{{{SAML}}}SubjectConfirmationData"):
            if any_data.get("InResponseTo") is not None:
                _check_answer(any_data.get("InResponseTo", ""), None, "the assertion")
    refused: SamlError | None = None
    for confirmation in subject.findall(f"{{{SAML}}}SubjectConfirmation"):
        if confirmation.get("Method") != BEARER:
            continue
        data = confirmation.find(f"{{{SAML}}}SubjectConfirmationData")
        if data is None:
            continue
        try:
            _check_confirmed(data, service, request, now)
            return max(_ends_of_confirmations(subject))
        except SamlError as error:
            refused = error
    raise refused or SamlError(Fault.CONFIRMATION, "the subject has no bearer confirmation")


def _ends_of_confirmations(subject: etree._Element) -> Iterator[float]:
    """Yield the expiry of each: one that is not valid now may be valid later."""
    for data in subject.iter(f"{{{SAML}}}SubjectConfirmationData"):
        if data.get("NotOnOrAfter") is not None:
            yield instant_of(data, "NotOnOrAfter")


def _check_confirmed(data: etree._Element, service: ServiceProvider, request: PendingLogin | None, now: float) -> None:
    if data.get("Recipient") != service.acs_url:
        raise SamlError(Fault.RECIPIENT, f"Recipient is {data.get('Recipient')!r}, not {service.acs_url!r}")
    answered = data.get("InResponseTo")
    if answered is not None:
        _check_answer(answered, request, "the assertion")
    elif request is not None:
        raise SamlError(Fault.UNSOLICITED, "InResponseTo is missing from the signed confirmation")
    if data.get("NotBefore") is not None:
        raise SamlError(Fault.CONFIRMATION, "SubjectConfirmationData of a bearer confirmation has NotBefore")
    _end_of(data, service, now)


def _check_authentication(
    statement: etree._Element, service: ServiceProvider, trust: Trust, request: PendingLogin | None
) -> None:
    """Check the authentication context and time, where configured (saml-core 3.3.2.2.1, 3.4.1)."""
    wanted = trust.settings.authn_context
    if wanted:
        found = [text_of(one) for one in statement.iterfind(f"{{{SAML}}}AuthnContext/{{{SAML}}}AuthnContextClassRef")]
        if len(found) != 1 or found[0] not in wanted:
            raise SamlError(Fault.AUTHN_CONTEXT, f"authenticated by {found!r}, authn_context is {', '.join(wanted)}")
    since = _authenticated_since(service, trust, request)
    if since is None:
        return
    authenticated = instant_of(statement, "AuthnInstant")
    if authenticated < since - service.clock_skew:
        raise SamlError(
            Fault.AUTHN_STATEMENT,
            f"a new authentication was required, this one was {_clocks(authenticated, since, service)}",
        )


def _authenticated_since(service: ServiceProvider, trust: Trust, request: PendingLogin | None) -> float | None:
    """Return the earliest accepted unix time of authentication. An unsolicited login counts as requested now."""
    if request is not None:
        return request.forced_at
    return service.clock() - service.request_lifetime if trust.settings.force_authn else None


def _session_of(statement: etree._Element, service: ServiceProvider, now: float) -> tuple[str, float | None]:
    """Return SessionIndex and the end of the provider's session, with the skew added (saml-core 2.7.2)."""
    if statement.get("SessionNotOnOrAfter") is None:
        return statement.get("SessionIndex", ""), None
    ends = instant_of(statement, "SessionNotOnOrAfter")
    if now >= ends + service.clock_skew:
        raise SamlError(Fault.SESSION_EXPIRED, f"the provider's session ended {_clocks(ends, now, service)}")
    return statement.get("SessionIndex", ""), ends + service.clock_skew


def _read_login(
    assertion: etree._Element,
    service: ServiceProvider,
    trust: Trust,
    session_index: str,
    session_end: float | None,
) -> Login:
    """Return the subject and attributes of the assertion. A transient NameID is refused as the subject."""
    element = assertion.find(f"{{{SAML}}}Subject/{{{SAML}}}NameID")
    found = NameId("") if element is None else NameId.read(element, provider=trust.entity_id, ours=service.entity_id)
    attributes = dict(_attributes(assertion))
    match = trust.settings.match
    if match == "name_id":
        if element is None or found.format == TRANSIENT:
            raise SamlError(Fault.NAME_ID, "the subject has no persistent NameID")
        subject = found.value
    else:
        wanted = match.removeprefix("attribute:")
        values = attributes.get(wanted, ())
        if len(values) != 1:
            raise SamlError(Fault.ATTRIBUTE, f"attribute {wanted!r} has {len(values)} values, not one")
        subject = values[0]
    if not subject or not _is_text(subject):
        raise SamlError(Fault.NAME_ID, f"the value of {match} is empty, too long or not printable")
    _check_domain(subject, trust)
    return Login(
        provider=trust.name,
        subject=subject,
        name_id=found.text if found.value else "",
        session_index=session_index,
        not_on_or_after=session_end,
        attributes=_known(attributes, trust),
        issued=instant_of(assertion, "IssueInstant"),
    )


def _known(attributes: Mapping[str, tuple[str, ...]], trust: Trust) -> dict[str, tuple[str, ...]]:
    """Return the configured attributes by our names. Empty, long and unprintable values are dropped."""
    found = {
        ours: tuple(value for value in attributes.get(theirs, ()) if value and _is_text(value))
        for ours, theirs in trust.settings.attributes.items()
    }
    return {ours: values for ours, values in found.items() if values}


def _is_text(value: str) -> bool:
    return len(value) <= _LONGEST_VALUE and value.isprintable()


def _check_domain(subject: str, trust: Trust) -> None:
    """Check that the subject is in one of the provider's ``email_domains``, if there are any."""
    domains = trust.settings.email_domains
    if not domains:
        return
    local, _, domain = subject.rpartition("@")
    if not local or "@" in local or lower_ascii(domain) not in domains:
        raise SamlError(Fault.EMAIL_DOMAIN, f"{subject!r} is not an address in {', '.join(sorted(domains))}")


def _attributes(assertion: etree._Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each attribute with its values; repeated attributes are merged (saml-core 2.7.3).

    :raises ForbiddenXml: if a value holds elements. A lone NameID (eduPersonTargetedID) is skipped instead.
    """
    merged: dict[str, list[str]] = {}
    for attribute in assertion.findall(f"{{{SAML}}}AttributeStatement/{{{SAML}}}Attribute"):
        values = merged.setdefault(attribute.get("Name", ""), [])
        for value in attribute:
            if value.tag == _VALUE and not (len(value) == 1 and value[0].tag == _NAME_ID):
                values.append(text_of(value))
    for name, values in merged.items():
        yield name, tuple(values)


def _only(parent: etree._Element, name: str, fault: Fault) -> etree._Element:
    found = parent.findall(f"{{{SAML}}}{name}")
    if len(found) != 1:
        raise SamlError(fault, f"{len(found)} {name} elements, not one")
    return found[0]


def _end_of(element: etree._Element, service: ServiceProvider, now: float) -> float:
    if element.get("NotOnOrAfter") is None:
        raise SamlError(Fault.CONDITIONS, f"{local_name(element)} has no NotOnOrAfter")
    ends = instant_of(element, "NotOnOrAfter")
    if now >= ends + service.clock_skew:
        raise SamlError(Fault.EXPIRED, f"{local_name(element)} ended {_clocks(ends, now, service)}")
    return ends


def _clocks(found: float, now: float, service: ServiceProvider) -> str:
    return f"at {as_instant(found)}; our clock says {as_instant(now)}, and {service.clock_skew} s of skew are allowed"
