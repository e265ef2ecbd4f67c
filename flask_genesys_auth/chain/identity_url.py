"""The Salesforce identity URL, taken apart strictly: whoever controls it would control the answer."""

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
    """``https://<host>/id/<organization id>/<user id>``, and nothing else.

    :param host: lower case, without brackets.
    :param path: as sent, so that a redirect's can be compared with it.
    :param organization: the id's first 15 characters, as is ``user``; an 18-character id's checksum was right.
    """

    scheme: str
    host: str
    port: int
    path: str
    organization: str
    user: str


@lru_cache(maxsize=1024)
def parse_identity_url(url: str) -> IdentityUrl | None:
    """Return the parts of an identity URL, or ``None`` if it is of any other form.

    No user info, query, fragment or dot segment can match; a port is kept for the allow-list to judge.
    """
    if not url.isascii():  # lower() would make ASCII of some of it: the Kelvin sign becomes a k
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
