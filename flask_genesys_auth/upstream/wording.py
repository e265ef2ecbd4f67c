"""What went wrong on the way to a server, in words that a log may hold."""

from __future__ import annotations

import socket
import ssl

import urllib3

TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)

_MAX_DETAIL = 120
_ADVICE = {
    "certificate is refused": "let it show a certificate for its name, of an authority that is trusted here; or name "
    "that authority's own in ca_file",
    "TLS failed": "it speaks no TLS 1.2 there, or none at all: check its port, and whether its address is to ask for "
    "TLS",
    "does not resolve": "check the host's name in its address, and this machine's name servers",
    "the proxy": "check proxy: its address, what it lets through, its user and password",
    "refused": "nothing listens there: check the host and port of its address, and whether it runs",
    "ended the connection": "check its port, whether it wants TLS there from the beginning, and its own log",
    "no whole answer": "it takes connections and says nothing: look there, or raise timeout",
    "in time": "check this machine's way to it (firewall, proxy), or raise timeout",
    "time allowed": "check this machine's way to it (firewall, proxy), or raise timeout",
    "answered HTTP": "the server itself has a fault: look there",
}


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


def advice(detail: str) -> str:
    """Return what an operator can do about a server that was not reached.

    :param detail: as :func:`explain` and its callers word it.
    """
    for words, what_to_do in _ADVICE.items():
        if words in detail:
            return what_to_do
    return "check its address, and this machine's way to it (firewall, proxy)"
