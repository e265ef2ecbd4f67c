"""The same-origin check for requests with cookies or Basic, and CORS for allowed origins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Response

if TYPE_CHECKING:
    from flask import Request

    from ..chain.contact_centers import ContactCenters
    from ..chain.outcomes import Decision
    from ..config.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ALLOWED_METHODS = "GET, POST, PUT, DELETE, OPTIONS"
ALLOWED_HEADERS = ("X-Requested-With", "Content-Type", "Accept", "Origin", "Cookie", "authorization")
ALLOWED_HEADERS_LAST = ("ContactCenterId", "X-CSRF-TOKEN")
MAX_AGE = "120"
"""Seconds for which a browser may cache a preflight (the default of Web Services)."""


def origin_of(address: str) -> str:
    """Return the serialized origin (RFC 6454 6.2) of an http address, lower case, without a default port."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in {None, default} else ""
    return f"{parts.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins of one application, computed once.

    :param allowed: by contact center: origins that may send credentials.
    :param own: by contact center: the origin of its public URL.
    """

    contact_centers: ContactCenters
    allowed: dict[str, frozenset[str]]
    own: dict[str, str]
    headers: str
    all_allowed: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, contact_centers: ContactCenters) -> Origins:
        """Compute the origins from the configuration."""
        centers = settings.contact_centers.values()
        named = (settings.salesforce_headers.session, settings.salesforce_headers.identity)
        return cls(
            contact_centers=contact_centers,
            allowed={center.name: center.allowed_origins for center in centers},
            own={one.name: origin_of(url) for one in centers if (url := one.public_url or settings.public_url)},
            all_allowed=frozenset().union(*(center.allowed_origins for center in centers)),
            headers=", ".join((*ALLOWED_HEADERS, *named, *ALLOWED_HEADERS_LAST)),
        )

    def is_foreign(self, sent: Request, decision: Decision) -> bool:
        """Return whether another site made the browser send this with its login session or stored password.

        The credentials that authenticated the request decide, not the headers that are present. Without both
        ``Sec-Fetch-Site`` and ``Origin`` no current browser sent it: a session is then foreign, Basic is not.
        """
        if sent.method in SAFE_METHODS or not decision.authenticated:
            return False
        if decision.resumed:
            return not self._from_here(sent, decision.contact_center, absent=False)
        return self._by_password(decision) and not self._from_here(sent, decision.contact_center, absent=True)

    def is_foreign_form(self, sent: Request) -> bool:
        """Return whether another site sent this login form (login CSRF); the request is still anonymous."""
        return sent.method not in SAFE_METHODS and not self._from_here(sent, None, absent=True)

    def is_own_page(self, sent: Request, contact_center: str) -> bool:
        """Return whether a page of this contact center sent this; other allowed origins do not count."""
        site = sent.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        return sent.headers.get("Origin", "").lower() in self._own(sent, contact_center)

    def preflight(self, sent: Request) -> Response | None:
        """Answer a CORS preflight from an allowed origin before the walk: it carries no credentials."""
        if sent.method != "OPTIONS" or "Access-Control-Request-Method" not in sent.headers:
            return None
        if sent.headers.get("Origin", "").lower() not in self.all_allowed:
            return None
        answer = Response(status=204)
        answer.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        answer.headers["Access-Control-Allow-Headers"] = self.headers
        answer.headers["Access-Control-Max-Age"] = MAX_AGE
        return answer

    def add_cors(self, sent: Request, answer: Response, decision: Decision | None) -> None:
        """Allow scripts of an allowed origin to read this response, also if it is a refusal."""
        if not self.all_allowed:
            return
        answer.vary.add("Origin")
        origin = sent.headers.get("Origin", "")
        if origin and origin.lower() in self._readers(decision):
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Allow-Credentials"] = "true"

    def _by_password(self, decision: Decision) -> bool:
        center = self.contact_centers.get(decision.contact_center or "")
        step = next((one for one in center.steps if one.name == decision.steps[-1].step), None) if center else None
        return getattr(step, "credentials", "") == "basic"

    def _from_here(self, sent: Request, contact_center: str | None, *, absent: bool) -> bool:
        site = sent.headers.get("Sec-Fetch-Site")
        if site in {"same-origin", "none"}:
            return True
        origin = sent.headers.get("Origin")
        if origin is None:
            return absent and site is None
        return origin.lower() in self._accepted(sent, contact_center)

    def _accepted(self, sent: Request, contact_center: str | None) -> set[str]:
        if contact_center is None:
            return self._requested(sent, None) | set(self.own.values())
        return self._own(sent, contact_center) | self.allowed.get(contact_center, frozenset())

    def _own(self, sent: Request, contact_center: str) -> set[str]:
        named = self.own.get(contact_center)
        return self._requested(sent, contact_center) | ({named} if named else set())

    def _requested(self, sent: Request, contact_center: str | None) -> set[str]:
        """Return the origin of the requested URL if it may count as ours.

        The ``Host`` header comes from the client: if there is a ``public_url``, the host must be one of the contact
        center's ``hosts``.
        """
        if contact_center is None:
            trusted = not self.own
        else:
            center = self.contact_centers.get(contact_center)
            listed = center is not None and sent.host.lower() in center.settings.hosts
            trusted = listed or contact_center not in self.own
        return {origin_of(sent.host_url)} if trusted else set()

    def _readers(self, decision: Decision | None) -> frozenset[str]:
        if decision is None or decision.contact_center is None:
            return self.all_allowed
        return self.allowed.get(decision.contact_center, frozenset())


def vary_names(settings: Settings) -> Iterator[str]:
    """Yield the request headers that a decision depends on."""
    yield from ("Authorization", "Cookie", "ContactCenterId")
    yield from (settings.salesforce_headers.session, settings.salesforce_headers.identity)
