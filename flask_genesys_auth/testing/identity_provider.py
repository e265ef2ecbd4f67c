"""A SAML identity provider for development and tests. It does not require a password.

It signs for every client with a generated key, so it answers loopback addresses only.
:class:`~flask_genesys_auth.testing.LoopbackServer` serves it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lxml import etree
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from ..saml.documents import DS, SAML, SAMLP, Limits, from_base64, parse, text_of
from ..saml.errors import SamlError
from ..saml.signatures import check_signature, read_form
from ..saml.transport import RedirectMessage, read_query
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
from .service_providers import AuthnRequest, ServiceProvider, ServiceProviders, is_loopback, read_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "development_idp_session"
"""Not ``session``: ports of one host share cookies."""

_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
PARTIAL = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout"

_LIMITS = Limits(size=64 * 1024, depth=24, elements=300, attributes=32)
_MOST_LOGOUTS = 1000

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
    """A user who can log in here.

    :param name: shown on the login page.
    :param name_id: sent as the NameID.
    :param attributes: sent as attributes, each with one or several values.
    """

    name: str
    name_id: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)
class Session:
    """A user's session at the identity provider.

    :param index: the SessionIndex.
    :param services: entity IDs of the service providers that it was used for.
    """

    person: str
    name_id: str
    index: str
    services: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """The fields of a LogoutRequest that its response needs."""

    service: ServiceProvider
    request_id: str
    relay_state: str
    binding: str


@dataclass(frozen=True, slots=True)
class _Logout:
    """A single logout in progress (saml-profiles 4.4): the browser visits each service provider in turn.

    :param rest: entity IDs of the remaining service providers.
    :param partial: whether one of them could not be contacted, or failed.
    :param asked: the request that started it; ``None`` if the user started it here.
    """

    session: Session
    rest: tuple[str, ...]
    partial: bool = False
    asked: LogoutRequest | None = None


class DevelopmentIdentityProvider:
    """A WSGI application: ``/metadata``, ``/sso`` and ``/slo`` (HTTP-Redirect and HTTP-POST), ``/login``, ``/logout``.

    It answers every service provider. It reads the metadata of service providers that
    :meth:`add_service_provider` adds, and of those on this machine whose entity ID is the URL of their metadata. For
    these it encrypts assertions if they have an encryption key, starts logins (``/begin``) and takes part in single
    logout. Each login shows the list of users, also with a session. ``IsPassive`` is answered at once.

    :param url: where it is served. The entity ID is ``{url}/metadata``.
    :param key: the signing key; default: generated at first use.
    :param sign_response: sign the Response as well as the assertion.
    :param name_id_format: of the NameIDs.
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
        self._users: dict[str, Person] = {}
        self._sessions: dict[str, Session] = {}
        self._services = ServiceProviders()
        self._logouts: dict[str, _Logout] = {}
        self._lock = threading.Lock()

    @property
    def key(self) -> SigningKey:
        """The signing key."""
        with self._lock:
            if self._key is None:
                self._key = generate_signing_key("development identity provider")
            return self._key

    @property
    def entity_id(self) -> str:
        """The entity ID, which is also the URL of its metadata."""
        return f"{self.url}/metadata"

    @property
    def metadata_xml(self) -> str:
        """Its metadata (saml-metadata 2.4.3)."""
        return provider_metadata(self.entity_id, f"{self.url}/sso", (self.key.certificate,), slo_url=f"{self.url}/slo")

    def write_metadata(self, path: Path) -> Path:
        """Write its metadata to a file, for ``metadata`` in the configuration. Set ``url`` before."""
        path.write_text(self.metadata_xml, encoding="utf-8")
        return path

    def add_user(
        self, name: str, *, name_id: str = "", attributes: Mapping[str, str | Iterable[str]] | None = None
    ) -> None:
        """Add a user.

        :param name: shown on the login page.
        :param name_id: default: the name.
        :param attributes: each with one or several values.
        """
        several = {
            key: (value,) if isinstance(value, str) else tuple(value) for key, value in (attributes or {}).items()
        }
        self._users[name] = Person(name, name_id or name, MappingProxyType(several))

    def person(self, name: str) -> Person:
        """Return a user.

        :raises LookupError: if there is none with this name.
        """
        found = self._users.get(name)
        if found is None:
            raise LookupError(
                f"no user {name!r}; there are {', '.join(map(repr, self._users)) or 'none'}: call add_user()"
            )
        return found

    def message(self, name: str, *, acs_url: str, audience: str, request_id: str | None = None) -> Message:
        """Return the genuine response for a user; change it with ``but()``.

        :param name: as in :meth:`add_user`.
        :param acs_url: assertion consumer service of the service provider.
        :param audience: entity ID of the service provider.
        :param request_id: ID of the AuthnRequest; ``None``: unsolicited.
        :raises LookupError: if there is no user with this name.
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
        """Add a service provider by its metadata; return its entity ID.

        :raises ValueError: if the metadata cannot be used.
        """
        return self._services.add(metadata.encode() if isinstance(metadata, str) else metadata)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        request.max_content_length = request.max_form_memory_size = 256 * 1024
        try:
            if not is_loopback(request.remote_addr or ""):
                raise Forbidden("This identity provider requires no password, so it answers its own machine only.")
            answer = self._answer(request)
        except HTTPException as error:
            answer = Response(error.get_body(), error.code, error.get_headers())
        answer.headers["Cache-Control"] = "no-store"
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        views = {
            "/": (self._front_page, {"GET", "HEAD"}),
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

    def _front_page(self, request: Request) -> Response:
        session = self._session_of(request)
        body = f"<p>You are signed in here as {escape(session.person)}.</p>" if session else ""
        if session:
            body += '<form method="post" action="/logout"><button>Sign out of the identity provider</button></form>'
        services = "".join(
            f'<li><button name="service" value="{escape(name)}">Go to {escape(name)}</button></li>'
            for name in self._services.names
        )
        if services:
            body += f'<h2>Sign in from here</h2><form method="post" action="/begin"><ul>{services}</ul></form>'
        return html_page(
            "Development identity provider", body if session else f"<p>You are not signed in here.</p>{body}"
        )

    def _sso(self, request: Request) -> Response:
        asked = read_request(request, "redirect" if request.method == "GET" else "post")
        session = self._session_of(request)
        if asked.passive:
            return (
                self._answer_as(asked, session) if session and not asked.force_authn else self._answer_no_passive(asked)
            )
        return self._choose(asked, None if asked.force_authn else session)

    def _begin(self, request: Request) -> Response:
        """Start an unsolicited login (saml-profiles 4.1.5)."""
        return self._choose(self._unsolicited(request), self._session_of(request))

    def _unsolicited(self, request: Request) -> AuthnRequest:
        service = self._services.find(request.form.get("service", ""))
        if service is None:
            raise BadRequest("Unknown service provider.")
        return AuthnRequest("", "", "", None, service.entity_id, service.acs_url)

    def _login(self, request: Request) -> Response:
        asked = (
            self._unsolicited(request)
            if "service" in request.form
            else read_request(request, request.form.get("binding", ""))
        )
        person = self._users.get(request.form.get("user", ""))
        if person is None:
            raise BadRequest("There is no user with this name.")
        current = self._session_of(request)
        if current is not None and current.person == person.name and not asked.force_authn:
            return self._answer_as(asked, current)
        opaque = secrets.token_urlsafe(24)
        session = Session(person.name, person.name_id, f"_{secrets.token_hex(16)}")
        with self._lock:
            self._sessions.pop(request.cookies.get(COOKIE, ""), None)
            self._sessions[opaque] = session
        answer = self._answer_as(asked, session)
        answer.set_cookie(COOKIE, opaque, httponly=True, samesite="Lax")
        return answer

    def _log_out(self, request: Request) -> Response:
        """End the session, and log out of all service providers that it was used for."""
        with self._lock:
            session = self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        session = session or Session("", "", "")
        answer = self._continue_logout(_Logout(session, tuple(session.services)))
        answer.delete_cookie(COOKIE, httponly=True, samesite="Lax")
        return answer

    def _slo(self, request: Request) -> Response:
        """Handle a signed LogoutRequest or LogoutResponse by either binding."""
        try:
            root, relay_state, query = _read(request)
            service = self._sender(root)
            _check(root, query, service)
        except (SamlError, ValueError) as error:
            raise BadRequest("Not a logout message with the signature of a known service provider.") from error
        if root.tag == f"{{{SAMLP}}}LogoutRequest":
            binding = "post" if query is None else "redirect"
            return self._end_sessions(root, LogoutRequest(service, root.get("ID", ""), relay_state, binding))
        with self._lock:
            logout = self._logouts.pop(relay_state, None)
        if logout is None:
            raise BadRequest("No logout with this RelayState is in progress.")
        status = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
        done = status is not None and status.get("Value") == SUCCESS and not len(status)
        return self._continue_logout(replace(logout, partial=logout.partial or not done))

    def _end_sessions(self, root: etree._Element, asked: LogoutRequest) -> Response:
        name_id = root.find(f"{{{SAML}}}NameID")
        named = "" if name_id is None else text_of(name_id)
        ended = self._end(named, [text_of(index) for index in root.findall(f"{{{SAMLP}}}SessionIndex")])
        if not ended:
            return self._continue_logout(_Logout(Session("", named, ""), (), asked=asked))
        others = dict.fromkeys(name for session in ended for name in session.services)
        others.pop(asked.service.entity_id, None)
        return self._continue_logout(_Logout(ended[0], tuple(others), asked=asked))

    def _sender(self, root: etree._Element) -> ServiceProvider:
        issuer = root.find(f"{{{SAML}}}Issuer")
        service = None if issuer is None else self._services.find(text_of(issuer))
        if service is None or not service.keys:
            raise BadRequest("The sender is unknown, or has no signing key.")
        return service

    def _continue_logout(self, logout: _Logout) -> Response:
        """Send the browser to the next service provider; after the last one, respond or show the result."""
        rest, partial = list(logout.rest), logout.partial
        while rest:
            service = self._services.find(rest.pop(0))
            if service is None or not service.single_logout:
                partial = True
                continue
            relay_state = secrets.token_urlsafe(24)
            with self._lock:
                self._logouts[relay_state] = replace(logout, rest=tuple(rest), partial=partial)
                while len(self._logouts) > _MOST_LOGOUTS:
                    # Bounded: drop the oldest logouts, whose browsers have not returned.
                    del self._logouts[next(iter(self._logouts))]
            message = LogoutMessage(
                issuer=self.entity_id,
                destination=None,
                name_id=logout.session.name_id,
                name_id_format=self._name_id_format,
                session_indexes=(logout.session.index,),
                relay_state=relay_state,
            )
            return _send(message, service.single_logout, "redirect", self.key)
        asked = logout.asked
        if asked is None:
            return _signed_out(partial)
        answer = LogoutMessage(
            issuer=self.entity_id,
            destination=None,
            kind="LogoutResponse",
            in_response_to=asked.request_id,
            statuses=(SUCCESS, PARTIAL) if partial else (SUCCESS,),
            relay_state=asked.relay_state or None,
        )
        addresses = asked.service.logout_answers
        return _send(answer, addresses, asked.binding, self.key) if addresses else _signed_out(partial)

    def _end(self, name_id: str, indexes: list[str]) -> list[Session]:
        """Remove and return the sessions of a NameID. The message may arrive without our cookie."""
        with self._lock:
            found = {
                opaque: session
                for opaque, session in self._sessions.items()
                if session.name_id == name_id and (not indexes or session.index in indexes)
            }
            for opaque in found:
                del self._sessions[opaque]
        return list(found.values())

    def _session_of(self, request: Request) -> Session | None:
        with self._lock:
            return self._sessions.get(request.cookies.get(COOKIE, ""))

    def _choose(self, asked: AuthnRequest, session: Session | None) -> Response:
        """Return the login page: a button for each user, the current one first."""
        if asked.encoded:
            fields = hidden(SAMLRequest=asked.encoded, RelayState=asked.relay_state, binding=asked.binding)
        else:
            fields = hidden(service=asked.issuer)
        present = session.person if session is not None else ""
        buttons = "".join(
            f'<li><button name="user" value="{escape(name)}">'
            f"{'Continue' if name == present else 'Sign in'} as {escape(name)}</button></li>"
            for name in sorted(self._users, key=lambda name: name != present)
        )
        return html_page(
            "Choose who you are",
            f"<p><strong>{escape(asked.issuer)}</strong> asks who you are.</p>"
            f'<form method="post" action="/login">{fields}<ul>{buttons}</ul></form>'
            '<p class="soft">This identity provider is for development: it asks for no password.</p>',
        )

    def _answer_as(self, asked: AuthnRequest, session: Session) -> Response:
        """Return a page that posts the signed response (saml-bindings 3.5)."""
        with self._lock:
            if asked.issuer not in session.services:
                session.services.append(asked.issuer)
        message = replace(
            self._message(asked),
            name_id=session.name_id,
            name_id_format=self._name_id_format,
            attributes=self._users[session.person].attributes,
            session_index=session.index,
        )
        service = self._services.find(asked.issuer)
        if service is None or not service.encryption:
            encoded = replace(message, sign_response=self._sign_response).encoded(self.key)
        else:
            # The Response is signed last, so that its signature covers the encrypted assertion (saml-core 6.2).
            response = message.signed(self.key)
            Encryption(SigningKey("", service.encryption)).assertion(response)
            if self._sign_response:
                sign(response, self.key)
            encoded = encode(response)
        return self._post_answer(asked, encoded, f"You are signed in as {session.person}.")

    def _answer_no_passive(self, asked: AuthnRequest) -> Response:
        """Answer a passive request with NoPassive (saml-core 3.4.1)."""
        response = replace(self._message(asked), status=f"{_STATUS}Responder").tree()
        for part in response.findall(f"{{{SAML}}}Assertion"):
            response.remove(part)
        for code in response.findall(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode"):
            etree.SubElement(code, code.tag, Value=f"{_STATUS}NoPassive")
        sign(response, self.key)
        return self._post_answer(asked, encode(response), "You are not signed in.")

    def _message(self, asked: AuthnRequest) -> Message:
        return Message(issuer=self.entity_id, acs_url=asked.acs_url, audience=asked.issuer, request_id=asked.request_id)

    def _post_answer(self, asked: AuthnRequest, encoded: str, text: str) -> Response:
        fields = {"SAMLResponse": encoded, **({"RelayState": asked.relay_state} if asked.relay_state else {})}
        return auto_post_page(asked.acs_url, fields, "Going back", text)


def _signed_out(partial: bool) -> Response:
    some = " Some applications may still have you signed in." if partial else ""
    return html_page(
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
    return auto_post_page(address, message.form(key), "Signing out")


def _read(request: Request) -> tuple[etree._Element, str, RedirectMessage | None]:
    """Return a logout message, its RelayState, and its query by the Redirect binding."""
    if request.method == "GET":
        query = read_query(request.query_string.decode("latin-1"))
        kind, data, relay_state = query.kind, query.xml, query.relay_state
    else:
        query = None
        kind = "SAMLRequest" if "SAMLRequest" in request.form else "SAMLResponse"
        data, relay_state = from_base64(request.form.get(kind, "")), request.form.get("RelayState", "")
    root = parse(data, _LIMITS)
    if root.tag != f"{{{SAMLP}}}{'LogoutRequest' if kind == 'SAMLRequest' else 'LogoutResponse'}":
        raise BadRequest("Not a logout message.")
    return root, relay_state, query


def _check(root: etree._Element, query: RedirectMessage | None, service: ServiceProvider) -> None:
    """Check the signature of the query or of the element.

    :raises SamlError: unless a key of the service provider verifies it.
    """
    if query is not None:
        query.verify(service.keys)
        return
    signature = root.find(f"{{{DS}}}Signature")
    if signature is None:
        raise BadRequest("The logout message is not signed.")
    check_signature(read_form(signature, root), service.keys)


def html_page(title: str, body: str, *, script: str = "") -> Response:
    """Return a page.

    :param title: plain text.
    :param body: HTML, and so is ``script``.
    """
    return Response(_PAGE.format(title=escape(title), body=body, script=script), mimetype="text/html")


def auto_post_page(action: str, fields: Mapping[str, str], title: str, text: str = "") -> Response:
    """Return a page that posts these fields by a script (saml-bindings 3.5), or by its button.

    :param text: text above the button.
    """
    return html_page(
        title,
        f'<form method="post" action="{escape(action)}">{hidden(**fields)}'
        f"{f'<p>{escape(text)}</p>' if text else ''}<button>Continue</button></form>",
        script="<script>document.forms[0].submit()</script>",
    )


def hidden(**fields: str) -> str:
    """Return hidden form fields; empty ones are left out."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items() if value
    )
