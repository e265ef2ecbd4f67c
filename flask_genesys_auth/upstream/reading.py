"""What came of a request: an :class:`Answer`, or why there is none, in words that a log may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..chain.decision import Reason, Unavailable
from .bounded import Exchange, TooMuch
from .wording import TIMEOUTS, explain, printable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

MAX_BODY = 64 * 1024
NOT_NOW = frozenset({408, 429})
"""What a server that is well may answer instead of an answer: it says nothing of its health."""

_PIECE = 16 * 1024
_DEFAULT_RETRY_AFTER = 5
_MAX_RETRY_AFTER = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whatever it thinks of the question.

    :param status: any but 408, 429 and 5xx.
    :param headers: by name, without regard to case.
    :param body: within the caller's limit, without a content coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(response: BaseHTTPResponse, max_body: int) -> Answer | Unavailable:
    """Return what a server answered.

    Requests ask for ``Accept-Encoding: identity``; an answer with another content coding is not decoded but refused.

    :param max_body: bytes of the body that are read.
    :raises TooMuch: if the body is longer. What urllib3 and the sockets raise passes, too.
    """
    status = response.status
    if status in NOT_NOW or status >= 500:
        wait = _retry_after(response.headers.get("Retry-After")) if status in {429, 503} else _DEFAULT_RETRY_AFTER
        return Unavailable(
            Reason.SERVER_ERROR, wait, f"the server answered HTTP {status}{_phrase(status)}", uncounted=True
        )
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        detail = f"the answer is encoded ({printable(coding, 40)}), although identity was requested"
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=detail)
    body = bytearray()
    while piece := response.read(_PIECE, decode_content=False):
        body += piece
        if len(body) > max_body:
            raise TooMuch
    return Answer(status, response.headers, bytes(body))


def _retry_after(header: str | None) -> int:
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return _DEFAULT_RETRY_AFTER
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = (moment - datetime.now(timezone.utc)).total_seconds()
    return round(min(max(seconds, 1), _MAX_RETRY_AFTER))


def failure(raised: BaseException, exchange: Exchange) -> Unavailable:
    """Return what an error of urllib3 or of the sockets means for the request it ended."""
    error = _root(raised)
    if isinstance(error, TooMuch):
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is larger than {exchange.max_body} bytes")
    if not exchange.sent:
        return Unavailable(Reason.UNREACHABLE, detail=f"no connection: {explain(error)}")
    if isinstance(error, TIMEOUTS):
        return Unavailable(Reason.TIMED_OUT, detail="no whole answer in time")
    if isinstance(error, OSError):
        return Unavailable(Reason.SERVER_ERROR, detail=f"the connection broke: {explain(error)}")
    return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is broken off or no HTTP ({type(error).__name__})")


def _root(error: BaseException) -> BaseException:
    """Return what an error of urllib3 was made from."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    return error if inner is None or inner is error else _root(inner)


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
