"""Addresses in the configuration, taken apart strictly and brought into one form. Findings never quote one."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from marshmallow import ValidationError

from .values import LOOPBACK_HOSTS, AllowedHost

DEFAULT_PORTS = {"https": 443, "http": 80}

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", re.ASCII)
_REST = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """``scheme://host[:port][/path]``.

    :param host: lower case, an IPv6 address without its brackets.
    :param path: empty, or with a slash before and none behind.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def loopback(self) -> bool:
        """Tell whether it cannot leave the machine."""
        return self.host in LOOPBACK_HOSTS

    @property
    def netloc(self) -> str:
        """``host[:port]`` as a ``Host`` header carries it."""
        return bracketed(self.host) + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def bracketed(host: str) -> str:
    """Return a host as it stands in an address (RFC 3986 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def address(text: str) -> Address:
    """Take an http or https address apart; white space, user info, query, fragment and dot segments are refused.

    :raises ValidationError: if it is of any other form.
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValidationError("must be an address that begins with https://")
    if "?" in rest or "#" in rest:
        raise ValidationError("must have no query and no fragment")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise ValidationError("must carry no user name and no password")
    host, port = split_authority(authority)
    path = (slash + path).rstrip("/")
    if not _PATH.fullmatch(path) or any(segment in {".", ".."} for segment in path.split("/")):
        raise ValidationError("has a path of unexpected characters, empty segments or dot segments")
    return Address(scheme, host, port or DEFAULT_PORTS[scheme], path)


def base_url(text: str) -> str:
    """Return an address in its one form: lower-case host, no default port, no slash behind."""
    return str(address(text))


def is_address(text: str) -> bool:
    """Tell an address from the path of a file."""
    return "://" in text


def document(text: str) -> str:
    """Return the address of a document, with whatever path and query it has (RFC 3986 3.3, 3.4).

    :raises ValidationError: as :func:`address`, but for queries: Entra ID's metadata addresses have one.
    """
    site, below = _site(text)
    if "#" in below:
        raise ValidationError("must have no fragment")
    if not _REST.fullmatch(below if below.startswith("/") else f"/{below}"):
        raise ValidationError("has characters that must be percent-encoded in an address")
    return f"{site}{below}"


def _site(text: str) -> tuple[Address, str]:
    scheme, separator, rest = text.partition("://")
    border = next((place for place, character in enumerate(rest) if character in "/?#"), len(rest))
    return address(scheme + separator + rest[:border]), rest[border:]


def origin(text: str) -> str:
    """Return a serialized origin (RFC 6454 6.2)."""
    parts = address(text)
    if parts.path or text.endswith("/"):
        raise ValidationError("must be an origin such as https://app.acme.example, without a path")
    return str(parts)


def split_authority(text: str) -> tuple[str, int | None]:
    """Return the host (lower case, without brackets) and the port, if there is one."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValidationError("must name a host, and a port of digits if any")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValidationError("has a port outside of 1 to 65535")
    return host_name(found["host"]), port


def host_name(text: str) -> str:
    """Return a host name in lower case, or an IPv6 address without brackets in its shortest form (RFC 5952)."""
    if text.startswith("["):
        try:
            parsed = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            parsed = None
        if parsed is None or parsed.scope_id:
            raise ValidationError("has brackets around what is no IPv6 address")
        return str(parsed)
    lowered = text.lower()
    if len(lowered) > 253 or not _HOST.fullmatch(lowered):
        raise ValidationError("must be a host name in ASCII letters, digits, dots and hyphens (IDNA in its xn-- form)")
    return lowered


def served_host(text: str) -> str:
    """Return an entry of ``hosts`` as a ``Host`` header carries it: ``host``, ``host:port`` or ``[ipv6]:port``."""
    if "/" in text:
        raise ValidationError("must be a host such as portal.acme.example, without a scheme or a path")
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    host, port = split_authority(f"[{text}]" if bare_ipv6 else text)
    return bracketed(host) + (f":{port}" if port else "")


def allowed_host(text: str) -> AllowedHost:
    """Return an entry of ``identity_hosts``: a bare host (https on 443) or an origin."""
    if "://" not in text:
        if "/" in text or ":" in text:
            raise ValidationError("must be a bare host (https on port 443) or a loopback origin with its scheme")
        if text.startswith("."):
            raise ValidationError("must be a whole host: only redirect_hosts takes a suffix")
        return AllowedHost(host_name(text))
    parts = address(text)
    if parts.path:
        raise ValidationError("must be a host or an origin, without a path")
    if parts.scheme == "https" and parts.port != 443 and not parts.loopback:
        raise ValidationError("must be on port 443")
    return AllowedHost(parts.host, parts.scheme, parts.port)


def allowed_suffix(text: str) -> AllowedHost:
    """Return an entry of ``redirect_hosts``: as :func:`allowed_host`, or a suffix at a label's border."""
    if not text.startswith("."):
        return allowed_host(text)
    suffix = host_name(text[1:])
    if "." not in suffix:
        raise ValidationError("must be a suffix of at least two labels, such as .my.salesforce.com")
    return AllowedHost(f".{suffix}")


def plain_http(url: str) -> bool:
    """Tell whether an address (in its one form) is plain http and could leave the machine."""
    return url.startswith("http://") and not _site(url)[0].loopback
