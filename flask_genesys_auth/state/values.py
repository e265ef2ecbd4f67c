"""What every store holds its callers to: keys, terms and times, and values that are JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from ..chain.protocols import Json

T = TypeVar("T")

MAX_KEY = 255
BATCH = 500
"""How many keys are found, or deleted, at one time at most where there may be very many."""


def check_key(key: str) -> str:
    """Return a key or an index term that every store can hold.

    :raises ValueError: if it is empty, longer than 255 characters, not Unicode text (a lone surrogate), or has a NUL
        in it, which PostgreSQL's text cannot hold.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY} characters, not {len(key)}")
    if "\0" in key:
        raise ValueError("a key has no NUL among its 1 to 255 characters")
    if not key.isascii():
        key.encode()
    return key


def check_terms(index: Iterable[str]) -> frozenset[str]:
    """Return the index terms, each once.

    :raises ValueError: as :func:`check_key`.
    """
    return frozenset(check_key(term) for term in index)


def check_ttl(ttl: float) -> float:
    """Return a time to live in seconds.

    :raises ValueError: if it is not greater than 0.
    """
    if not ttl > 0:
        raise ValueError("a time to live is greater than 0 seconds")
    return ttl


def batches(found: list[T], size: int = BATCH) -> Iterator[list[T]]:
    """Yield what was found in batches of this size."""
    for start in range(0, len(found), size):
        yield found[start : start + size]


def batches_by_key(look: Callable[[str], list[str]]) -> Iterator[list[str]]:
    """Yield what each look finds behind the last key of the one before, until one finds less than a batch.

    :param look: is given a key, and returns the next ones in their order, :data:`BATCH` of them at most.
    """
    after = ""
    while keys := look(after):
        yield keys
        if len(keys) < BATCH:
            return
        after = keys[-1]


def dump(value: Json) -> str:
    """Return the value as JSON text.

    :raises ValueError: if it has numbers that JSON has not (NaN, infinities).
    :raises TypeError: if it is not made of JSON values.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def load(text: str) -> Json:
    """Return the value that :func:`dump` made a text of; ``None`` for any other text, as if it were not there."""
    try:
        return cast("Json", json.loads(text))
    except ValueError:
        return None
