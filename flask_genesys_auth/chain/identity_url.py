"""The Salesforce identity URL, taken apart strictly: whoever controls it would control the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[::1\])(?::(?P<port>[0-9]{1,5}))?"
    r"/id/(?P<organization>00D[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)/(?P<user>005[A-Za-z0-9]{12}(?:[A-Z0-5]{3})?)",
    re.ASCII,
)
_CHECKSUM_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
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


def parse_identity_url(url: str) -> IdentityUrl | None:
    """Return the parts of an identity URL, or ``None`` if it is of any other form.

    No user info, query, fragment or dot segment can match; a port is kept for the allow-list to judge.
    """
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    found = _PATTERN.fullmatch(f"{scheme.lower()}{separator}{authority.lower()}{slash}{path}")
    if found is None:
        return None
    organization, user = short_id(found["organization"]), short_id(found["user"])
    if organization is None or user is None:
        return None
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[found["scheme"]]
    return IdentityUrl(found["scheme"], found["host"].strip("[]"), port, slash + path, organization, user)


def short_id(identifier: str) -> str | None:
    """Return the 15 case-sensitive characters of a Salesforce id, or ``None`` if it is not one.

    An id of 18 characters is the same plus a checksum: one letter for each five characters, a bit for each
    upper-case letter among them, the lowest first.
    """
    if not identifier.isascii() or not identifier.isalnum() or len(identifier) not in {15, 18}:
        return None
    short = identifier[:15]
    if len(identifier) == 18 and identifier[15:] != _checksum(short):
        return None
    return short


def _checksum(short: str) -> str:
    letters = []
    for start in (0, 5, 10):
        bits = sum(1 << place for place, character in enumerate(short[start : start + 5]) if character.isupper())
        letters.append(_CHECKSUM_LETTERS[bits])
    return "".join(letters)
