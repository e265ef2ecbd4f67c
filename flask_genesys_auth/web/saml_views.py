"""The addresses of the SAML login: where it begins, where the provider's answer arrives, where the browser ends it.

The provider's answer is posted from another site, so that no ``SameSite=Lax`` cookie comes with it and none is
needed: the assertion consumer service verifies the message, keeps the result under a one-time code and sends the
browser to ``complete`` on the same site, where its cookie shows that it is the browser that began the login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, session, url_for
from werkzeug.exceptions import MethodNotAllowed

from ..chain.decision import Authenticated, Decision, Identity, StepRecord, Unavailable
from ..saml.consumer import consume
from ..saml.errors import Fault, SamlError
from ..saml.requests import Proven, begin_login, keep_proven, reference_of, take_proven
from . import access, login, refusals
from .addresses import local_path
from .runtime import runtime
from .saml_pages import ENDPOINTS, kept, posted, refused, service_of, unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..chain.walk import Settled
    from ..saml.requests import Login, PendingLogin
    from ..saml.settings import ServiceProvider

CODE_LIFETIME = 60
"""Seconds within which the browser must bring the one-time code back."""

MOST_PENDING = 8
"""Logins that one browser may have begun at a time, in as many tabs; the oldest is forgotten first."""


def create_blueprint(prefix: str) -> Blueprint:
    """Return the blueprint of the SAML addresses; none of them asks for a login, each has its own proof.

    :param prefix: ``saml_url_prefix``.
    """
    blueprint = Blueprint(ENDPOINTS, __name__, url_prefix=prefix)
    rules: tuple[tuple[str, Callable[[str], Any], list[str]], ...] = (
        ("login", begin, ["GET"]),
        ("acs", receive, ["POST"]),
        ("complete", complete, ["GET"]),
        ("metadata", metadata, ["GET"]),
        ("logout", log_out, ["GET", "POST"]),
        ("signed-out", signed_out, ["GET"]),
    )
    for name, view, methods in rules:
        blueprint.add_url_rule(
            f"/<contact_center>/{name}", endpoint=name.replace("-", "_"), view_func=view, methods=methods
        )
    return access.unprotected(blueprint)


def begin(contact_center: str) -> Response:
    """``GET login?next=``: send the browser to the identity provider (saml-profiles 4.1.3.2)."""
    service = service_of(contact_center)
    begun = kept(
        lambda: begin_login(
            service,
            next(iter(service.providers.values())).current(),
            runtime().state,
            return_to=local_path(request.args.get("next")),
            force_authn=service.force_authn_after_logout and refusals.SIGNED_OUT in session,
        )
    )
    remembered = [*_pending(), [begun.reference, begun.nonce]]
    session[login.PENDING] = remembered[-MOST_PENDING:]
    return unseen(make_response(redirect(begun.location, 302)))


def receive(contact_center: str) -> Response:
    """``POST acs``: verify the provider's answer and hand the browser a one-time code (saml-profiles 4.1.4.5)."""
    service = service_of(contact_center)
    try:
        code = kept(lambda: _code_for(service))
    except SamlError as error:
        return refused(service, error)
    return unseen(make_response(redirect(f"{service.complete_url}?code={code}", 303)))


def complete(contact_center: str) -> Response:
    """``GET complete?code=``: log in the browser that began the login, and no other."""
    if request.method != "GET":
        # A look ahead (HEAD) must not burn the code.
        raise MethodNotAllowed(valid_methods=["GET"])
    service = service_of(contact_center)
    try:
        proven = kept(lambda: _redeemed(service, request.args.get("code", "")))
        settled = _settled(service, proven.login)
    except SamlError as error:
        return refused(service, error)
    login.begin_session(
        settled.user,
        contact_center=service.contact_center,
        step="saml",
        provider=proven.login.provider,
        name_id=proven.login.name_id,
        session_index=proven.login.session_index,
        not_on_or_after=proven.login.not_on_or_after,
    )
    return unseen(make_response(redirect(proven.return_to, 303)))


def metadata(contact_center: str) -> Response:
    """``GET metadata``: what the identity provider must know of us."""
    return Response(service_of(contact_center).metadata_xml(), mimetype="application/samlmetadata+xml")


def log_out(contact_center: str) -> Response:
    """``POST logout`` ends the session here; ``GET`` shows the button that does, for a link must not."""
    service = service_of(contact_center)
    # Looking at the decision also refuses a POST that another site sent.
    decision = login.decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if request.method == "POST":
        kept(login.end_session)
    elif decision.authenticated:
        name = getattr(decision.user, "user_name", "") or decision.account_id
        action = url_for(f"{ENDPOINTS}.logout", contact_center=service.contact_center)
        return refusals.no_store(
            make_response(render_template("genesys_auth/logout.html", action=action, user_name=name))
        )
    return unseen(make_response(redirect(url_for(f"{ENDPOINTS}.signed_out", contact_center=contact_center), 303)))


def signed_out(contact_center: str) -> Response:
    """``GET signed-out``: say so, and offer to log in again; nobody is logged in again in silence."""
    service = service_of(contact_center)
    begins = url_for(f"{ENDPOINTS}.login", contact_center=service.contact_center)
    return refusals.no_store(make_response(render_template("genesys_auth/signed_out.html", login_url=begins)))


def _code_for(service: ServiceProvider) -> str:
    """Consume the message; return the code under which the result is kept."""
    state = runtime().state
    received = consume(service, state, *posted("SAMLResponse"))
    pending = received.pending
    return_to = local_path(received.relay_state) if pending is None else pending.return_to
    return keep_proven(state, Proven(received.login, service.contact_center, return_to, pending), CODE_LIFETIME)


def _redeemed(service: ServiceProvider, code: str) -> Proven:
    """Take what is kept under the code, once, and make sure that this browser began it."""
    proven = take_proven(runtime().state, code)
    if proven is None:
        raise SamlError(Fault.CODE, "the code is unknown, used or too old")
    if proven.contact_center != service.contact_center:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER, f"the login is one of {proven.contact_center}, not {service.contact_center}"
        )
    if proven.pending is None:
        raise SamlError(Fault.UNSOLICITED, "nobody has asked for this login")
    _check_browser(proven.pending)
    return proven


def _check_browser(pending: PendingLogin) -> None:
    reference = reference_of(pending.request_id)
    known = _pending()
    if not any(name == reference and pending.begun_by(nonce) for name, nonce in known):
        raise SamlError(Fault.OTHER_BROWSER, "another browser began this login, or this one has lost its cookie")
    session[login.PENDING] = [entry for entry in known if entry[0] != reference]


def _settled(service: ServiceProvider, proven: Login) -> Settled:
    """Return the account that the proven person is here."""
    identity = Identity(
        step="saml",
        contact_center=service.contact_center,
        subject=proven.subject,
        matched_by="identity",
        provider=proven.provider,
    )
    settled = runtime().chain.settle(Authenticated(identity))
    if isinstance(settled.outcome, Unavailable):
        raise refusals.DirectoryUnavailable(Decision(None, steps=(StepRecord("saml", settled.outcome, 0.0),)))
    if settled.user is None:
        reason = getattr(settled.outcome, "reason", "")
        raise SamlError(Fault.ACCOUNT, f"{reason}: {proven.subject!r} of {proven.provider}")
    return settled


def _pending() -> list[list[str]]:
    kept = session.get(login.PENDING)
    return list(kept) if isinstance(kept, list) else []
