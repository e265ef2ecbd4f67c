"""Where a request comes from: the same-origin check for cookies and Basic, and CORS for those who are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Response, request

from ..chain.outcomes import Decision
from . import refusals
from .runtime import runtime

if TYPE_CHECKING:
    from ..chain.contact_centers import ContactCenters
    from ..config.settings import ContactCenterSettings, Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ALLOWED_METHODS = "GET, POST, PUT, DELETE, OPTIONS"
ALLOWED_HEADERS = ("X-Requested-With", "Content-Type", "Accept", "Origin", "Cookie", "authorization")
ALLOWED_HEADERS_LAST = ("ContactCenterId", "X-CSRF-TOKEN")
MAX_AGE = "120"
"""Seconds for which a browser may remember a preflight (Web Services' default)."""


def origin_of(address: str) -> str:
    """Return the serialized origin (RFC 6454 6.2) of an http address, lower case, without a default port."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in {None, default} else ""
    return f"{parts.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins of one application, looked up once.

    :param allowed: by contact center: who may call with credentials.
    :param own: by contact center: what the outside calls us.
    """

    allowed: dict[str, frozenset[str]]
    own: dict[str, str]
    headers: str
    everybody: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "everybody", frozenset().union(*self.allowed.values()))

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """Work them out from the configuration."""
        centers = settings.contact_centers.values()
        named = (settings.salesforce_headers.session, settings.salesforce_headers.identity)
        return cls(
            allowed={center.name: center.allowed_origins for center in centers},
            own={center.name: origin_of(url) for center in centers if (url := _public_url(center, settings))},
            headers=", ".join((*ALLOWED_HEADERS, *named, *ALLOWED_HEADERS_LAST)),
        )


def _public_url(center: ContactCenterSettings, settings: Settings) -> str:
    return center.public_url or settings.public_url


def check(decision: Decision) -> None:
    """Refuse what another site made the browser send with a login session or a password it keeps.

    What authenticated the request counts, not which headers are there. Both headers absent: it was no browser of
    today, so a session is refused and Basic passes.

    :raises ForeignOrigin: if the request comes from elsewhere.
    """
    if is_foreign(decision):
        raise refusals.ForeignOrigin(decision)


def is_foreign(decision: Decision) -> bool:
    """Tell whether another site made the browser send this, as :func:`check` has it."""
    if request.method in SAFE_METHODS or not decision.authenticated:
        return False
    if decision.resumed:
        return not _from_here(decision, absent=False)
    return _by_password(decision) and not _from_here(decision, absent=True)


def check_form() -> None:
    """Refuse a login form that another site sent (login CSRF), though nobody is authenticated yet.

    :raises ForeignOrigin: if the request comes from elsewhere.
    """
    decision = Decision(None)
    if request.method not in SAFE_METHODS and not _from_here(decision, absent=True):
        raise refusals.ForeignOrigin(decision)


def check_same(contact_center: str) -> None:
    """Refuse what does not come from our own page of this contact center; other allowed origins do not count.

    :raises ForeignOrigin: if the request comes from elsewhere, or does not say where from.
    """
    site = request.headers.get("Sec-Fetch-Site")
    sent = request.headers.get("Origin", "").lower()
    if site != "same-origin" and (site is not None or sent not in _own(contact_center)):
        raise refusals.ForeignOrigin(Decision(contact_center))


def _by_password(decision: Decision) -> bool:
    centers: ContactCenters = runtime().contact_centers
    center = centers.get(decision.contact_center or "")
    step = next((one for one in center.steps if one.name == decision.steps[-1].step), None) if center else None
    return getattr(step, "credentials", "") == "basic"


def _from_here(decision: Decision, *, absent: bool) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site in {"same-origin", "none"}:
        return True
    sent = request.headers.get("Origin")
    if sent is None:
        return absent and site is None
    return sent.lower() in _accepted(decision.contact_center)


def _accepted(contact_center: str | None) -> set[str]:
    origins = runtime().origins
    if contact_center is None:
        return _asked_as(None) | set(origins.own.values())
    return _own(contact_center) | origins.allowed.get(contact_center, frozenset())


def _own(contact_center: str) -> set[str]:
    named = runtime().origins.own.get(contact_center)
    return _asked_as(contact_center) | ({named} if named else set())


def _asked_as(contact_center: str | None) -> set[str]:
    """Return the origin of the address that was asked for, which is ours where the configuration names no other one.

    A ``Host`` header is what the client says; with a ``public_url`` it must be one of the contact center's ``hosts``.
    """
    here = runtime()
    if contact_center is None:
        trusted = not here.origins.own
    else:
        center = here.contact_centers.get(contact_center)
        listed = center is not None and request.host.lower() in center.settings.hosts
        trusted = listed or contact_center not in here.origins.own
    return {origin_of(request.host_url)} if trusted else set()


def preflight() -> Response | None:
    """Answer a CORS preflight of an allowed origin, before the chain: it carries no credentials."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    origins = runtime().origins
    sent = request.headers.get("Origin", "").lower()
    if sent not in origins.everybody:
        return None
    answer = Response(status=204)
    answer.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
    answer.headers["Access-Control-Allow-Headers"] = origins.headers
    answer.headers["Access-Control-Max-Age"] = MAX_AGE
    return answer


def add_cors(answer: Response, decision: Decision | None) -> None:
    """Let an allowed origin read this answer, a refusal included, or its script sees nothing."""
    origins = runtime().origins
    if not origins.everybody:
        return
    answer.vary.add("Origin")
    sent = request.headers.get("Origin", "")
    if sent and sent.lower() in _readers(origins, decision):
        answer.headers["Access-Control-Allow-Origin"] = sent
        answer.headers["Access-Control-Allow-Credentials"] = "true"


def _readers(origins: Origins, decision: Decision | None) -> frozenset[str]:
    if decision is None or decision.contact_center is None:
        return origins.everybody
    return origins.allowed.get(decision.contact_center, frozenset())


def vary_names(settings: Settings) -> Iterator[str]:
    """Return the request headers that a decision depends on."""
    yield from ("Authorization", "Cookie", "ContactCenterId")
    yield from (settings.salesforce_headers.session, settings.salesforce_headers.identity)
