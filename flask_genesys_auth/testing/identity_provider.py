"""A SAML identity provider for development and tests: real messages over real HTTP, and no passwords at all.

It signs for whoever asks, with a key of its own making, so that it answers nobody but its own machine
(:class:`~flask_genesys_auth.testing.server.LoopbackServer` serves it there).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lxml import etree
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from ..saml.documents import SAML, SAMLP
from .authn_requests import Asked, read_request
from .identity_logout import Session, SingleLogout
from .identity_pages import hidden, notice, post_on
from .saml_messages import EMAIL, Message, encode, provider_metadata, sign
from .service_providers import ServiceProviders, encrypt_assertion
from .signing_keys import SigningKey, generate_signing_key

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "development_idp_session"
"""Not ``session``: cookies are shared between the ports of one host."""

_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the provider can vouch for.

    :param name_id: the NameID it sends; ``attributes`` likewise, each with one value or several.
    """

    name: str
    name_id: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


class DevelopmentIdentityProvider:
    """A WSGI application: ``/metadata``, ``/sso`` and ``/slo`` (HTTP-Redirect and HTTP-POST), ``/login``, ``/logout``.

    It answers every service provider. Of those on this machine whose entity id is the address of their metadata, and
    of those that :meth:`add_service_provider` makes known, it knows more: assertions are encrypted for them if they
    have a key for that, logins can begin here (``/begin``), and single logout reaches them. Whoever is signed in here
    is still asked each time as whom to go on, so that a wrong choice is no dead end; ``IsPassive`` is answered at once.

    :param url: where it is served, once that is known; also its entity id (``{url}/metadata``).
    :param key: what it signs with; default: a new one, made at the first need.
    :param sign_response: sign the Response as well as the assertion.
    :param name_id_format: of the NameIDs it sends.
    """

    def __init__(
        self,
        url: str = "",
        *,
        key: SigningKey | None = None,
        sign_response: bool = False,
        name_id_format: str = EMAIL,
    ) -> None:
        self.url = url
        self._key = key
        self._sign_response = sign_response
        self._name_id_format = name_id_format
        self._people: dict[str, Person] = {}
        self._sessions: dict[str, Session] = {}
        self._services = ServiceProviders()
        self._logout = SingleLogout(self._services, self._signer, self._end)
        self._lock = threading.Lock()

    @property
    def key(self) -> SigningKey:
        """What it signs with."""
        with self._lock:
            if self._key is None:
                self._key = generate_signing_key("development identity provider")
            return self._key

    @property
    def entity_id(self) -> str:
        """Its name, which is where its metadata are."""
        return f"{self.url}/metadata"

    @property
    def metadata_xml(self) -> str:
        """Its metadata (saml-metadata 2.4.3)."""
        return provider_metadata(self.entity_id, f"{self.url}/sso", (self.key.certificate,), slo_url=f"{self.url}/slo")

    def write_metadata(self, path: Path) -> Path:
        """Write its metadata where a configuration's ``metadata`` finds them; ``url`` must be known."""
        path.write_text(self.metadata_xml, encoding="utf-8")
        return path

    def add_user(
        self, name: str, *, name_id: str = "", attributes: Mapping[str, str | Iterable[str]] | None = None
    ) -> None:
        """Let somebody log in here.

        :param name: what the login page calls them.
        :param name_id: default: the name.
        :param attributes: each with one value or several.
        """
        several = {
            key: (value,) if isinstance(value, str) else tuple(value) for key, value in (attributes or {}).items()
        }
        self._people[name] = Person(name, name_id or name, MappingProxyType(several))

    def person(self, name: str) -> Person:
        """Return somebody who can log in here.

        :raises LookupError: if nobody has that name.
        """
        found = self._people.get(name)
        if found is None:
            raise LookupError(
                f"nobody is called {name!r} here; known are {', '.join(map(repr, self._people)) or 'none'}"
            )
        return found

    def message(self, name: str, *, acs_url: str, audience: str, request_id: str | None = None) -> Message:
        """Return the genuine answer that vouches for somebody; ``but()`` makes wrong ones of it.

        :param name: as in :meth:`add_user`.
        :param acs_url: where it goes; ``audience`` is the service provider's entity id.
        :param request_id: the ID of the AuthnRequest; ``None``: nobody has asked.
        :raises LookupError: if nobody has that name.
        """
        person = self.person(name)
        return Message(
            issuer=self.entity_id,
            acs_url=acs_url,
            audience=audience,
            request_id=request_id,
            name_id=person.name_id,
            name_id_format=self._name_id_format,
            attributes=person.attributes,
            sign_response=self._sign_response,
        )

    def add_service_provider(self, metadata: str | bytes) -> str:
        """Know a service provider by its metadata; return its entity id.

        :raises ValueError: if they are none.
        """
        return self._services.add(metadata.encode() if isinstance(metadata, str) else metadata)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        request.max_content_length = request.max_form_memory_size = 256 * 1024
        try:
            if not _is_loopback(request.remote_addr):
                raise Forbidden("This identity provider asks for no password: it answers its own machine only.")
            answer = self._answer(request)
        except HTTPException as error:
            answer = Response(error.get_body(), error.code, error.get_headers())
        answer.headers["Cache-Control"] = "no-store"
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        views = {
            "/": (self._front, {"GET", "HEAD"}),
            "/metadata": (self._metadata, {"GET", "HEAD"}),
            "/sso": (self._sso, {"GET", "POST"}),
            "/begin": (self._begin, {"POST"}),
            "/login": (self._login, {"POST"}),
            "/slo": (self._slo, {"GET", "POST"}),
            "/logout": (self._log_out, {"GET", "POST"}),
        }
        if request.path not in views:
            raise NotFound
        view, methods = views[request.path]
        if request.method not in methods:
            raise MethodNotAllowed(sorted(methods))
        return view(request)

    def _metadata(self, _: Request) -> Response:
        return Response(self.metadata_xml, mimetype="application/samlmetadata+xml")

    def _front(self, request: Request) -> Response:
        session = self._who(request)
        body = f"<p>You are signed in here as {escape(session.person)}.</p>" if session else ""
        if session:
            body += '<form method="post" action="/logout"><button>Sign out of the identity provider</button></form>'
        services = "".join(
            f'<li><button name="service" value="{escape(name)}">Go to {escape(name)}</button></li>'
            for name in self._services.names
        )
        if services:
            body += f'<h2>Sign in from here</h2><form method="post" action="/begin"><ul>{services}</ul></form>'
        return notice("Development identity provider", body if session else f"<p>You are not signed in here.</p>{body}")

    def _sso(self, request: Request) -> Response:
        asked = read_request(request, "redirect" if request.method == "GET" else "post")
        session = self._who(request)
        if asked.passive:
            return self._vouch(asked, session) if session and not asked.force_authn else self._decline(asked)
        return self._choose(asked, None if asked.force_authn else session)

    def _begin(self, request: Request) -> Response:
        """Let a login begin here, which no service provider has asked for (saml-profiles 4.1.5)."""
        return self._choose(self._unsolicited(request), self._who(request))

    def _unsolicited(self, request: Request) -> Asked:
        service = self._services.find(request.form.get("service", ""))
        if service is None:
            raise BadRequest("No service provider of that name is known here.")
        return Asked("", "", "", None, service.entity_id, service.acs_url)

    def _login(self, request: Request) -> Response:
        asked = (
            self._unsolicited(request)
            if "service" in request.form
            else read_request(request, request.form.get("binding", ""))
        )
        person = self._people.get(request.form.get("user", ""))
        if person is None:
            raise BadRequest("Nobody of that name can sign in here.")
        former = self._who(request)
        if former is not None and former.person == person.name and not asked.force_authn:
            return self._vouch(asked, former)
        opaque = secrets.token_urlsafe(24)
        session = Session(person.name, person.name_id, f"_{secrets.token_hex(16)}")
        with self._lock:
            self._sessions.pop(request.cookies.get(COOKIE, ""), None)
            self._sessions[opaque] = session
        answer = self._vouch(asked, session)
        answer.set_cookie(COOKIE, opaque, httponly=True, samesite="Lax")
        return answer

    def _slo(self, request: Request) -> Response:
        return self._logout.receive(request)

    def _log_out(self, request: Request) -> Response:
        """End the session here, and all that it has vouched for."""
        with self._lock:
            session = self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer = self._logout.begin(session or Session("", "", ""))
        answer.delete_cookie(COOKIE, httponly=True, samesite="Lax")
        return answer

    def _end(self, name_id: str, indexes: list[str]) -> list[Session]:
        """Take the sessions of somebody away: found by what the message says, for it may come without our cookie."""
        with self._lock:
            found = {
                opaque: session
                for opaque, session in self._sessions.items()
                if session.name_id == name_id and (not indexes or session.index in indexes)
            }
            for opaque in found:
                del self._sessions[opaque]
        return list(found.values())

    def _signer(self) -> tuple[SigningKey, str, str]:
        return self.key, self.entity_id, self._name_id_format

    def _who(self, request: Request) -> Session | None:
        with self._lock:
            return self._sessions.get(request.cookies.get(COOKIE, ""))

    def _choose(self, asked: Asked, session: Session | None) -> Response:
        """Return the login page: one button for each person, first whoever is signed in."""
        if asked.encoded:
            fields = hidden(SAMLRequest=asked.encoded, RelayState=asked.relay_state, binding=asked.binding)
        else:
            fields = hidden(service=asked.issuer)
        present = session.person if session is not None else ""
        buttons = "".join(
            f'<li><button name="user" value="{escape(name)}">'
            f"{'Continue' if name == present else 'Sign in'} as {escape(name)}</button></li>"
            for name in sorted(self._people, key=lambda name: name != present)
        )
        return notice(
            "Choose who you are",
            f"<p><strong>{escape(asked.issuer)}</strong> asks who you are.</p>"
            f'<form method="post" action="/login">{fields}<ul>{buttons}</ul></form>'
            '<p class="soft">This identity provider is for development: it asks for no password.</p>',
        )

    def _vouch(self, asked: Asked, session: Session) -> Response:
        """Return the page that posts the signed answer (saml-bindings 3.5); without a script it has a button."""
        with self._lock:
            if asked.issuer not in session.services:
                session.services.append(asked.issuer)
        message = replace(
            self._message(asked),
            name_id=session.name_id,
            name_id_format=self._name_id_format,
            attributes=self._people[session.person].attributes,
            session_index=session.index,
        )
        service = self._services.find(asked.issuer)
        if service is None or not service.encryption:
            encoded = replace(message, sign_response=self._sign_response).encoded(self.key)
        else:
            # What a signature around an encrypted assertion covers is the encrypted one (saml-core 6.2).
            response = encrypt_assertion(message.signed(self.key), service.encryption)
            if self._sign_response:
                sign(response, self.key)
            encoded = encode(response)
        return self._back(asked, encoded, f"You are signed in as {session.person}.")

    def _decline(self, asked: Asked) -> Response:
        """Say that the user would have to be asked, which IsPassive forbids (saml-core 3.4.1)."""
        response = replace(self._message(asked), status=f"{_STATUS}Responder").tree()
        for part in response.findall(f"{{{SAML}}}Assertion"):
            response.remove(part)
        for code in response.findall(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode"):
            etree.SubElement(code, code.tag, Value=f"{_STATUS}NoPassive")
        sign(response, self.key)
        return self._back(asked, encode(response), "You are not signed in.")

    def _message(self, asked: Asked) -> Message:
        return Message(issuer=self.entity_id, acs_url=asked.acs_url, audience=asked.issuer, request_id=asked.request_id)

    def _back(self, asked: Asked, encoded: str, said: str) -> Response:
        fields = {"SAMLResponse": encoded, **({"RelayState": asked.relay_state} if asked.relay_state else {})}
        return post_on(asked.acs_url, fields, "Going back", said)


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
