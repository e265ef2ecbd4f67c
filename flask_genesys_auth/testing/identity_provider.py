"""A SAML identity provider for development and tests: real messages over real HTTP, and no passwords at all.

It signs for whoever asks, with a key of its own making, so that it answers nobody but its own machine
(:class:`~flask_genesys_auth.testing.server.LoopbackServer` serves it there).
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from ..saml.documents import SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, parse, text_of
from .saml_messages import EMAIL, Message, provider_metadata
from .signing_keys import SigningKey, generate_signing_key

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "development_idp_session"
"""Not ``session``: cookies are shared between the ports of one host."""

_LIMITS = Limits(size=64 * 1024, depth=16, elements=200, attributes=32)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.05rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 0 auto; padding: 2rem 1rem;
  overflow-wrap: anywhere; }}
button {{ font: inherit; min-height: 2.75rem; padding: .4rem 1rem; margin: .25rem 0; width: 100%; text-align: start;
  cursor: pointer; }}
ul {{ list-style: none; padding: 0; }}
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """An AuthnRequest as it came, and what it asks for."""

    encoded: str
    binding: str
    relay_state: str
    request_id: str
    issuer: str
    acs_url: str
    force_authn: bool


class DevelopmentIdentityProvider:
    """A WSGI application: ``/metadata``, ``/sso`` (HTTP-Redirect and HTTP-POST), ``/login``, ``/logout``.

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
        self._sessions: dict[str, tuple[str, str]] = {}
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
        return provider_metadata(self.entity_id, f"{self.url}/sso", (self.key.certificate,))

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
            "/login": (self._login, {"POST"}),
            "/logout": (self._logout, {"GET", "POST"}),
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
        person, _ = self._who(request)
        said = f"You are signed in here as {escape(person.name)}." if person else "You are not signed in here."
        form = '<form method="post" action="/logout"><button>Sign out of the identity provider</button></form>'
        return _page("Development identity provider", f"<p>{said}</p>{form if person else ''}")

    def _sso(self, request: Request) -> Response:
        asked = _read_request(request, "redirect" if request.method == "GET" else "post")
        person, session_index = self._who(request)
        if person is None or asked.force_authn:
            return self._choose(asked)
        return self._vouch(asked, person, session_index)

    def _login(self, request: Request) -> Response:
        asked = _read_request(request, request.form.get("binding", ""))
        person = self._people.get(request.form.get("user", ""))
        if person is None:
            raise BadRequest("Nobody of that name can sign in here.")
        opaque, session_index = secrets.token_urlsafe(24), f"_{secrets.token_hex(16)}"
        with self._lock:
            self._sessions[opaque] = (person.name, session_index)
        answer = self._vouch(asked, person, session_index)
        answer.set_cookie(COOKIE, opaque, httponly=True, samesite="Lax")
        return answer

    def _logout(self, request: Request) -> Response:
        with self._lock:
            self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer = _page("Signed out", "<p>Your session at the identity provider has ended.</p>")
        answer.delete_cookie(COOKIE, httponly=True, samesite="Lax")
        return answer

    def _who(self, request: Request) -> tuple[Person | None, str]:
        with self._lock:
            name, session_index = self._sessions.get(request.cookies.get(COOKIE, ""), ("", ""))
        return self._people.get(name), session_index

    def _choose(self, asked: _Asked) -> Response:
        """Return the login page: one button for each person."""
        hidden = _hidden(SAMLRequest=asked.encoded, RelayState=asked.relay_state, binding=asked.binding)
        buttons = "".join(
            f'<li><button name="user" value="{escape(name)}">Sign in as {escape(name)}</button></li>'
            for name in self._people
        )
        return _page(
            "Choose who you are",
            f"<p><strong>{escape(asked.issuer)}</strong> asks who you are. This identity provider is for development: "
            f'it asks for no password.</p><form method="post" action="/login">{hidden}<ul>{buttons}</ul></form>',
        )

    def _vouch(self, asked: _Asked, person: Person, session_index: str) -> Response:
        """Return the page that posts the signed answer (saml-bindings 3.5); without a script it has a button."""
        message = Message(
            issuer=self.entity_id,
            acs_url=asked.acs_url,
            audience=asked.issuer,
            request_id=asked.request_id,
            name_id=person.name_id,
            name_id_format=self._name_id_format,
            attributes=person.attributes,
            session_index=session_index,
            sign_response=self._sign_response,
        )
        hidden = _hidden(SAMLResponse=message.encoded(self.key), RelayState=asked.relay_state)
        return _page(
            "Going back",
            f'<form method="post" action="{escape(asked.acs_url)}">{hidden}<p>You are signed in as '
            f"{escape(person.name)}.</p><button>Continue</button></form>",
            script="<script>document.forms[0].submit()</script>",
        )


def _read_request(request: Request, binding: str) -> _Asked:
    """Read an AuthnRequest of either binding (saml-bindings 3.4, 3.5); what is inflated is bounded."""
    fields = request.args if request.method == "GET" else request.form
    encoded = fields.get("SAMLRequest", "")
    try:
        data = base64.b64decode(encoded.encode("ascii"), validate=True)
        if binding == "redirect":
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _LIMITS.size + 1)
        root = parse(data, _LIMITS)
        issuer = root.find(f"{{{SAML}}}Issuer")
        named = text_of(issuer) if issuer is not None else ""
    except (UnicodeEncodeError, binascii.Error, zlib.error, MalformedXml, ForbiddenXml) as error:
        raise BadRequest("This is no AuthnRequest.") from error
    acs_url = root.get("AssertionConsumerServiceURL", "")
    if root.tag != f"{{{SAMLP}}}AuthnRequest" or not named or urlsplit(acs_url).scheme not in {"http", "https"}:
        raise BadRequest("This is no AuthnRequest that says who asks and where the answer goes.")
    return _Asked(
        encoded=encoded,
        binding=binding,
        relay_state=fields.get("RelayState", ""),
        request_id=root.get("ID", ""),
        issuer=named,
        acs_url=acs_url,
        force_authn=root.get("ForceAuthn") in {"true", "1"},
    )


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False


def _hidden(**fields: str) -> str:
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items() if value
    )


def _page(title: str, body: str, *, script: str = "") -> Response:
    return Response(_PAGE.format(title=escape(title), body=body, script=script), mimetype="text/html")
