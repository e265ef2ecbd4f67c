"""Parses the evidence of a request: Basic credentials, the Salesforce headers, and the client's address."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, TypeAlias

from ..config.names import fold, short_id
from .outcomes import LoginSession, Rejected

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..config.settings import SalesforceHeaders

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # Unicode's categories Cc and Cs
_VISIBLE = re.compile(r"[!-~]+")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_IDENTITY_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[::1\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"/id/(?P<organization>00D[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)/(?P<user>005[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)",
    re.ASCII,
)
_DEFAULT_PORTS = {"https": 443, "http": 80}
_ADDRESS_AND_PORT = re.compile(r"\[([^\[\]]*:[^\[\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")

MAX_USER_NAME = 255
MAX_PASSWORD = 1024
MAX_SESSION_ID = 4096
MAX_IDENTITY_URL = 512
MAX_ADDRESS = 100

ResumeSession: TypeAlias = "Callable[[], LoginSession | Rejected | None]"


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """A user name and a password (RFC 7617 2).

    :param name: as looked up: without its realm, NFC, case-folded.
    :param realm: the text before the first backslash, case-folded, or empty.
    """

    user_name: str
    password: str = field(repr=False)
    name: str = ""
    realm: str = ""

    @property
    def domain(self) -> str:
        """The text after the last ``@`` of the name, or empty."""
        return self.name.rpartition("@")[2] if "@" in self.name else ""


@dataclass(frozen=True, slots=True)
class IdentityUrl:
    """The parts of ``https://<host>/id/<organization id>/<user id>``.

    :param host: lower case, without brackets.
    :param path: as sent, to compare it with the path of a redirect.
    :param organization: the first 15 characters of the id, as is ``user``; the checksum of a longer id was right.
    """

    scheme: str
    host: str
    port: int
    path: str
    organization: str
    user: str


@dataclass(frozen=True, slots=True)
class SalesforceCredentials:
    """A Salesforce session id and the identity URL to send it to."""

    session_id: str = field(repr=False)
    identity_url: str

    @property
    def identity(self) -> IdentityUrl | None:
        """The parts of the identity URL, or ``None`` if it has another form."""
        return parse_identity_url(self.identity_url)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Credentials that cannot be read.

    :param finding: what is wrong with them, without any part of them.
    """

    finding: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a request offers to the steps.

    :param address: the client's address as ``read_address`` returns it (ProxyFix is up to the application).
    :param resume: resolves the browser's login session, at most once per request.
    :param dry_run: for ``explain``: count no failure and store nothing.
    """

    request: Request = field(repr=False)
    address: str
    basic: BasicCredentials | Malformed | None = None
    salesforce: SalesforceCredentials | Malformed | None = None
    contact_center_id: str = ""
    resume: ResumeSession = field(default=lambda: None, repr=False)
    dry_run: bool = False


def split_user_name(user_name: str) -> tuple[str, str]:
    r"""Return the realm (or ``""``) and the name as looked up: ``REALM\Ann`` gives ``realm`` and ``ann``."""
    realm, backslash, name = user_name.partition("\\")
    return (fold(realm), fold(name)) if backslash else ("", fold(user_name))


def _other_spelling(name: str) -> bool:
    """Return whether a directory might read this as another name, whose failures are counted apart."""
    if "\\" in name or name != name.strip():
        return True
    return not name.isascii() and any(unicodedata.category(one) == "Cf" for one in name)


def parse_basic(header: str | None) -> BasicCredentials | Malformed | None:
    """Parse an ``Authorization`` header (RFC 7617 2, in UTF-8).

    :returns: ``None`` without a header or for another scheme.
    """
    if header is None:
        return None
    scheme, _, token = header.strip(" \t").partition(" ")
    if scheme.casefold() != "basic":
        return None
    try:
        decoded = base64.b64decode(token.strip(" \t").encode("ascii"), validate=True).decode("utf-8")
    except (UnicodeError, binascii.Error):
        return Malformed("the Basic credentials are not base64 of UTF-8")
    return read_credentials(*decoded.partition(":"))


def read_credentials(user_name: str, colon: str, password: str) -> BasicCredentials | Malformed:
    """Check a user name and a password from any source (RFC 7617 2: no colon in a name, no control characters).

    :param colon: empty if the separator was missing.
    """
    if not colon:
        return Malformed("the Basic credentials have no colon")
    if ":" in user_name:
        return Malformed("the user name contains a colon")
    if _CONTROLS.search(user_name) or _CONTROLS.search(password):
        return Malformed("the credentials contain control characters")
    if len(user_name) > MAX_USER_NAME or len(password) > MAX_PASSWORD:
        return Malformed("the user name or the password is too long")
    realm, name = split_user_name(user_name)
    if not name or len(name) > MAX_USER_NAME:
        return Malformed("the user name is empty or too long")
    if (realm and _other_spelling(realm)) or _other_spelling(name):
        return Malformed("the user name has white space around it, invisible characters or a second backslash")
    return BasicCredentials(user_name=user_name, password=password, name=name, realm=realm)


@lru_cache(maxsize=1024)
def parse_identity_url(url: str) -> IdentityUrl | None:
    """Return the parts of an identity URL, or ``None`` for any other form.

    This is strict, because the host receives the session id and names the user. URLs with user info, a query, a
    fragment or a dot segment do not match. A port is kept for the allow-list.
    """
    if not url.isascii():  # lower() turns some other characters into ASCII: the Kelvin sign becomes a k
        return None
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    found = _IDENTITY_URL.fullmatch(f"{scheme.lower()}{separator}{authority.lower()}{slash}{path}")
    if found is None:
        return None
    organization, user = short_id(found["organization"]), short_id(found["user"])
    if organization is None or user is None:
        return None
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[found["scheme"]]
    if port > 65535:
        return None
    return IdentityUrl(found["scheme"], found["host"].strip("[]"), port, slash + path, organization, user)


def parse_salesforce(session_id: str | None, identity_url: str | None) -> SalesforceCredentials | Malformed | None:
    """Parse the two Salesforce headers; if one is missing or empty, there is no evidence."""
    if not session_id or not identity_url:
        return None
    if len(session_id) > MAX_SESSION_ID or len(identity_url) > MAX_IDENTITY_URL:
        return Malformed("a Salesforce header is too long")
    if not _VISIBLE.fullmatch(session_id) or not _VISIBLE.fullmatch(identity_url):
        return Malformed("a Salesforce header has characters other than visible ASCII")
    return SalesforceCredentials(session_id=session_id, identity_url=identity_url)


def read_address(text: str) -> str:
    """Return a client address without its port, brackets and zone, in one spelling; empty if it cannot be read.

    Some gateways write a port into ``X-Forwarded-For``. With it, each connection would have an address of its own, and
    no limit per address would apply. An IPv6 address with a port needs brackets (RFC 3986 3.2.2).
    """
    return _read_address(text) if len(text) <= MAX_ADDRESS else ""


@lru_cache(maxsize=4096)
def _read_address(text: str) -> str:
    with_port = _ADDRESS_AND_PORT.fullmatch(text)
    try:
        parsed = ip_address(with_port[1] or with_port[2] if with_port else text)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed)))  # an int has no zone
    return str(parsed)


def collect(
    request: Request, headers: SalesforceHeaders, resume: ResumeSession = lambda: None, *, dry_run: bool = False
) -> Evidence:
    """Collect the evidence of a request."""
    # Faster than Request.headers, which searches and raises for each name.
    sent = request.environ
    return Evidence(
        request=request,
        address=read_address(request.remote_addr or ""),
        basic=parse_basic(sent.get("HTTP_AUTHORIZATION")),
        salesforce=parse_salesforce(sent.get(_in_environ(headers.session)), sent.get(_in_environ(headers.identity))),
        contact_center_id=sent.get("HTTP_CONTACTCENTERID", ""),
        resume=resume,
        dry_run=dry_run,
    )


@lru_cache(maxsize=64)
def _in_environ(header: str) -> str:
    """Return the name of a request header in the WSGI environment (PEP 3333)."""
    name = header.upper().replace("-", "_")
    return name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
