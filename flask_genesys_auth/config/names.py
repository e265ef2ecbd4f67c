"""How names and ids are compared: in the configuration, in a request and in the account store alike."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_CHECKSUM_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def fold(name: str) -> str:
    """Return the form in which names are compared: NFC, then case folding, then NFC again (Unicode 3.13, D145)."""
    if name.isascii():
        # The same result, ten times as fast.
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def lower_ascii(address: str) -> str:
    """Return an e-mail address or domain in lower case without making those of two people or owners equal.

    Folding makes one name of several mailboxes (``\ufb01ona`` and ``fiona``, the Kelvin sign and ``k``), which is no
    matter where a password proves whose account it is, and all that matters where the name alone does.
    """
    return address.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def fold_loosely(name: str) -> str:
    """Return one form for all spellings of a name that a directory may take for the same: to count, not to identify.

    Directories compare by RFC 4518: wide letters are narrow ones and many spaces are one; Active Directory leaves out
    accents as well, and so do some databases. Two people may share this form.
    """
    if name.isascii():
        # The same result, three times as fast.
        return " ".join(name.lower().split())
    bare = "".join(one for one in unicodedata.normalize("NFKD", fold(name)) if not unicodedata.combining(one))
    return fold(unicodedata.normalize("NFKC", " ".join(bare.split())))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean ...?"`` if a known name is similar, else nothing."""
    found = difflib.get_close_matches(name[:80].lower(), list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


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
