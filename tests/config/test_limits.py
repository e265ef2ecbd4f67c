"""Limits are read exactly as the library ``limits`` reads them."""

from __future__ import annotations

import limits
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_genesys_auth.config.rules import parse_limit


def library_says(text: str) -> tuple[int, int] | None:
    """Return the limit that the library reads, or ``None`` if it refuses or reads several."""
    try:
        found = limits.parse_many(text)
    except ValueError:
        return None
    return (found[0].amount, found[0].get_expiry()) if len(found) == 1 else None


def ours_says(text: str) -> tuple[int, int] | None:
    """Return the limit that we read."""
    try:
        return parse_limit(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 per 5 minutes", (10, 300)),
        ("2/hour", (2, 3600)),
        ("3 per 2 days", (3, 2 * 86400)),
        ("1 PER SECOND", (1, 1)),
        (" 7per30seconds ", (7, 30)),
        ("4/month", (4, 30 * 86400)),
        ("5/2years", (5, 720 * 86400)),
        ("6 per 0 minutes", (6, 60)),
    ],
)
def test_limit_is_read_as_by_the_library(text: str, expected: tuple[int, int]) -> None:
    assert ours_says(text) == library_says(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "per minute", "10 minutes", "10 per fortnight", "10 per minutess", "1.5 per hour", "-1 per hour"),
        *("x", "1 per minute; 5 per hour", "1 per minute,", "10 per \u0660 minutes"),
    ],
)
def test_limits_that_the_library_refuses_are_refused(text: str) -> None:
    assert library_says(text) is None
    with pytest.raises(ValueError, match="is not a limit"):
        parse_limit(text)


@pytest.mark.parametrize("text", ["10 per hour\u017f", "10 per minute\u017f", "\u06610 per hour"])
def test_letters_that_fold_to_ascii_are_refused(text: str) -> None:
    assert ours_says(text.replace("\u017f", "s").replace("\u0661", "1")) is not None
    assert ours_says(text) is None


_PIECES = st.sampled_from(["10", "2", "0", "/", "per", "PER", " ", "  ", "minute", "hours", "Day", "s", ";", ",", "ss"])


@given(st.lists(_PIECES, max_size=9).map("".join))
def test_any_text_is_read_alike(text: str) -> None:
    assert ours_says(text) == library_says(text)
