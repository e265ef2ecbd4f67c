"""The HTTP proxy through which a server is reached."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from marshmallow import ValidationError

from .addresses import bracketed, split_authority
from .secrets import Secret

_CREDENTIALS = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_FORM = "must be http://host:port, or http://user:password@host:port"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and what it is shown.

    :param host: lower case, an IPv6 address without its brackets.
    :param authorization: the value of its ``Proxy-Authorization`` header (RFC 9110 11.7.2), if it asks for one.
    """

    host: str
    port: int
    authorization: Secret | None = None

    def __str__(self) -> str:
        return f"http://{bracketed(self.host)}:{self.port}"


def proxy_of(text: str) -> Proxy:
    """Take the address of a proxy apart; no finding quotes it, for it may hold a password.

    :param text: ``http://[user:password@]host:port``; in the user name and the password all that could be taken for
        a part of the address is percent-encoded (RFC 3986 3.2.1).
    :raises ValidationError: if it is of any other form.
    """
    scheme, separator, rest = text.partition("://")
    if scheme.lower() == "https":
        raise ValidationError(f"{_FORM}: the proxy itself is spoken to in plain http, the server behind it is not")
    credentials, at, authority = rest.removesuffix("/").rpartition("@")
    if scheme.lower() != "http" or not separator or not _CREDENTIALS.fullmatch(credentials):
        raise ValidationError(_FORM)
    try:
        host, port = split_authority(authority)
    except ValidationError as error:
        raise ValidationError(_FORM) from error
    if port is None:
        raise ValidationError(f"{_FORM}: it has no port")
    return Proxy(host, port, _authorization(credentials) if at else None)


def _authorization(credentials: str) -> Secret:
    """Return Basic credentials (RFC 7617 2)."""
    name, _, password = credentials.partition(":")
    octets = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return Secret(f"Basic {base64.b64encode(octets).decode('ascii')}")
