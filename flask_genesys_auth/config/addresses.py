"""URLs, hosts and proxies in the configuration, parsed strictly and normalised. Error messages never quote them."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from marshmallow import ValidationError

from .secrets import Secret

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts whose connections cannot leave the machine; plain http to them is accepted."""

DEFAULT_PORTS = {"https": 443, "http": 80}

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", re.ASCII)
_REST = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_CREDENTIALS = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_LDAP_PORTS = {"ldaps": 636, "ldap": 389}
_PROXY_FORM = "must be http://host:port, or http://user:password@host:port"


@dataclass(frozen=True, slots=True)
class Address:
    """``scheme://host[:port][/path]``.

    :param host: lower case, an IPv6 address without its brackets.
    :param path: empty, or with a leading slash and without a trailing one.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def loopback(self) -> bool:
        """Return whether connections cannot leave the machine."""
        return self.host in LOOPBACK_HOSTS

    @property
    def netloc(self) -> str:
        """``host[:port]`` as a ``Host`` header carries it."""
        return bracketed(self.host) + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def bracketed(host: str) -> str:
    """Return a host as a URL contains it (RFC 3986 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def address(text: str) -> Address:
    """Parse an http or https URL without white space, user info, query, fragment and dot segments.

    :raises ValidationError: if it has any other form.
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValidationError("must be a URL such as https://portal.acme.example")
    if "?" in rest or "#" in rest:
        raise ValidationError("must not have a query (?) or a fragment (#)")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise ValidationError("must not contain a user name or a password")
    host, port = split_authority(authority)
    path = (slash + path).rstrip("/")
    if not _PATH.fullmatch(path) or any(segment in {".", ".."} for segment in path.split("/")):
        raise ValidationError("must not have a path with //, . or .. segments, spaces or percent-encoding")
    return Address(scheme, host, port or DEFAULT_PORTS[scheme], path)


def base_url(text: str) -> str:
    """Return a normalised URL: lower-case host, no default port, no trailing slash."""
    return str(address(text))


def is_address(text: str) -> bool:
    """Return whether a text is a URL and not the path of a file."""
    return "://" in text


def document(text: str) -> str:
    """Return the URL of a document with its path and query (RFC 3986 3.3, 3.4).

    :raises ValidationError: as :func:`address`, except that a query is accepted: Entra ID's metadata URLs have one.
    """
    site, below = _site(text)
    if "#" in below:
        raise ValidationError("must not have a fragment (#)")
    if not _REST.fullmatch(below if below.startswith("/") else f"/{below}"):
        raise ValidationError("must have its special characters percent-encoded")
    return f"{site}{below}"


def _site(text: str) -> tuple[Address, str]:
    scheme, separator, rest = text.partition("://")
    border = next((place for place, character in enumerate(rest) if character in "/?#"), len(rest))
    return address(scheme + separator + rest[:border]), rest[border:]


def origin(text: str) -> str:
    """Return a serialized origin (RFC 6454 6.2)."""
    parts = address(text)
    if parts.path or text.endswith("/"):
        raise ValidationError("must be an origin such as https://app.acme.example, without a path or a trailing slash")
    return str(parts)


def split_authority(text: str) -> tuple[str, int | None]:
    """Return the host (lower case, without brackets) and the port, if given."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValidationError("must name a host and, after a colon, at most a port number")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValidationError("must have a port from 1 to 65535")
    return host_name(found["host"]), port


def host_name(text: str) -> str:
    """Return a host name in lower case, or an IPv6 address without brackets in its shortest form (RFC 5952)."""
    if text.startswith("["):
        try:
            parsed = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            parsed = None
        if parsed is None or parsed.scope_id:
            raise ValidationError("must have an IPv6 address without a zone in its brackets")
        return str(parsed)
    lowered = text.lower()
    if len(lowered) > 253 or not _HOST.fullmatch(lowered):
        raise ValidationError(
            "must be a host name of ASCII letters, digits, dots and hyphens (international names as xn--...)"
        )
    return lowered


def served_host(text: str) -> str:
    """Return an entry of ``hosts`` as a ``Host`` header carries it: ``host``, ``host:port`` or ``[ipv6]:port``."""
    if "/" in text:
        raise ValidationError("must be a host such as portal.acme.example, without a scheme or a path")
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    host, port = split_authority(f"[{text}]" if bare_ipv6 else text)
    return bracketed(host) + (f":{port}" if port else "")


def plain_http(url: str) -> bool:
    """Return whether a normalised URL is plain http and could leave the machine."""
    return url.startswith("http://") and not _site(url)[0].loopback


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of ``identity_hosts`` or ``redirect_hosts``.

    :param host: lower case; a leading dot makes it a suffix of whole labels.
    """

    host: str
    scheme: str = "https"
    port: int = 443

    def matches(self, scheme: str, host: str, port: int) -> bool:
        """Return whether this entry allows a URL of exactly these parts (``host`` in lower case)."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if self.host.startswith("."):
            return host.endswith(self.host) and len(host) > len(self.host)
        return host == self.host

    def __str__(self) -> str:
        return str(Address(self.scheme, self.host, self.port, ""))


def allowed_host(text: str) -> AllowedHost:
    """Return an entry of ``identity_hosts``: a bare host (https on 443) or an origin."""
    if "://" not in text:
        if "/" in text or ":" in text:
            raise ValidationError(
                "must be a host such as login.salesforce.com, or an origin such as http://127.0.0.1:5002"
            )
        if text.startswith("."):
            raise ValidationError("must be a full host name: only redirect_hosts accepts a leading dot")
        return AllowedHost(host_name(text))
    parts = address(text)
    if parts.path:
        raise ValidationError("must not have a path")
    if parts.scheme == "https" and parts.port != 443 and not parts.loopback:
        raise ValidationError(f"must use port 443, not {parts.port}")
    return AllowedHost(parts.host, parts.scheme, parts.port)


def allowed_suffix(text: str) -> AllowedHost:
    """Return an entry of ``redirect_hosts``: as :func:`allowed_host`, or a suffix of whole labels."""
    if not text.startswith("."):
        return allowed_host(text)
    suffix = host_name(text[1:])
    if "." not in suffix:
        raise ValidationError("must have at least two labels after the dot, such as .my.salesforce.com")
    return AllowedHost(f".{suffix}")


@dataclass(frozen=True, slots=True)
class LdapServer:
    """One server of an LDAP directory.

    :param tls: TLS from the first byte (``ldaps``).
    :param host: lower case, an IPv6 address without its brackets.
    """

    tls: bool
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Return whether connections cannot leave the machine."""
        return self.host in LOOPBACK_HOSTS

    def __str__(self) -> str:
        return f"{'ldaps' if self.tls else 'ldap'}://{bracketed(self.host)}:{self.port}"


def ldap_server(text: str) -> LdapServer:
    """Parse a URL such as ``ldaps://ldap.acme.example``."""
    scheme, separator, authority = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _LDAP_PORTS:
        raise ValidationError("must be a URL such as ldaps://ldap.acme.example or ldap://ldap.acme.example:389")
    host, port = split_authority(authority.removesuffix("/"))
    return LdapServer(scheme == "ldaps", host, port or _LDAP_PORTS[scheme])


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy and the credentials for it.

    :param host: lower case, an IPv6 address without its brackets.
    :param authorization: the value of its ``Proxy-Authorization`` header (RFC 9110 11.7.2), if it requires one.
    """

    host: str
    port: int
    authorization: Secret | None = None

    def __str__(self) -> str:
        return f"http://{bracketed(self.host)}:{self.port}"


def proxy_of(text: str) -> Proxy:
    """Parse the URL of a proxy. No error message quotes it, because it may hold a password.

    :param text: ``http://[user:password@]host:port``; reserved characters in user name and password are
        percent-encoded (RFC 3986 3.2.1).
    :raises ValidationError: if it has any other form.
    """
    scheme, separator, rest = text.partition("://")
    if scheme.lower() == "https":
        raise ValidationError(
            f"{_PROXY_FORM}: the connection to the proxy is plain http, with TLS to the server inside"
        )
    credentials, at, authority = rest.removesuffix("/").rpartition("@")
    if scheme.lower() != "http" or not separator or not _CREDENTIALS.fullmatch(credentials):
        raise ValidationError(_PROXY_FORM)
    try:
        host, port = split_authority(authority)
    except ValidationError as error:
        raise ValidationError(_PROXY_FORM) from error
    if port is None:
        raise ValidationError(f"{_PROXY_FORM}: the port is missing")
    return Proxy(host, port, _authorization(credentials) if at else None)


def _authorization(credentials: str) -> Secret:
    """Return the header value of Basic credentials (RFC 7617 2)."""
    name, _, password = credentials.partition(":")
    octets = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return Secret(f"Basic {base64.b64encode(octets).decode('ascii')}")
