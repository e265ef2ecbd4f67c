"""What went wrong on the way to a server, in words that a log may hold."""

from __future__ import annotations

import socket
import ssl

import urllib3

TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)

_MAX_DETAIL = 120


def explain(error: BaseException) -> str:
    """Return why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {printable(error.verify_message)}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed, {printable(error.reason or '')}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TIMEOUTS):
        return "not within the time allowed"
    return printable(getattr(error, "strerror", None) or type(error).__name__)


def printable(text: str, limit: int = _MAX_DETAIL) -> str:
    """Return text from outside as a log may hold it: visible ASCII and single spaces, of bounded length.

    :param limit: characters.
    """
    shown = "".join(character if " " <= character <= "~" else " " for character in text[: 4 * limit])
    squeezed = " ".join(shown.split())
    return squeezed if len(squeezed) <= limit else squeezed[: limit - 3] + "..."
