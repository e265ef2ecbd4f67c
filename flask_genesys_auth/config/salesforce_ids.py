"""Salesforce ids: 15 case-sensitive characters, or 18, the same plus a checksum."""

from __future__ import annotations

_CHECKSUM_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


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
