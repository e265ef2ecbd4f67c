"""The one HTTP client for the servers a step asks: one deadline, one size limit, no surprises.

It follows no redirect, repeats no request, reads no proxy from the environment, verifies certificates, and answers
with values: an :class:`Answer`, or :class:`~flask_genesys_auth.chain.decision.Unavailable`. A server that does not
answer is spared, and so are those who wait for it: see :class:`Guard`, which serves other protocols as well, as do the
sockets (:class:`BoundedSocket`).
"""

from .bounded import BoundedSocket, Deadline, Exchange, TooMuch, connect, exchanging, tls_context
from .breaker import Guard, Passage
from .client import Upstream, Upstreams, Visit
from .reach import ask, reach_check
from .reading import MAX_BODY, Answer
from .wording import advice, explain, printable

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
    "ask",
    "connect",
    "exchanging",
    "explain",
    "printable",
    "reach_check",
    "tls_context",
]
