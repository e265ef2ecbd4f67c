"""Validate keys, index terms and times to live, and convert values from and to JSON, for all stores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from ..chain.protocols import Json

T = TypeVar("T")

MAX_KEY = 255
BATCH = 500
"""The most keys that one call to the database finds or deletes."""


def check_key(key: str) -> str:
    """Return a key or an index term that every store can keep.

    :raises ValueError: if it is empty, longer than 255 characters, contains a lone surrogate, or contains a NUL, which
        PostgreSQL's text cannot.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY} characters, not {len(key)}")
    if "\0" in key:
        raise ValueError("a key must not contain a NUL")
    if not key.isascii():
        key.encode()
    return key


def check_terms(index: Iterable[str]) -> frozenset[str]:
    """Return the distinct index terms.

    :raises ValueError: as :func:`check_key`.
    """
    return frozenset(check_key(term) for term in index)


def check_ttl(ttl: float) -> float:
    """Return a time to live in seconds.

    :raises ValueError: if it is not greater than 0.
    """
    if not ttl > 0:
        raise ValueError("a time to live must be greater than 0 seconds")
    return ttl


def batches(found: list[T], size: int = BATCH) -> Iterator[list[T]]:
    """Split a list into batches."""
    for start in range(0, len(found), size):
        yield found[start : start + size]


def dump(value: Json) -> str:
    """Return the value as JSON text.

    :raises ValueError: if it contains NaN or an infinity, which JSON lacks.
    :raises TypeError: if it contains values of other types.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def load(text: str) -> Json:
    """Return the value of a JSON text; ``None`` if the text is not JSON, as for a missing key."""
    try:
        return cast("Json", json.loads(text))
    except ValueError:
        return None
