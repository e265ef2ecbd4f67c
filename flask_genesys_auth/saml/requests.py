"""Pending logins: the AuthnRequest, the result of a response, and their records in the state."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from .documents import text_of
from .errors import Fault, SamlError
from .transport import form_field, sign_message

if TYPE_CHECKING:
    from lxml import etree

    from ..chain.protocols import StateStore
    from .service_provider import ServiceProvider
    from .trust import Trust

Kind: TypeAlias = Literal["code", "ticket"]
UsedMessage: TypeAlias = Literal["saml-assertion", "saml-logout-message"]

UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"

_LONGEST_HINT = 255


def digest(secret: str) -> str:
    """Return the SHA-256 under which a one-time secret is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that began here, as stored in the state.

    :param request_id: ID of the AuthnRequest.
    :param return_to: the local path that the browser returns to.
    :param nonce_hash: :func:`digest` of the nonce in the session of the browser that began the login.
    :param relay_state_hash: :func:`digest` of the RelayState that was sent.
    :param passive: the request had ``IsPassive`` (saml-core 3.4.1).
    :param forced_at: unix time of a request with ``ForceAuthn``, or ``None``.
    """

    request_id: str
    contact_center: str
    provider: str
    return_to: str
    nonce_hash: str
    relay_state_hash: str
    passive: bool = False
    forced_at: float | None = None

    def made_with(self, relay_state: str) -> bool:
        """Return whether this RelayState was sent with the request."""
        return hmac.compare_digest(digest(relay_state), self.relay_state_hash)

    def begun_by(self, nonce: str) -> bool:
        """Return whether the browser with this nonce began the login."""
        return hmac.compare_digest(digest(nonce), self.nonce_hash)


@dataclass(frozen=True, slots=True)
class NameId:
    """A NameID (saml-core 2.2.2) in canonical form: default values are empty, so that equal names compare equal.

    :param format: empty if unspecified.
    :param qualifier: NameQualifier; empty if it is the provider's entity ID (saml-core 8.3.7).
    :param sp_qualifier: SPNameQualifier; empty if it is our entity ID.
    """

    value: str
    format: str = ""
    qualifier: str = ""
    sp_qualifier: str = ""

    @classmethod
    def read(cls, element: etree._Element, *, provider: str, ours: str) -> NameId:
        """Read a NameID element.

        :param provider: entity ID of the provider.
        :param ours: our entity ID.
        :raises ForbiddenXml: if the element has children.
        """
        format_ = element.get("Format", "")
        qualifier, sp_qualifier = element.get("NameQualifier", ""), element.get("SPNameQualifier", "")
        return cls(
            text_of(element),
            "" if format_ == UNSPECIFIED else format_,
            "" if qualifier == provider else qualifier,
            "" if sp_qualifier == ours else sp_qualifier,
        )

    @classmethod
    def of_text(cls, text: str) -> NameId:
        """Return the NameID with this :attr:`text`.

        :raises ValueError: if there is none.
        """
        parts = json.loads(text)
        if not isinstance(parts, list) or len(parts) != 4 or not all(isinstance(part, str) for part in parts):
            raise ValueError("not a NameID")
        return cls(*parts)

    @property
    def text(self) -> str:
        """All fields in one text, the key of login sessions."""
        parts = (self.value, self.format, self.qualifier, self.sp_qualifier)
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Login:
    """The authenticated user of a response that passed every check.

    :param subject: the value that is compared with an account's linked identity.
    :param name_id: the NameID as :attr:`NameId.text`, or empty.
    :param session_index: the provider's name of its session.
    :param not_on_or_after: unix time at which the provider's session ends, with the skew added, or ``None``.
    :param attributes: configured attributes by our names (``first_name``, ``groups``, ...).
    :param issued: unix time of the assertion, by the provider's clock.
    """

    provider: str
    subject: str
    name_id: str = field(repr=False)
    session_index: str = field(repr=False)
    not_on_or_after: float | None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    issued: float = 0.0


@dataclass(frozen=True, slots=True)
class Proven:
    """A verified login that waits for the browser to return, as stored in the state.

    :param return_to: the local path that the browser returns to.
    :param pending: the login that began here; ``None`` for an unsolicited one, which the user must confirm.
    """

    login: Login
    contact_center: str
    return_to: str
    pending: PendingLogin | None = None


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """How the browser takes the AuthnRequest to the provider.

    :param location: URL of the provider, with the request in its query or in ``fields``.
    :param reference: key of ``nonce`` in the browser's session.
    :param fields: of the form to post; none for a redirect.
    """

    location: str = field(repr=False)
    reference: str
    nonce: str = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


def reference_of(request_id: str) -> str:
    """Return a short name of a request, safe to show and to log."""
    return digest(request_id)[:16]


def begin_login(
    service: ServiceProvider,
    trust: Trust,
    state: StateStore,
    *,
    return_to: str,
    force_authn: bool = False,
    passive: bool = False,
    login_hint: str = "",
) -> BegunLogin:
    """Make an AuthnRequest (saml-bindings 3.4 or 3.5) and store what its response must match.

    :param trust: the provider; its configuration selects the binding.
    :param return_to: a validated local path.
    :param force_authn: set ``ForceAuthn``: the provider must authenticate the user again (saml-core 3.4.1).
    :param passive: set ``IsPassive``: the provider must not interact with the user.
    :param login_hint: untrusted name of the user, sent as the subject; dropped if it is too long or not printable.
    :raises StateUnavailable: if it cannot be stored.
    """
    force_authn = force_authn or trust.settings.force_authn
    request = OneLogin_Saml2_Authn_Request(
        trust.toolkit, force_authn=force_authn, is_passive=passive, name_id_value_req=_hint(login_hint)
    )
    nonce, relay_state = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    pending = PendingLogin(
        request_id=request.get_id(),
        contact_center=service.contact_center,
        provider=trust.name,
        return_to=return_to,
        nonce_hash=digest(nonce),
        relay_state_hash=digest(relay_state),
        passive=passive,
        forced_at=service.clock() if force_authn else None,
    )
    state.put(_key(pending.request_id), _kept(pending), service.request_lifetime)
    address = trust.metadata.single_sign_on[trust.settings.binding].location
    reference = reference_of(pending.request_id)
    if trust.settings.binding == "post":
        fields = {"SAMLRequest": form_field(sign_message(request.get_xml(), service)), "RelayState": relay_state}
        return BegunLogin(address, reference, nonce, fields)
    parameters = {"SAMLRequest": request.get_request(), "RelayState": relay_state}
    if service.keys.signing is not None:
        OneLogin_Saml2_Auth({}, old_settings=trust.toolkit).add_request_signature(parameters, Constants.RSA_SHA256)
    return BegunLogin(OneLogin_Saml2_Utils.redirect(address, parameters), reference, nonce)


def find_login(state: StateStore, request_id: str) -> PendingLogin | None:
    """Return the pending login of an AuthnRequest, or ``None`` if it is unknown, finished or expired."""
    stored: Any = state.get(_key(request_id)) if request_id else None
    return PendingLogin(**stored) if stored else None


def finish_login(state: StateStore, pending: PendingLogin) -> bool:
    """Delete a pending login; return whether it still existed. A request has one answer."""
    return state.take(_key(pending.request_id)) is not None


def use_once(state: StateStore, kind: UsedMessage, provider: str, identifier: str, seconds: float) -> str:
    """Record the ID of a message so that it cannot be replayed.

    :param provider: entity ID of the provider.
    :param identifier: ID of the message.
    :param seconds: until no node accepts the message.
    :returns: the key of the record.
    :raises SamlError: if the message was used before.
    :raises StateUnavailable: if the state cannot record it.
    """
    key = f"{kind}:{digest(f'{len(provider)}:{provider}{identifier}')}"
    if not state.add(key, True, max(seconds, 1.0)):
        raise SamlError(Fault.REPLAYED, f"{kind.rpartition('-')[2]} {identifier!r} was used before")
    return key


def keep_proven(state: StateStore, proven: Proven, lifetime: float, kind: Kind = "code") -> str:
    """Store a verified login until the browser returns; return its one-time secret of 256 bits.

    :param lifetime: seconds.
    :param kind: ``code``, sent in a URL, or ``ticket``, sent when the user confirms. They are not interchangeable.
    """
    secret = secrets.token_urlsafe(32)
    pending = None if proven.pending is None else _kept(proven.pending)
    kept = {**_kept(proven), "login": _kept(proven.login), "pending": pending}
    state.put(f"saml-{kind}:{digest(secret)}", kept, lifetime)
    return secret


def take_proven(state: StateStore, secret: str, kind: Kind = "code") -> Proven | None:
    """Return and delete the login that is stored under a one-time secret."""
    kept: Any = state.take(f"saml-{kind}:{digest(secret)}")
    if not kept:
        return None
    pending = kept["pending"]
    return Proven(
        login=_login(kept["login"]),
        contact_center=kept["contact_center"],
        return_to=kept["return_to"],
        pending=PendingLogin(**pending) if pending else None,
    )


def _kept(value: Login | PendingLogin | Proven) -> dict[str, Any]:
    """Return the fields without ``asdict``, which would copy them recursively."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _login(kept: dict[str, Any]) -> Login:
    attributes = {name: tuple(values) for name, values in kept["attributes"].items()}
    return Login(**{**kept, "attributes": attributes})


def _key(request_id: str) -> str:
    return f"saml-request:{digest(request_id)}"


def _hint(given: str) -> str:
    """Escape a login hint, which python3-saml writes into XML as it is. Return empty if it is not a name."""
    hint = given.strip()
    return escape(hint) if hint.isprintable() and len(hint) <= _LONGEST_HINT else ""
