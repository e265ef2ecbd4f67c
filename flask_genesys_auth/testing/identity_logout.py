"""Single logout of the development identity provider (saml-profiles 4.4): begun by a service provider, or here."""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import xmlsec
from lxml import etree
from werkzeug.exceptions import BadRequest
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response
from xmlsec import constants

from ..saml.documents import DS, SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, parse, text_of
from ..saml.errors import SamlError
from ..saml.signatures import check_signature, read_form
from ..saml.transport import read_query
from .identity_pages import notice, post_on
from .saml_logout_messages import LogoutMessage
from .saml_messages import SUCCESS
from .service_providers import ServiceProvider, ServiceProviders
from .signing_keys import SigningKey

PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"

_LIMITS = Limits(size=64 * 1024, depth=24, elements=300, attributes=32)
_MOST_LEAVING = 1000


@dataclass(slots=True)
class Session:
    """Somebody's session at the identity provider.

    :param index: the SessionIndex.
    :param services: the entity ids of those whom it has vouched to, each once.
    """

    person: str
    name_id: str
    index: str
    services: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """A service provider's LogoutRequest, as far as the answer needs it."""

    service: ServiceProvider
    request_id: str
    relay_state: str
    binding: str


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A logout under way.

    :param rest: the entity ids of those that have not been asked yet.
    :param partial: one of them could not be asked, or has not done it.
    :param asked: who has begun it, if not the user here.
    """

    session: Session
    rest: tuple[str, ...]
    partial: bool = False
    asked: Asked | None = None


class SingleLogout:
    """Sends the browser from one service provider to the next, and back to the one that has begun.

    :param services: those that are known.
    :param signer: gives what signs, and the entity id.
    :param end: takes away the sessions with one of these indexes, of this NameID; of all indexes if there are none.
    """

    def __init__(
        self,
        services: ServiceProviders,
        signer: Callable[[], tuple[SigningKey, str, str]],
        end: Callable[[str, list[str]], list[Session]],
    ) -> None:
        self._services = services
        self._signer = signer
        self._end = end
        self._leaving: dict[str, _Leaving] = {}
        self._lock = threading.Lock()

    def begin(self, session: Session) -> Response:
        """Log somebody out everywhere whose session has ended here."""
        return self._go_on(_Leaving(session, tuple(session.services)))

    def receive(self, request: Request) -> Response:
        """Take a service provider's LogoutRequest or LogoutResponse, signed, by either binding."""
        try:
            root, relay_state = _query(request) if request.method == "GET" else _form(request)
            service = self._sender(root)
            _check(request, root, service)
        except (SamlError, MalformedXml, ForbiddenXml, binascii.Error, UnicodeEncodeError) as error:
            raise BadRequest("This is no logout message that a service provider known here has signed.") from error
        if root.tag == f"{{{SAMLP}}}LogoutRequest":
            binding = "redirect" if request.method == "GET" else "post"
            return self._asked(root, Asked(service, root.get("ID", ""), relay_state, binding))
        with self._lock:
            leaving = self._leaving.pop(relay_state, None)
        if leaving is None:
            raise BadRequest("Nobody is being logged out with this RelayState.")
        status = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
        done = status is not None and status.get("Value") == SUCCESS and not len(status)
        return self._go_on(replace(leaving, partial=leaving.partial or not done))

    def _asked(self, root: etree._Element, asked: Asked) -> Response:
        name_id = root.find(f"{{{SAML}}}NameID")
        named = "" if name_id is None else text_of(name_id)
        ended = self._end(named, [text_of(index) for index in root.findall(f"{{{SAMLP}}}SessionIndex")])
        if not ended:
            return self._go_on(_Leaving(Session("", named, ""), (), asked=asked))
        others = dict.fromkeys(name for session in ended for name in session.services)
        others.pop(asked.service.entity_id, None)
        return self._go_on(_Leaving(ended[0], tuple(others), asked=asked))

    def _sender(self, root: etree._Element) -> ServiceProvider:
        issuer = root.find(f"{{{SAML}}}Issuer")
        service = None if issuer is None else self._services.find(text_of(issuer))
        if service is None or not service.keys:
            raise BadRequest("Whoever says this is not known here, or has no key to sign with.")
        return service

    def _go_on(self, leaving: _Leaving) -> Response:
        """Ask the next service provider; when all have been asked, answer or say how it went."""
        rest, partial = list(leaving.rest), leaving.partial
        key, entity_id, name_id_format = self._signer()
        while rest:
            service = self._services.find(rest.pop(0))
            if service is None or not service.single_logout:
                partial = True
                continue
            relay_state = secrets.token_urlsafe(24)
            with self._lock:
                self._leaving[relay_state] = replace(leaving, rest=tuple(rest), partial=partial)
                while len(self._leaving) > _MOST_LEAVING:
                    # Whoever has not come back is not waited for.
                    del self._leaving[next(iter(self._leaving))]
            message = LogoutMessage(
                issuer=entity_id,
                destination=None,
                name_id=leaving.session.name_id,
                name_id_format=name_id_format,
                session_indexes=(leaving.session.index,),
                relay_state=relay_state,
            )
            return _send(message, service.single_logout, "redirect", key)
        asked = leaving.asked
        if asked is None:
            return _signed_out(partial)
        answer = LogoutMessage(
            issuer=entity_id,
            destination=None,
            kind="LogoutResponse",
            in_response_to=asked.request_id,
            statuses=(SUCCESS, PARTIAL) if partial else (SUCCESS,),
            relay_state=asked.relay_state or None,
        )
        addresses = asked.service.logout_answers
        return _send(answer, addresses, asked.binding, key) if addresses else _signed_out(partial)


def _signed_out(partial: bool) -> Response:
    some = " Some applications may still have you signed in." if partial else ""
    return notice(
        "Signed out",
        f"<p>Your session at the identity provider has ended.{some}</p>"
        '<p><a href="/">Back to the identity provider</a></p>',
    )


def _send(message: LogoutMessage, addresses: Mapping[str, str], wanted: str, key: SigningKey) -> Response:
    binding = wanted if wanted in addresses else next(iter(addresses))
    address = addresses[binding]
    message = message.but(destination=address)
    if binding == "redirect":
        return redirect(f"{address}{'&' if '?' in address else '?'}{message.query(key)}", 303)
    return post_on(address, message.form(key), "Signing out")


def _query(request: Request) -> tuple[etree._Element, str]:
    message = read_query(request.query_string.decode("latin-1"))
    return _parsed(message.xml, message.kind), message.relay_state


def _form(request: Request) -> tuple[etree._Element, str]:
    kind: Literal["SAMLRequest", "SAMLResponse"] = "SAMLRequest" if "SAMLRequest" in request.form else "SAMLResponse"
    data = base64.b64decode(request.form.get(kind, "").encode("ascii"), validate=True)
    return _parsed(data, kind), request.form.get("RelayState", "")


def _parsed(data: bytes, kind: str) -> etree._Element:
    root = parse(data, _LIMITS)
    if root.tag != f"{{{SAMLP}}}{'LogoutRequest' if kind == 'SAMLRequest' else 'LogoutResponse'}":
        raise BadRequest("This is no logout message.")
    return root


def _check(request: Request, root: etree._Element, service: ServiceProvider) -> None:
    """Check the signature: of the query, or of the element.

    :raises SamlError: unless it is good.
    """
    if request.method == "GET":
        message = read_query(request.query_string.decode("latin-1"))
        if not any(_made(key, message.signed, message.signature) for key in service.keys):
            raise BadRequest("None of the service provider's keys has signed this query.")
        return
    signature = root.find(f"{{{DS}}}Signature")
    if signature is None:
        raise BadRequest("This logout message is not signed.")
    check_signature(read_form(signature, root), service.keys)


def _made(key: xmlsec.Key, signed: bytes, signature: bytes) -> bool:
    context = xmlsec.SignatureContext()
    context.key = key
    try:
        context.verify_binary(signed, constants.TransformRsaSha256, signature)
    except (xmlsec.Error, TypeError):
        return False
    return True
