"""Changes to the text of a message, for what a tree cannot express."""

from __future__ import annotations

import random
from collections.abc import Callable

from .trees import EVIL

Edit = Callable[[random.Random, bytes], bytes]


def flip(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randint(1, 40) :]


def repeat(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    part = data[at : at + chance.randint(1, 200)]
    return data[:at] + part + data[at:]


def insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.choice((chance.randrange(len(data)), data.find(b"ann@") % len(data), 0))
    pieces = (
        b"&evil;",
        b"&#0;",
        b"&#65;",
        b"&#x41;",
        b"&amp;",
        b"<![CDATA[x]]>",
        b"<!-- x -->",
        b"<?x y?>",
        b"\0",
        b"\xff",
    )
    return data[:at] + chance.choice((*pieces, b"\xc0\xbc", b"\r", b"\r\n", b" ", b"\xe2\x80\x8b", b"<x/>")) + data[at:]


def in_front(chance: random.Random, data: bytes) -> bytes:
    entity = b'<!DOCTYPE x [<!ENTITY evil "mallory"><!ATTLIST x ID ID #IMPLIED>]>'
    front = (b"\xef\xbb\xbf", b"\n", b" ", b"<?xml version='1.1'?>", b"<?xml version='1.0' encoding='utf-7'?>", entity)
    more = (b"<?xml version='1.0' encoding='latin-1'?>", b"<?xml version='1.0' encoding='UTF-8'?>", b"<!-- x -->")
    return chance.choice((*front, *more)) + data


def encode_otherwise(chance: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-7", "cp037")), "replace")


def exchange(chance: random.Random, data: bytes) -> bytes:
    old, new = chance.choice(
        (
            (b"ann@acme.example", EVIL.encode()),
            (b"saml:", b"evil:"),
            (b"xmlns:saml=", b"xmlns:evil="),
            (b"Assertion", b"assertion"),
            (b'"', b"'"),
            (b"><", b"> <"),
            (b"><", b">\r\n<"),
            (b"/>", b"></x>"),
            (b"#_", b"#"),
            (b"sha256", b"sha1"),
        )
    )
    return data.replace(old, new, chance.choice((1, 2, -1)))


EDITS: tuple[Edit, ...] = (flip, flip, flip, cut, repeat, insert, insert, in_front, encode_otherwise, exchange)
