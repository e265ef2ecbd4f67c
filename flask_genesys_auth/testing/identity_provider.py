"""A SAML identity provider for development and tests: real messages over real HTTP, and no passwords at all.

It signs for whoever asks, with a key of its own making, so that it answers nobody but its own machine
(:class:`~flask_genesys_auth.testing.server.LoopbackServer` serves it there).
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import xmlsec
from lxml import etree
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response
from xmlsec import constants

from ..saml.documents import DS, SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, parse, text_of
from ..saml.errors import SamlError
from ..saml.signatures import check_signature, read_form
from ..saml.transport import read_query
from .saml_messages import (
    EMAIL,
    SUCCESS,
    Encryption,
    LogoutMessage,
    Message,
    SigningKey,
    encode,
    generate_signing_key,
    provider_metadata,
    sign,
)
from .service_providers import AuthnRequest, ServiceProvider, ServiceProviders, read_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "development_idp_session"
"""Not ``session``: cookies are shared between the ports of one host."""

_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"

_LIMITS = Limits(size=64 * 1024, depth=24, elements=300, attributes=32)
_MOST_LEAVING = 1000

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #f3f1fa; --card: #fff; --ink: #211d2e; --soft: #5d5870; --line: #d8d3e6;
  --accent: #5b3fa8; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #15131c; --card: #1f1c2a; --ink: #eae7f2; --soft: #ada6c2;
  --line: #3b3650; --accent: #b9a4f5; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: anywhere; }}
main {{ width: 100%; max-width: 29rem; padding: clamp(1.5rem, 6vw, 2.5rem); background: var(--card);
  border: 1px solid var(--line); border-top: 4px solid var(--accent); border-radius: 10px; }}
h1 {{ margin: 0 0 .75rem; font-size: clamp(1.45rem, 5vw, 1.75rem); line-height: 1.25; }}
h2 {{ margin: 1.75rem 0 .5rem; font-size: 1.1rem; line-height: 1.3; }}
p {{ margin: 0 0 1rem; }}
main > :last-child {{ margin-bottom: 0; }}
.soft {{ color: var(--soft); font-size: .9rem; }}
button {{ font: inherit; min-height: 2.75rem; padding: .5rem 1rem; width: 100%; text-align: start; cursor: pointer;
  color: var(--ink); background: transparent; border: 1px solid var(--line); border-radius: 7px;
  overflow-wrap: anywhere; }}
button:hover, button:focus-visible {{ border-color: var(--accent); color: var(--accent); }}
button:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
a {{ color: var(--accent); }}
ul {{ list-style: none; margin: 0; padding: 0; }}
form + p {{ margin-top: 1.25rem; }}
li + li {{ margin-top: .6rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
{script}
</body>
</html>
"""


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

    def _unsolicited(self, request: Request) -> AuthnRequest:
        service = self._services.find(request.form.get("service", ""))
        if service is None:
            raise BadRequest("No service provider of that name is known here.")
        return AuthnRequest("", "", "", None, service.entity_id, service.acs_url)

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

    def _choose(self, asked: AuthnRequest, session: Session | None) -> Response:
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

    def _vouch(self, asked: AuthnRequest, session: Session) -> Response:
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
            response = message.signed(self.key)
            Encryption(SigningKey("", service.encryption)).assertion(response)
            if self._sign_response:
                sign(response, self.key)
            encoded = encode(response)
        return self._back(asked, encoded, f"You are signed in as {session.person}.")

    def _decline(self, asked: AuthnRequest) -> Response:
        """Say that the user would have to be asked, which IsPassive forbids (saml-core 3.4.1)."""
        response = replace(self._message(asked), status=f"{_STATUS}Responder").tree()
        for part in response.findall(f"{{{SAML}}}Assertion"):
            response.remove(part)
        for code in response.findall(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode"):
            etree.SubElement(code, code.tag, Value=f"{_STATUS}NoPassive")
        sign(response, self.key)
        return self._back(asked, encode(response), "You are not signed in.")

    def _message(self, asked: AuthnRequest) -> Message:
        return Message(issuer=self.entity_id, acs_url=asked.acs_url, audience=asked.issuer, request_id=asked.request_id)

    def _back(self, asked: AuthnRequest, encoded: str, said: str) -> Response:
        fields = {"SAMLResponse": encoded, **({"RelayState": asked.relay_state} if asked.relay_state else {})}
        return post_on(asked.acs_url, fields, "Going back", said)


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
class LogoutRequest:
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
    asked: LogoutRequest | None = None


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
            return self._asked(root, LogoutRequest(service, root.get("ID", ""), relay_state, binding))
        with self._lock:
            leaving = self._leaving.pop(relay_state, None)
        if leaving is None:
            raise BadRequest("Nobody is being logged out with this RelayState.")
        status = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
        done = status is not None and status.get("Value") == SUCCESS and not len(status)
        return self._go_on(replace(leaving, partial=leaving.partial or not done))

    def _asked(self, root: etree._Element, asked: LogoutRequest) -> Response:
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


def notice(title: str, body: str, *, script: str = "") -> Response:
    """Return a page.

    :param title: text; ``body`` and ``script`` are HTML.
    """
    return Response(_PAGE.format(title=escape(title), body=body, script=script), mimetype="text/html")


def post_on(action: str, fields: Mapping[str, str], title: str, said: str = "") -> Response:
    """Return the page that posts these fields on (saml-bindings 3.5); without a script it has a button.

    :param said: text above the button.
    """
    return notice(
        title,
        f'<form method="post" action="{escape(action)}">{hidden(**fields)}'
        f"{f'<p>{escape(said)}</p>' if said else ''}<button>Continue</button></form>",
        script="<script>document.forms[0].submit()</script>",
    )


def hidden(**fields: str) -> str:
    """Return a form's hidden fields, those left out that are empty."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items() if value
    )


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
