"""Whether a server can be reached at all: one question that no person's credentials go with."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from ..chain.decision import Unavailable
from ..checks import Check
from .bounded import Deadline, Exchange
from .reading import MAX_BODY, Answer
from .wording import advice

if TYPE_CHECKING:
    from .client import Upstream


def ask(
    client: Upstream,
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    max_body: int = MAX_BODY,
) -> tuple[Answer | Unavailable, int | None, float]:
    """Send one request past the guard, whose business are users.

    :param seconds: within which the answer must have come.
    :returns: what came of it, the status that was answered, if any, and how many seconds it took.
    """
    began = perf_counter()
    exchange = Exchange(Deadline(seconds), max_body)
    outcome, status = client._ask(method, url, headers or {}, body, exchange)
    return outcome, status, perf_counter() - began


def reach_check(
    name: str, server: str, outcome: Answer | Unavailable, status: int | None, taken: float, seconds: float
) -> Check:
    """Say whether a server was reached: whatever it answered below HTTP 500 shows that it was.

    :param server: its address, as it is shown.
    :param taken: seconds; half of the ``seconds`` allowed is slow.
    """
    if status is None or status >= 500:
        detail = outcome.detail if isinstance(outcome, Unavailable) else ""
        return Check(name, "failure", f"{server}: {detail}", advice(detail))
    finding = f"{server} answered HTTP {status} after {1000 * taken:.0f} ms"
    if taken > seconds / 2:
        return Check(name, "warning", f"{finding}, and has {seconds:g} s", "look why it is slow, or raise timeout")
    return Check(name, "ok", finding)
