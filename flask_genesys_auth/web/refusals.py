"""The refusals: HTTP exceptions whose response is an envelope, a page or a redirect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, current_app, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)

from ..chain.outcomes import Decision, Reason, Rejected
from .browser import browser
from .runtime import runtime, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed.wsgi import WSGIEnvironment

    from ..chain.protocols import Challenge

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Refusal(HTTPException):
    """Base class of the refusals.

    :param decision: the decision of the walk. Its reasons are for logs; the client never sees them.
    """

    status_code = 20
    message = "Access denied"
    page_texts = "access_denied"

    def __init__(self, decision: Decision) -> None:
        super().__init__(description=self.message)
        self.decision = decision
        state_of(request).refusal = self

    def get_headers(
        self, environ: WSGIEnvironment | None = None, scope: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        """Return the headers of each response to this refusal (``Retry-After``: RFC 9110 10.2.3)."""
        return [("Retry-After", str(self.decision.retry_after))] if self.code in {429, 503} else []

    def get_response(self, environ: Any = None, scope: Any = None) -> Any:
        """Return the response: a page for a navigation, else the envelope."""
        return self.page() if is_navigation() else self.envelope()

    def envelope(self) -> Response:
        """Return ``{"statusCode": N, "statusMessage": "..."}`` (Web Services API conventions)."""
        answer = jsonify(statusCode=self.status_code, statusMessage=self.message)
        answer.status_code = self.code or 500
        return answer

    def page(self) -> Response:
        """Return the page for a navigation."""
        return refusal_page(self.code or 500, self.page_texts)


class AuthenticationRequired(Refusal, Unauthorized):
    """The request is anonymous: 401 (or ``unauthenticated_status``)."""

    page_texts = "authentication_required"

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.code = runtime().settings.unauthenticated_status

    def get_headers(
        self, environ: WSGIEnvironment | None = None, scope: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        """Offer Basic (RFC 7617) to API clients only, because browsers would open a password dialog."""
        if self.code != 401 or is_navigation() or _is_script():
            return []
        offered = dict.fromkeys(challenge.scheme for challenge in _challenges(self.decision) if challenge.scheme)
        return [("WWW-Authenticate", scheme) for scheme in offered]

    def page(self) -> Response:
        """Redirect to the login; after a logout or a timeout, show a page with a login button instead."""
        location = self._login_location()
        if location is None:
            return super().page()
        if self._signed_out():
            page = render_template("genesys_auth/signed_out.html", login_url=location, ended=True)
            return no_store(make_response(page, 401))
        return no_store(make_response(redirect(location, 302)))

    def _login_location(self) -> str | None:
        for challenge in _challenges(self.decision):
            if challenge.location:
                return challenge.location
        login_view = runtime().settings.login_view
        if login_view not in current_app.view_functions or request.endpoint == login_view:
            return None
        wanted = request.root_path + request.full_path.removesuffix("?")
        return url_for(login_view, next=wanted) if request.method == "GET" else url_for(login_view)

    def _signed_out(self) -> bool:
        ended = any(
            isinstance(record.outcome, Rejected) and record.outcome.reason is Reason.SESSION_ENDED
            for record in self.decision.steps
        )
        return ended or browser.signed_out is not None


class RoleRequired(Refusal, Forbidden):
    """The user lacks a role that the endpoint requires: 403."""

    status_code = 5
    message = "No permission"
    page_texts = "role_required"

    def page(self) -> Response:
        """Return a page with links to the front page and, for a SAML session, to the logout."""
        center = self.decision.contact_center or ""
        logout_url = ""
        if self.decision.resumed and center in runtime().saml.service_providers:
            logout_url = url_for("genesys_saml.logout", contact_center=center)
        home_url = f"{request.root_path}/" if request.path != "/" else ""
        return refusal_page(403, self.page_texts, home_url=home_url, logout_url=logout_url)


class ForeignOrigin(Refusal, Forbidden):
    """Another site sent this request with the user's credentials: 403."""

    status_code = 3
    message = "Forbidden"
    page_texts = "foreign_origin"


class DirectoryUnavailable(Refusal, ServiceUnavailable):
    """A server or store behind a step did not answer: 503 with ``Retry-After``."""

    status_code = 4
    message = "Temporarily unavailable"
    page_texts = "unavailable"


class Throttled(Refusal, TooManyRequests):
    """Too many failed attempts: 429 with ``Retry-After`` (RFC 6585 4)."""

    status_code = 3
    message = "Too many requests"
    page_texts = "throttled"


def for_anonymous(decision: Decision) -> Refusal:
    """Return the refusal of an anonymous request to a protected endpoint."""
    if decision.throttled:
        return Throttled(decision)
    if decision.unavailable:
        return DirectoryUnavailable(decision)
    return AuthenticationRequired(decision)


def refusal(decision: Decision) -> Refusal:
    """Return the refusal of a request that is anonymous or whose user lacks a role."""
    return for_anonymous(decision) if decision.user is None else RoleRequired(decision)


def is_navigation() -> bool:
    """Return whether a browser requests a page to show (Fetch Metadata, else ``Accept``)."""
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    if request.method != "GET" or "X-Requested-With" in request.headers:
        return False
    accepted = request.accept_mimetypes
    return accepted.quality("text/html") > accepted.quality("application/json")


def _is_script() -> bool:
    return "Sec-Fetch-Mode" in request.headers or "X-Requested-With" in request.headers


def _challenges(decision: Decision) -> Iterator[Challenge]:
    center = runtime().contact_centers.get(decision.contact_center or "")
    if center is None:
        return
    for step in center.steps:
        challenge = step.challenge(request, center)
        if challenge is not None:
            yield challenge


def refusal_page(status: int, texts: str, **more: str) -> Response:
    """Return the page of a refusal.

    :param texts: the first part of the names of its title and advice.
    """
    text = runtime().texts.text
    title, message = text(f"{texts}_title"), text(f"{texts}_advice")
    page = render_template("genesys_auth/refusal.html", status=status, title=title, message=message, **more)
    return no_store(make_response(page, status))


def no_store(answer: Response) -> Response:
    """Forbid caching and framing of a page, and all content that is not its own."""
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


def add_refusal_headers(refusal: HTTPException, answer: Response) -> None:
    """Add the headers of a refusal, also to the response of an application's ``errorhandler``."""
    if answer.status_code < 400:
        return
    for name, value in refusal.get_headers():
        if name not in answer.headers or name == "WWW-Authenticate":
            answer.headers.add(name, value)
