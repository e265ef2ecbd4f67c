"""Keys of one length, however long the name that is counted by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=1024)  # at every request of whoever sends a password with each
def digest(*key: str) -> bytes:
    """Return 16 bytes that stand for these parts."""
    # Of one length however long the name: what a guesser sends does not decide how much memory a count takes.
    return blake2b(message(key), digest_size=16).digest()


def message(parts: tuple[str, ...]) -> bytes:
    """Return these parts so that no other sequence of parts is the same bytes."""
    return b"".join(_prefixed(parts))


def _prefixed(parts: tuple[str, ...]) -> Iterator[bytes]:
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        yield len(encoded).to_bytes(4, "big")
        yield encoded
