"""Distinguished names of LDAP as text (RFC 4514): parsed, escaped, and normalised for comparison."""

from __future__ import annotations

import re
from typing import TypeAlias

from .names import fold

Rdn: TypeAlias = tuple[tuple[str, str], ...]
"""One step of a name: attribute types in lower case, each with its value, unescaped; more than one is rare."""

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", re.ASCII)
_BARE = re.compile(r"[A-Za-z0-9@._-]*", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{2}", re.ASCII)
_SPECIAL = frozenset('"+,;<>\\=#')


def escape_value(text: str) -> str:
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


def parse(text: str) -> tuple[Rdn, ...] | None:
    """Return the steps of a distinguished name, the nearest first, or ``None`` if the text is not one.

    Values in hexadecimal BER (``#04...``) are not read.
    """
    steps: list[Rdn] = []
    step: list[tuple[str, str]] = []
    place = 0
    while True:
        found = _pair(text, place)
        if found is None:
            return None
        kind, value, place = found
        step.append((kind, value))
        end = text[place : place + 1]
        if end != "+":
            steps.append(tuple(sorted(step)))
            step = []
        if not end:
            return tuple(steps)
        place += 1


def normal(text: str) -> str:
    """Return the form in which names of groups are compared; a name that is not distinguished is folded.

    Case does not count, nor do spaces beyond one, as where ``caseIgnoreMatch`` compares (RFC 4517 4.2.11).
    """
    steps = parse(text)
    if steps is None:
        return fold(text)
    return ",".join("+".join(f"{kind}={escape_value(_folded(value))}" for kind, value in step) for step in steps)


def _folded(value: str) -> str:
    return fold(" ".join(value.split()))


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
            taken = _escaped(text[place + 1 : place + 3])
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


def _escaped(pair: str) -> bytes | None:
    if _HEX.fullmatch(pair):
        return bytes.fromhex(pair)
    return pair[0].encode() if pair and (pair[0] in _SPECIAL or pair[0] == " ") else None
