"""The way of a provider's answer through gate, verification and binding, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .binding import bind
from .errors import Fault, SamlError
from .gate import admit
from .requests import Login, PendingLogin, find_login, finish_login
from .verify import verify

if TYPE_CHECKING:
    from ..chain.ports import StateStore
    from .gate import Admitted
    from .settings import ServiceProvider


@dataclass(frozen=True, slots=True)
class Received:
    """What a provider has said to us, proven and bound.

    :param pending: the login that it answers; ``None`` if nobody asked.
    :param relay_state: as it came; with a pending login it is ours or empty.
    """

    pending: PendingLogin | None
    login: Login
    relay_state: str


def consume(service: ServiceProvider, state: StateStore, encoded: str, relay_state: str) -> Received:
    """Take a ``SAMLResponse`` of the POST binding as what it is worth (saml-profiles 4.1.4.5).

    :param encoded: base64, as the form carried it.
    :param relay_state: the form's ``RelayState``, or empty.
    :raises SamlError: whatever is wrong with it.
    :raises BackendUnavailable: if the state does not answer, or the provider's metadata were never fetched.
    """
    message = admit(encoded)
    pending = _pending(service, state, message, relay_state)
    trust = service.providers[pending.provider].current()
    try:
        verified = verify(message, trust)
        login = bind(verified, service, trust, pending, state)
        if not finish_login(state, pending):
            raise SamlError(Fault.REPLAYED, f"request {pending.request_id!r} has been answered before")
    except SamlError as error:
        error.provider = trust.name
        raise
    return Received(pending, login, relay_state)


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
