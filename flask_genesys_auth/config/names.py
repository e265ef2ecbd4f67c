"""How names, ids and distinguished names are compared: in the configuration, in requests and in the accounts."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import TypeAlias

_CHECKSUM_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

Rdn: TypeAlias = tuple[tuple[str, str], ...]
"""One level of a distinguished name: attribute types in lower case, each with its unescaped value; usually one."""

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", re.ASCII)
_BARE = re.compile(r"[A-Za-z0-9@._-]*", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{2}", re.ASCII)
_SPECIAL = frozenset('"+,;<>\\=#')


def fold(name: str) -> str:
    """Return the form in which names are compared: NFC, then case folding, then NFC again (Unicode 3.13, D145)."""
    if name.isascii():
        # The same result, ten times as fast.
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def lower_ascii(address: str) -> str:
    """Return an e-mail address or domain in lower case, keeping different mailboxes and owners different.

    Folding gives several mailboxes one name (``\ufb01ona`` and ``fiona``, the Kelvin sign and ``k``). That is harmless
    where a password proves whose account it is, but not where the name alone decides.
    """
    return address.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def fold_loosely(name: str) -> str:
    """Return one form for all spellings that a directory may treat as one name: to count, not to identify.

    Directories compare by RFC 4518: wide letters equal narrow ones, and several spaces equal one. Active Directory and
    some databases ignore accents as well. Two users may share this form.
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

    An id of 18 characters ends in a checksum: one letter for each five characters, a bit for each upper-case letter
    among them, the lowest first.
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


def escape_dn_value(text: str) -> str:
    """Return text escaped for a distinguished name (RFC 4514 2.4)."""
    if _BARE.fullmatch(text):
        return text
    border = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    return "".join(
        f"\\{ord(character):02x}"
        if character in _SPECIAL or character < " " or (character == " " and not border[0] <= place < border[1])
        else character
        for place, character in enumerate(text)
    )


def parse_dn(text: str) -> tuple[Rdn, ...] | None:
    """Return the levels of a distinguished name (RFC 4514), the entry's own first, or ``None`` if it is not one.

    Values in hexadecimal BER (``#04...``) are not supported.
    """
    levels: list[Rdn] = []
    level: list[tuple[str, str]] = []
    place = 0
    while True:
        found = _pair(text, place)
        if found is None:
            return None
        kind, value, place = found
        level.append((kind, value))
        end = text[place : place + 1]
        if end != "+":
            levels.append(tuple(sorted(level)))
            level = []
        if not end:
            return tuple(levels)
        place += 1


def normalise_dn(text: str) -> str:
    """Return the form in which group names are compared; a name that is not distinguished is folded.

    Case and repeated spaces are ignored, as in ``caseIgnoreMatch`` (RFC 4517 4.2.11).
    """
    levels = parse_dn(text)
    if levels is None:
        return fold(text)
    return ",".join(
        "+".join(f"{kind}={escape_dn_value(fold(' '.join(value.split())))}" for kind, value in level)
        for level in levels
    )


def _pair(text: str, place: int) -> tuple[str, str, int] | None:
    """Return a type, its value and the index after them."""
    kind, equals, _ = text[place:].partition("=")
    if not equals or not _TYPE.fullmatch(kind.strip(" ")):
        return None
    found = _value(text, place + len(kind) + 1)
    return None if found is None else (kind.strip(" ").lower(), *found)


def _value(text: str, place: int) -> tuple[str, int] | None:
    """Return a value without surrounding spaces, and the index after it; ``None`` if it is empty or not valid."""
    octets = bytearray()
    kept = 0
    while place < len(text) and text[place] not in ",+":
        character = text[place]
        if character == "\\":
            taken = _unescaped(text[place + 1 : place + 3])
            if taken is None:
                return None
            octets += taken
            kept = len(octets)
            place += 3 if _HEX.match(text, place + 1) else 2
            continue
        if character in '"<>;' or (character == "#" and not octets):
            return None
        if character != " " or octets:
            octets += character.encode("utf-8", "surrogatepass")
        if character != " ":
            kept = len(octets)
        place += 1
    try:
        value = octets[:kept].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return (value, place) if value else None


def _unescaped(pair: str) -> bytes | None:
    if _HEX.fullmatch(pair):
        return bytes.fromhex(pair)
    return pair[0].encode() if pair and (pair[0] in _SPECIAL or pair[0] == " ") else None
