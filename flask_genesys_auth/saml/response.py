"""A provider's answer to a login: admitted by the gate, verified, and bound to us, in this order.

- :func:`~.gate.admit`: the message has the one form that is allowed. Nothing is computed, fetched or looked up yet.
- :func:`~.verify.verify`: a configured key of the provider signed it; it is decrypted if need be, and from here on
  only what the signature covers is read.
- :func:`~.binding.bind`: it is meant for us, for this request and for this moment, and comes for the first time.
- :func:`cross_check`, where ``cross_check`` is set: python3-saml accepts it too.

The caller (``web``) keeps the result under a one-time code, and makes the login session when the browser brings it.
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
    """A response that was admitted, verified and bound.

    :param pending: the login that it answers; ``None`` if it is unsolicited.
    :param relay_state: as it came; with a pending login it is ours or empty.
    """

    pending: PendingLogin | None
    login: Login
    relay_state: str = field(repr=False)


def consume(service: ServiceProvider, state: StateStore, encoded: str, relay_state: str) -> Received:
    """Validate and consume a ``SAMLResponse`` of the POST binding (saml-profiles 4.1.4.5).

    :param encoded: base64, as the form carried it.
    :param relay_state: the form's ``RelayState``, or empty.
    :raises SamlError: whatever is wrong with it.
    :raises BackendUnavailable: if the state does not answer, or the provider's metadata were never fetched.
    """
    message = admit(encoded)
    pending = _pending(service, state, message, relay_state) if message.in_response_to else None
    trust = _sender(service, message) if pending is None else service.providers[pending.provider].current()
    try:
        verified = verify(message, trust, service.keys.decryption)
        login = bind(verified, service, trust, pending, state)
        if service.cross_check:
            name_id = NameId.of_text(login.name_id).value if login.name_id else ""
            cross_check(service, trust, encoded, pending.request_id if pending else None, name_id)
        if pending is not None and not finish_login(state, pending):
            raise SamlError(Fault.REPLAYED, f"request {pending.request_id!r} has been answered before")
    except SamlError as error:
        error.provider, error.asked = trust.name, pending is not None
        raise
    return Received(pending, login, relay_state)


def declined(service: ServiceProvider, state: StateStore, error: StatusRefused, relay_state: str) -> str | None:
    """Return where a browser goes on whose provider would have had to ask the user and was told not to.

    Nothing of such an answer need be signed (saml-core 3.2.2.2): the RelayState shows that it comes from where the
    request went, and all it can do is to end that request.

    :returns: the local path where the login began, or ``None`` if this is no such answer.
    """
    pending = find_login(state, error.in_response_to) if NO_PASSIVE in error.codes else None
    if pending is None or not pending.passive or pending.contact_center != service.contact_center:
        return None
    if not pending.made_with(relay_state) or not finish_login(state, pending):
        return None
    return pending.return_to


def _pending(service: ServiceProvider, state: StateStore, message: Admitted, relay_state: str) -> PendingLogin:
    """Return the login that the message says it answers, if it was begun here and with this RelayState."""
    pending = find_login(state, message.in_response_to)
    if pending is None:
        raise SamlError(Fault.UNSOLICITED, f"no login that was begun here has the id {message.in_response_to!r}")
    if relay_state and not pending.made_with(relay_state):
        raise SamlError(Fault.RELAY_STATE, "RelayState is not the one that went with the request")
    if pending.contact_center != service.contact_center or pending.provider not in service.providers:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login was begun with {pending.provider} of {pending.contact_center}, which is no provider of "
            f"{service.contact_center}",
        )
    return pending


def _sender(service: ServiceProvider, message: Admitted) -> Trust:
    """Return the provider that a message without a request says it comes from, of those that may send such.

    Whether it does is for its keys to show.
    """
    claimed = message.issuer
    allowed = [one for one in service.providers.values() if one.settings.allow_unsolicited]
    found = trusts_named(allowed, claimed)
    if len(found) != 1:
        raise SamlError(
            Fault.UNSOLICITED,
            f"the message answers no request, and {len(found)} providers of {service.contact_center} with "
            f"allow_unsolicited are {claimed!r}",
        )
    return found[0]


def cross_check(service: ServiceProvider, trust: Trust, encoded: str, request_id: str | None, name_id: str) -> None:
    """Ask python3-saml about a response that all checks of ours have accepted.

    :param encoded: base64, as the form carried it.
    :param request_id: of the request that it answers, or ``None``.
    :param name_id: what we have read in it as the value of its NameID, or empty.
    :raises SamlError: unless it accepts the response with one of our decryption keys, and finds the same NameID.
    """
    findings = [_finding(service, referee, encoded, request_id, name_id) for referee in trust.referees]
    if "" not in findings:
        raise SamlError(Fault.CROSS_CHECK, f"python3-saml does not agree: {'; '.join(findings)}")


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
    except Exception as error:  # whatever a second opinion stumbles over is no agreement
        return f"{type(error).__name__}: {error}"
    return "" if found == name_id else "it reads another NameID"
