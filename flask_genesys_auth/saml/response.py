"""Validate a ``SAMLResponse``: start reading here.

The message is untrusted until it is verified. :func:`consume` passes it through these steps, in this order. A check
that fails raises :class:`~.errors.SamlError`.

1. :func:`~.gate.admit` decodes and parses the message, and checks sizes, structure and algorithms against allow-lists.
   Nothing in the message is computed, fetched or inflated without bound.
2. ``InResponseTo`` finds the stored request, which names the identity provider. A message without it is unsolicited:
   its ``Issuer`` selects a provider with ``allow_unsolicited``. Both values are unsigned here and prove nothing.
3. :func:`~.verify.verify` decrypts the assertion if it is encrypted, and checks every signature with the provider's
   configured keys. From here on, values are accepted from signed bytes only.
4. :func:`~.binding.bind` compares the signed values with the request, the provider, our own addresses and the clock. It
   records the assertion's ID, so that the same assertion is not accepted twice.
5. :func:`cross_check`, if configured, requires that python3-saml accepts the message too.
6. The stored request is deleted: one request has one answer.

``web`` stores the result under a one-time code. The login session starts when the browser that began the login sends
that code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from onelogin.saml2.response import OneLogin_Saml2_Response

from .binding import bind
from .errors import Fault, SamlError, StatusRefused
from .gate import admit
from .requests import Login, NameId, PendingLogin, find_login, finish_login
from .trust import trusts_named
from .verify import verify

if TYPE_CHECKING:
    from onelogin.saml2.settings import OneLogin_Saml2_Settings

    from ..chain.protocols import StateStore
    from .gate import Admitted
    from .service_provider import ServiceProvider
    from .trust import Trust

NO_PASSIVE = "urn:oasis:names:tc:SAML:2.0:status:NoPassive"


@dataclass(frozen=True, slots=True)
class Received:
    """A response that passed every check.

    :param pending: the login that it answers; ``None`` for an unsolicited response.
    :param relay_state: as received. With a pending login it is our own value or empty.
    """

    pending: PendingLogin | None
    login: Login
    relay_state: str = field(repr=False)


def consume(service: ServiceProvider, state: StateStore, encoded: str, relay_state: str) -> Received:
    """Validate and consume a ``SAMLResponse`` of the POST binding (saml-profiles 4.1.4.5).

    :param encoded: the form field, in base64.
    :param relay_state: the form's ``RelayState``, or empty.
    :raises SamlError: if any check fails.
    :raises BackendUnavailable: if the state times out, or the provider's metadata were never fetched.
    """
    message = admit(encoded)
    pending: PendingLogin | None = None
    if message.in_response_to:
        pending = _pending_login(service, state, message, relay_state)
        trust = service.providers[pending.provider].current()
    else:
        trust = _unsolicited_provider(service, message)
    try:
        verified = verify(message, trust, service.keys.decryption)
        login = bind(verified, service, trust, pending, state)
        if service.cross_check:
            name_id = NameId.of_text(login.name_id).value if login.name_id else ""
            cross_check(service, trust, encoded, pending.request_id if pending else None, name_id)
        if pending is not None and not finish_login(state, pending):
            raise SamlError(Fault.REPLAYED, f"request {pending.request_id!r} was already answered")
    except SamlError as error:
        error.provider, error.asked = trust.name, pending is not None
        raise
    return Received(pending, login, relay_state)


def _pending_login(service: ServiceProvider, state: StateStore, message: Admitted, relay_state: str) -> PendingLogin:
    """Return the stored login that the message claims to answer, if RelayState matches."""
    pending = find_login(state, message.in_response_to)
    if pending is None:
        raise SamlError(Fault.UNSOLICITED, f"no pending login has the request ID {message.in_response_to!r}")
    if relay_state and not pending.made_with(relay_state):
        raise SamlError(Fault.RELAY_STATE, "RelayState does not match the request")
    if pending.contact_center != service.contact_center or pending.provider not in service.providers:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login began with {pending.provider} of {pending.contact_center}, which is not a provider of "
            f"{service.contact_center}",
        )
    return pending


def _unsolicited_provider(service: ServiceProvider, message: Admitted) -> Trust:
    """Return the provider that an unsolicited message claims as its issuer. The signature is checked later."""
    claimed = message.issuer
    allowed = [one for one in service.providers.values() if one.settings.allow_unsolicited]
    found = trusts_named(allowed, claimed)
    if len(found) != 1:
        raise SamlError(
            Fault.UNSOLICITED,
            f"the message answers no request, and {len(found)} providers of {service.contact_center} with "
            f"allow_unsolicited have the entity ID {claimed!r}",
        )
    return found[0]


def cross_check(service: ServiceProvider, trust: Trust, encoded: str, request_id: str | None, name_id: str) -> None:
    """Check an accepted response with python3-saml as well.

    :param encoded: the form field, in base64.
    :param request_id: ID of the request that it answers, or ``None``.
    :param name_id: the NameID that we read, or empty.
    :raises SamlError: unless python3-saml accepts the response and reads the same NameID.
    """
    findings = [_finding(service, referee, encoded, request_id, name_id) for referee in trust.referees]
    if "" not in findings:
        raise SamlError(Fault.CROSS_CHECK, f"python3-saml refuses the message: {'; '.join(findings)}")


def _finding(
    service: ServiceProvider, referee: OneLogin_Saml2_Settings, encoded: str, request_id: str | None, name_id: str
) -> str:
    address = urlsplit(service.acs_url)
    request: dict[str, object] = {
        "https": "on" if address.scheme == "https" else "off",
        "http_host": address.netloc,
        "script_name": address.path,
        "get_data": {},
        "post_data": {},
    }
    try:
        message = OneLogin_Saml2_Response(referee, encoded)
        message.is_valid(request, request_id, raise_exceptions=True)
        found = (message.get_nameid() or "").strip()
    except Exception as error:  # any error of the library is a refusal
        return f"{type(error).__name__}: {error}"
    return "" if found == name_id else "it reads another NameID"


def declined(service: ServiceProvider, state: StateStore, error: StatusRefused, relay_state: str) -> str | None:
    """Finish a passive login that the provider answered with ``NoPassive``.

    The provider need not sign this answer (saml-core 3.2.2.2). RelayState shows that the sender received our request,
    and the answer can only end that request.

    :returns: the local path where the login began, or ``None`` for any other answer.
    """
    pending = find_login(state, error.in_response_to) if NO_PASSIVE in error.codes else None
    if pending is None or not pending.passive or pending.contact_center != service.contact_center:
        return None
    if not pending.made_with(relay_state) or not finish_login(state, pending):
        return None
    return pending.return_to
