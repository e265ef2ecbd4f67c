"""Calls to the servers behind the steps, with a deadline, a size limit, a bulkhead and a circuit breaker.

The HTTP client follows no redirect, retries no request, reads no proxy from the environment and verifies certificates.
It returns an :class:`Answer` or :class:`~flask_genesys_auth.chain.outcomes.Unavailable`. Other protocols use the
:class:`Guard` and the sockets (:class:`BoundedSocket`) as well.
"""

from .breaker import Guard, Passage
from .client import MAX_BODY, Answer, Upstream, Upstreams, Visit, advice, probe, reach_check
from .connections import (
    BoundedSocket,
    Deadline,
    Exchange,
    TooMuch,
    connect,
    exchanging,
    explain,
    printable,
    tls_context,
)

__all__ = [
    "MAX_BODY",
    "Answer",
    "BoundedSocket",
    "Deadline",
    "Exchange",
    "Guard",
    "Passage",
    "TooMuch",
    "Upstream",
    "Upstreams",
    "Visit",
    "advice",
    "connect",
    "exchanging",
    "explain",
    "printable",
    "probe",
    "reach_check",
    "tls_context",
]
