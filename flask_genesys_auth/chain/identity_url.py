"""Parses Salesforce identity URLs, strictly: a client that chooses the host would control the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..config.names import short_id

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERN = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[::1\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"/id/(?P<organization>00D[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)/(?P<user>005[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)",
    re.ASCII,
)
_DEFAULT_PORTS = {"https": 443, "http": 80}


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


@lru_cache(maxsize=1024)
def parse_identity_url(url: str) -> IdentityUrl | None:
    """Return the parts of an identity URL, or ``None`` for any other form.

    URLs with user info, a query, a fragment or a dot segment do not match. A port is kept for the allow-list.
    """
    if not url.isascii():  # lower() turns some other characters into ASCII: the Kelvin sign becomes a k
        return None
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    found = _PATTERN.fullmatch(f"{scheme.lower()}{separator}{authority.lower()}{slash}{path}")
    if found is None:
        return None
    organization, user = short_id(found["organization"]), short_id(found["user"])
    if organization is None or user is None:
        return None
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[found["scheme"]]
    if port > 65535:
        return None
    return IdentityUrl(found["scheme"], found["host"].strip("[]"), port, slash + path, organization, user)
