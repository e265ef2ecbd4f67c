"""Reads a limit such as ``10 per 5 minutes``, in the notation of the library ``limits``.

The notation alone: to import that library is to import asyncio, and the clients of every store it knows.
"""

from __future__ import annotations

import re

_ONE = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]*)\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 60 * 60,
    "day": 24 * 60 * 60,
    "month": 30 * 24 * 60 * 60,
    "year": 360 * 24 * 60 * 60,
}


def parse_limit(text: str) -> tuple[int, int]:
    """Return how many, and within how many seconds.

    :raises ValueError: if it is not one limit in that notation.
    """
    found = _ONE.fullmatch(text)
    unit = found[3].lower().removesuffix("s") if found else ""
    if found is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} is no limit such as '10 per 5 minutes'")
    return int(found[1]), _SECONDS[unit] * (int(found[2] or 1) or 1)
