"""The login on its way: the AuthnRequest that goes to the provider, and what is kept of it in the state meanwhile."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils

if TYPE_CHECKING:
    from ..chain.ports import StateStore
    from .settings import ServiceProvider
    from .trust import Trust


def digest(secret: str) -> str:
    """Return the form in which a one-time secret is kept on the server."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that was begun, as the state keeps it.

    :param request_id: the AuthnRequest's ID.
    :param return_to: a local path, to which the browser comes back.
    :param nonce_hash: :func:`digest` of what the browser that began it keeps in its session.
    :param relay_state_hash: :func:`digest` of the opaque RelayState that went along.
    """

    request_id: str
    contact_center: str
    provider: str
    return_to: str
    nonce_hash: str
    relay_state_hash: str

    def made_with(self, relay_state: str) -> bool:
        """Tell whether this RelayState is the one that went along."""
        return hmac.compare_digest(digest(relay_state), self.relay_state_hash)

    def begun_by(self, nonce: str) -> bool:
        """Tell whether the browser that keeps this nonce began the login."""
        return hmac.compare_digest(digest(nonce), self.nonce_hash)


@dataclass(frozen=True, slots=True)
class Login:
    """Whom the provider has authenticated, bound to us.

    :param subject: the value that an account's linked identity carries.
    :param name_id: the NameID, and ``session_index`` the provider's name of its own session.
    :param not_on_or_after: unix time at which the provider says the session ends, or ``None``.
    """

    provider: str
    subject: str
    name_id: str
    session_index: str
    not_on_or_after: float | None


@dataclass(frozen=True, slots=True)
class Proven:
    """A login on its way from the provider's answer to the browser that ends it, as the state keeps it.

    :param return_to: a local path, to which the browser comes back.
    :param pending: the login that was begun; ``None`` if nobody asked, so that the user has to be asked now.
    """

    login: Login
    contact_center: str
    return_to: str
    pending: PendingLogin | None = None


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """What the browser is told.

    :param location: where to go: the provider, with the AuthnRequest.
    :param reference: names the login in the browser's session, beside ``nonce``.
    """

    location: str
    reference: str
    nonce: str


def reference_of(request_id: str) -> str:
    """Return the short name of a login in the browser's session."""
    return digest(request_id)[:16]


def begin_login(
    service: ServiceProvider, trust: Trust, state: StateStore, *, return_to: str, force_authn: bool = False
) -> BegunLogin:
    """Make an AuthnRequest (saml-bindings 3.4) and keep what its answer will be compared with.

    :param trust: the provider that is to answer.
    :param return_to: a local path that has been validated.
    :param force_authn: ask the provider to authenticate the user anew (saml-core 3.4.1).
    :raises StateUnavailable: if it cannot be kept.
    """
    request_id, encoded = _authn_request(trust, force_authn)
    nonce, relay_state = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    parameters = {"SAMLRequest": encoded, "RelayState": relay_state}
    if service.signs:
        signer = OneLogin_Saml2_Auth({}, old_settings=trust.toolkit)
        signer.add_request_signature(parameters, Constants.RSA_SHA256)
    pending = PendingLogin(
        request_id=request_id,
        contact_center=service.contact_center,
        provider=trust.name,
        return_to=return_to,
        nonce_hash=digest(nonce),
        relay_state_hash=digest(relay_state),
    )
    state.put(_key(request_id), asdict(pending), service.request_lifetime)
    location: str = OneLogin_Saml2_Utils.redirect(trust.metadata.single_sign_on["redirect"].location, parameters)
    return BegunLogin(location, reference_of(request_id), nonce)


def find_login(state: StateStore, request_id: str) -> PendingLogin | None:
    """Return the login that was begun with this AuthnRequest, or ``None``: never begun, finished, or too long ago."""
    stored: Any = state.get(_key(request_id)) if request_id else None
    return PendingLogin(**stored) if stored else None


def finish_login(state: StateStore, pending: PendingLogin) -> bool:
    """Take the login away: one answer to each request. Tell whether it was still there."""
    return state.take(_key(pending.request_id)) is not None


def keep_proven(state: StateStore, proven: Proven, lifetime: float) -> str:
    """Keep a proven login until a browser brings it to its end; return the one-time code for it, of 256 bits.

    :param lifetime: seconds.
    """
    code = secrets.token_urlsafe(32)
    state.put(f"saml-code:{digest(code)}", asdict(proven), lifetime)
    return code


def take_proven(state: StateStore, code: str) -> Proven | None:
    """Return what is kept under this code and forget it: a code is good once, whoever brings it."""
    kept: Any = state.take(f"saml-code:{digest(code)}")
    if not kept:
        return None
    pending = kept["pending"]
    return Proven(
        login=Login(**kept["login"]),
        contact_center=kept["contact_center"],
        return_to=kept["return_to"],
        pending=PendingLogin(**pending) if pending else None,
    )


def _key(request_id: str) -> str:
    return f"saml-request:{digest(request_id)}"


def _authn_request(trust: Trust, force_authn: bool) -> tuple[str, str]:
    """Return the AuthnRequest's ID and the request, deflated and in base64."""
    request = OneLogin_Saml2_Authn_Request(trust.toolkit, force_authn=force_authn)
    return request.get_id(), request.get_request()
