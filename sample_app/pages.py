"""The pages: home (with the walk of the request), sign in, sign out, agent and supervisor."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from flask_genesys_auth import (
    Decision,
    GenesysAuth,
    current_decision,
    current_user,
    local_path,
    protected,
    roles_required,
    unprotected,
)
from flask_genesys_auth.web.runtime import runtime

from . import flow

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {targets}; frame-ancestors 'none'; "
    "base-uri 'none'"
)


def create_blueprint(auth: GenesysAuth, *, demonstration: bool) -> Blueprint:
    """Return the blueprint of the pages.

    :param demonstration: show the reasons of the walk's steps to all users, not only to ``ROLE_ADMIN``.
    """
    pages = Blueprint("pages", __name__)
    pages.after_app_request(_secure)

    @pages.get("/")
    @unprotected
    def home() -> str:
        reasons = demonstration or "ROLE_ADMIN" in current_decision.roles
        drawn = flow.draw(current_decision, reasons=reasons)
        return _render("home", steps=drawn, by=flow.label(current_decision.authenticated_by))

    @pages.get("/agent")
    @protected
    def agent() -> str:
        return _render("agent", by=flow.label(current_decision.authenticated_by))

    @pages.get("/supervisor")
    @roles_required("ROLE_SUPERVISOR")
    def supervisor() -> str:
        return _render("supervisor")

    @pages.get("/login")
    @unprotected
    def login() -> str:
        return _login_form(local_path(request.args.get("next")))

    @pages.post("/login")
    @unprotected
    def log_in() -> AnyResponse:
        wanted = local_path(request.form.get("next"))
        decision = auth.log_in_with_password(request.form.get("user_name", ""), request.form.get("password", ""))
        return redirect(wanted, 303) if decision.authenticated else _not_logged_in(decision, wanted)

    @pages.post("/logout")
    @unprotected
    def log_out() -> AnyResponse:
        signed_out = redirect(url_for(".signed_out"), 303)
        # Reading the decision also refuses a form from another site.
        return (auth.logout() or signed_out) if current_decision.authenticated else signed_out

    @pages.get("/signed-out")
    @unprotected
    def signed_out() -> str:
        return render_template("genesys_auth/signed_out.html", login_url=url_for(".login"))

    @pages.app_errorhandler(404)
    def not_found(error: NotFound) -> tuple[str, int] | NotFound:
        # The page is the same for all users, so that it does not walk the chain.
        return error if request.path.startswith("/api/") else (render_template("sample/not_found.html"), 404)

    return pages


def _render(page: str, **values: Any) -> str:
    return render_template(f"sample/{page}.html", user=current_user, decision=current_decision, **values)


def _login_form(wanted: str, **values: str) -> str:
    """Return the login form, with a SAML button if the contact center has SAML."""
    contact_center = current_decision.contact_center
    saml_url = ""
    if contact_center in runtime().saml.service_providers:
        saml_url = url_for("genesys_saml.login", contact_center=contact_center, next=wanted)
    return _render("login", next=wanted, saml_url=saml_url, **values)


def _not_logged_in(decision: Decision, wanted: str) -> Response:
    """Show the form again: 401, or 429 or 503 with ``Retry-After`` if the password was not checked."""
    if decision.throttled:
        status = 429
        message = "There have been too many attempts to sign in. Please wait a little before you try again."
    elif decision.unavailable:
        status, message = 503, "Your password cannot be checked at the moment. Please try again shortly."
    else:
        status, message = 401, "User name and password do not match an account."
    page = _login_form(wanted, message=message, user_name=request.form.get("user_name", ""))
    answer = make_response(page, status)
    if status != 401:
        answer.headers["Retry-After"] = str(decision.retry_after)
    return answer


def _secure(answer: Response) -> Response:
    """Allow only our own styles and images, and forbid framing."""
    # Browsers check form-action for redirects too, and single logout redirects to the identity provider.
    targets = "https:" if request.is_secure else "http: https:"
    answer.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY.format(targets=targets))
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Referrer-Policy", "same-origin")
    return answer
