"""The login on its way: the AuthnRequest, whom the answer is about, and what is kept of both in the state meanwhile."""

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
    """Return the form in which a one-time secret is kept on the server."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that was begun, as the state keeps it.

    :param request_id: the AuthnRequest's ID.
    :param return_to: a local path, to which the browser comes back.
    :param nonce_hash: :func:`digest` of what the browser that began it keeps in its session.
    :param relay_state_hash: :func:`digest` of the opaque RelayState that went along.
    :param passive: the provider was asked not to ask the user anything (saml-core 3.4.1).
    :param forced_at: unix time at which it was asked to authenticate the user anew, or ``None``.
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
        """Tell whether this RelayState is the one that went along."""
        return hmac.compare_digest(digest(relay_state), self.relay_state_hash)

    def begun_by(self, nonce: str) -> bool:
        """Tell whether the browser that keeps this nonce began the login."""
        return hmac.compare_digest(digest(nonce), self.nonce_hash)


@dataclass(frozen=True, slots=True)
class NameId:
    """A NameID in its one form: what goes without saying is empty, so that equal ones are equal (saml-core 2.2.2).

    :param format: empty where it is unspecified.
    :param qualifier: the provider's name space; empty where it is the provider itself (saml-core 8.3.7).
    :param sp_qualifier: ours; empty where it is us.
    """

    value: str
    format: str = ""
    qualifier: str = ""
    sp_qualifier: str = ""

    @classmethod
    def read(cls, element: etree._Element, *, provider: str, ours: str) -> NameId:
        """Return the NameID that an element is.

        :param provider: the provider's entity id, and ``ours`` our own.
        :raises ForbiddenXml: if it holds more than text.
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
        """Return the NameID that :attr:`text` was made of.

        :raises ValueError: if it is none.
        """
        parts = json.loads(text)
        if not isinstance(parts, list) or len(parts) != 4 or not all(isinstance(part, str) for part in parts):
            raise ValueError("no NameID")
        return cls(*parts)

    @property
    def text(self) -> str:
        """All of it in one text, by which login sessions are kept and found."""
        parts = (self.value, self.format, self.qualifier, self.sp_qualifier)
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Login:
    """Whom the provider has authenticated, bound to us.

    :param subject: the value that an account's linked identity carries.
    :param name_id: the NameID as :attr:`NameId.text`, or empty;
        ``session_index`` the provider's name of its own session.
    :param not_on_or_after: unix time at which the provider says the session ends, the skew added, or ``None``.
    :param attributes: what else it says of the person, by our names (``first_name``, ``groups``, ...).
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

    :param location: where to go: the provider, with the AuthnRequest in its query or in ``fields``.
    :param reference: names the login in the browser's session, beside ``nonce``.
    :param fields: those of the form to be posted there; none where the browser is simply sent there.
    """

    location: str = field(repr=False)
    reference: str
    nonce: str = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


def reference_of(request_id: str) -> str:
    """Return the short name of a login in the browser's session."""
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
    """Make an AuthnRequest (saml-bindings 3.4 or 3.5) and keep what its answer will be compared with.

    :param trust: the provider that is to answer; its configuration names the binding.
    :param return_to: a local path that has been validated.
    :param force_authn: ask the provider to authenticate the user anew (saml-core 3.4.1).
    :param passive: ask the provider not to ask the user anything (``IsPassive``).
    :param login_hint: whom the provider is to authenticate, as the browser said; dropped if it cannot be a name.
    :raises StateUnavailable: if it cannot be kept.
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
    """Return the login that was begun with this AuthnRequest, or ``None``: never begun, finished, or too long ago."""
    stored: Any = state.get(_key(request_id)) if request_id else None
    return PendingLogin(**stored) if stored else None


def finish_login(state: StateStore, pending: PendingLogin) -> bool:
    """Take the login away: one answer to each request. Tell whether it was still there."""
    return state.take(_key(pending.request_id)) is not None


def use_once(state: StateStore, kind: UsedMessage, provider: str, identifier: str, seconds: float) -> str:
    """Let a message be used once: record its id until no node could accept it any more.

    :param provider: its entity id.
    :param identifier: the message's ID.
    :returns: the key of the record.
    :raises SamlError: if it was used before.
    :raises StateUnavailable: if that cannot be told.
    """
    key = f"{kind}:{digest(f'{len(provider)}:{provider}{identifier}')}"
    if not state.add(key, True, max(seconds, 1.0)):
        raise SamlError(Fault.REPLAYED, f"{kind.rpartition('-')[2]} {identifier!r} was used before")
    return key


def keep_proven(state: StateStore, proven: Proven, lifetime: float, kind: Kind = "code") -> str:
    """Keep a proven login until a browser brings it to its end; return the one-time secret for it, of 256 bits.

    :param lifetime: seconds.
    :param kind: a ``code`` that an address carries, or a ``ticket`` that the user's consent carries: neither is
        good for the other.
    """
    secret = secrets.token_urlsafe(32)
    pending = None if proven.pending is None else _kept(proven.pending)
    kept = {**_kept(proven), "login": _kept(proven.login), "pending": pending}
    state.put(f"saml-{kind}:{digest(secret)}", kept, lifetime)
    return secret


def take_proven(state: StateStore, secret: str, kind: Kind = "code") -> Proven | None:
    """Return what is kept under this secret and forget it: it is good once, whoever brings it."""
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
    """Return the fields as they are: ``asdict`` would copy what is in them, all the way down."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _login(kept: dict[str, Any]) -> Login:
    attributes = {name: tuple(values) for name, values in kept["attributes"].items()}
    return Login(**{**kept, "attributes": attributes})


def _key(request_id: str) -> str:
    return f"saml-request:{digest(request_id)}"


def _hint(given: str) -> str:
    """Return a login hint as it may stand in XML, for python3-saml pastes it in as it is; or nothing."""
    hint = given.strip()
    return escape(hint) if hint.isprintable() and len(hint) <= _LONGEST_HINT else ""
