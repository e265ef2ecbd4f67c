"""How names are compared: in the configuration, in what a request offers, and in the account store alike."""

from __future__ import annotations

import unicodedata


def fold(name: str) -> str:
    """Return the form in which names are compared: NFC, then case folding, then NFC again (Unicode 3.13, D145)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
