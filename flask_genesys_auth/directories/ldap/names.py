"""Names on their way into filters (RFC 4515) and distinguished names (RFC 4514): none can say more than itself."""

from __future__ import annotations

import re
import secrets

from ...config.distinguished_names import escape_value
from ...config.rules import DN, USER

_PLAIN = re.compile(r"[!-~]+", re.ASCII)
_BARE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def filter_value(text: str) -> str:
    r"""Return text as it stands for itself in a filter: every octet but letters and digits as ``\xx`` (RFC 4515 3).

    More than must be escaped, for ldap3 strips spaces and counts parentheses.
    """
    return "".join(chr(octet) if octet in _BARE else f"\\{octet:02x}" for octet in text.encode())


def fill_filter(template: str, *, user: str, dn: str = "") -> str:
    """Return a filter with the names put in."""
    # What was put in first holds no brace that is not escaped.
    return template.replace(USER, filter_value(user)).replace(DN, filter_value(dn))


def fill_name(template: str, user: str) -> str:
    """Return a distinguished name with the user's put in."""
    return template.replace(USER, escape_value(user))


def nobody(base: str) -> str:
    """Return a distinguished name that no entry has, below a base.

    Whoever is not found is bound as nobody, so that they take as long as those with a wrong password.
    """
    return f"cn={secrets.token_hex(16)},{base}"


def spells_itself(name: str) -> bool:
    """Tell whether a directory that compares loosely (RFC 4518) can only mean this very name by it.

    It takes wide letters for narrow ones and many spaces for one; so a name with such characters counts as it
    stands in the directory, not as it was typed.
    """
    return _PLAIN.fullmatch(name) is not None
