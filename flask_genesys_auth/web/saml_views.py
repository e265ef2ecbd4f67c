"""The addresses of the SAML login: where it begins, where the provider's answer arrives, where the browser ends it.

The provider's answer is posted from another site, so that no ``SameSite=Lax`` cookie comes with it and none is
needed: the assertion consumer service verifies the message, keeps the result under a one-time code and sends the
browser to ``complete`` on the same site, where its cookie shows that it is the browser that began the login.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request, session, url_for
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from ..chain.decision import Authenticated, Decision, Identity, StepRecord, Unavailable
from ..chain.walk import unavailable
from ..errors import BackendUnavailable
from . import access, login, refusals
from .addresses import local_path
from .runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..chain.walk import Settled
    from ..saml.errors import SamlError
    from ..saml.requests import Login, PendingLogin
    from ..saml.settings import ServiceProvider

ENDPOINTS = "genesys_saml"
CODE_LIFETIME = 60
"""Seconds within which the browser must bring the one-time code back."""

MOST_PENDING = 8
"""Logins that one browser may have begun at a time, in as many tabs; the oldest is forgotten first."""

_LARGEST_FORM = 1024 * 1024
_FORM = "application/x-www-form-urlencoded"

_log = logging.getLogger("flask_genesys_auth.saml")


def create_blueprint(prefix: str) -> Blueprint:
    """Return the blueprint of the SAML addresses; none of them asks for a login, each has its own proof.

    :param prefix: ``saml_url_prefix``.
    """
    blueprint = Blueprint(ENDPOINTS, __name__, url_prefix=prefix)
    rules: tuple[tuple[str, Callable[[str], Any], list[str]], ...] = (
        ("login", begin, ["GET"]),
        ("acs", consume, ["POST"]),
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
    from ..saml.requests import begin_login

    service = _service(contact_center)
    begun = _kept(
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
    return _unseen(make_response(redirect(begun.location, 302)))


def consume(contact_center: str) -> Response:
    """``POST acs``: verify the provider's answer and hand the browser a one-time code (saml-profiles 4.1.4.5)."""
    from ..saml.errors import SamlError

    service = _service(contact_center)
    try:
        code = _kept(lambda: _code_for(service, *_message()))
    except SamlError as error:
        return _refused(service, error)
    return _unseen(make_response(redirect(f"{service.complete_url}?code={code}", 303)))


def complete(contact_center: str) -> Response:
    """``GET complete?code=``: log in the browser that began the login, and no other."""
    from ..saml.errors import SamlError

    if request.method != "GET":
        # A look ahead (HEAD) must not burn the code.
        raise MethodNotAllowed(valid_methods=["GET"])
    service = _service(contact_center)
    try:
        pending, proven = _kept(lambda: _redeemed(service, request.args.get("code", "")))
        settled = _settled(service, proven)
    except SamlError as error:
        return _refused(service, error)
    login.begin_session(
        settled.user,
        contact_center=service.contact_center,
        step="saml",
        provider=proven.provider,
        name_id=proven.name_id,
        session_index=proven.session_index,
        not_on_or_after=proven.not_on_or_after,
    )
    return _unseen(make_response(redirect(pending.return_to, 303)))


def metadata(contact_center: str) -> Response:
    """``GET metadata``: what the identity provider must know of us."""
    return Response(_service(contact_center).metadata_xml(), mimetype="application/samlmetadata+xml")


def log_out(contact_center: str) -> Response:
    """``POST logout`` ends the session here; ``GET`` shows the button that does, for a link must not."""
    service = _service(contact_center)
    # Looking at the decision also refuses a POST that another site sent.
    decision = login.decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if request.method == "POST":
        _kept(login.end_session)
    elif decision.authenticated:
        name = getattr(decision.user, "user_name", "") or decision.account_id
        action = url_for(f"{ENDPOINTS}.logout", contact_center=service.contact_center)
        return refusals.no_store(
            make_response(render_template("genesys_auth/logout.html", action=action, user_name=name))
        )
    return _unseen(make_response(redirect(url_for(f"{ENDPOINTS}.signed_out", contact_center=contact_center), 303)))


def signed_out(contact_center: str) -> Response:
    """``GET signed-out``: say so, and offer to log in again; nobody is logged in again in silence."""
    service = _service(contact_center)
    begins = url_for(f"{ENDPOINTS}.login", contact_center=service.contact_center)
    return refusals.no_store(make_response(render_template("genesys_auth/signed_out.html", login_url=begins)))


def _service(contact_center: str) -> ServiceProvider:
    found = runtime().service_providers.get(contact_center)
    return found if found is not None else abort(404)


def _message() -> tuple[str, str]:
    """Return ``SAMLResponse`` and ``RelayState`` of the POST binding (saml-bindings 3.5.4), bounded."""
    from ..saml.errors import Fault, SamlError

    request.max_content_length = request.max_form_memory_size = _LARGEST_FORM
    if request.mimetype != _FORM:
        raise SamlError(Fault.MALFORMED, f"the request is {request.mimetype or 'of no type'}, not {_FORM}")
    try:
        fields = {name: request.form.getlist(name) for name in ("SAMLResponse", "RelayState")}
    except RequestEntityTooLarge as error:
        raise SamlError(Fault.TOO_LARGE, f"the form has more than {_LARGEST_FORM} bytes") from error
    except HTTPException as error:
        raise SamlError(Fault.MALFORMED, "the form cannot be read") from error
    if len(fields["SAMLResponse"]) != 1 or len(fields["RelayState"]) > 1:
        raise SamlError(Fault.MALFORMED, "the form has not exactly one SAMLResponse and at most one RelayState")
    return fields["SAMLResponse"][0], "".join(fields["RelayState"])


def _code_for(service: ServiceProvider, encoded: str, relay_state: str) -> str:
    """Take the message through gate, verification and binding; return the code under which the result is kept."""
    from ..saml.binding import bind
    from ..saml.errors import Fault, SamlError
    from ..saml.gate import admit
    from ..saml.requests import find_login, finish_login, keep_proven
    from ..saml.verify import verify

    state = runtime().state
    message = admit(encoded)
    pending = find_login(state, message.in_response_to)
    if pending is None:
        raise SamlError(Fault.UNSOLICITED, f"no login that was begun here has the id {message.in_response_to!r}")
    if relay_state and not pending.made_with(relay_state):
        raise SamlError(Fault.RELAY_STATE, "RelayState is not the one that went with the request")
    provider = service.providers.get(pending.provider) if pending.contact_center == service.contact_center else None
    if provider is None:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login was begun with {pending.provider} of {pending.contact_center}, which is no provider of "
            f"{service.contact_center}",
        )
    trust = provider.current()
    verified = verify(message, trust)
    proven: Login = bind(verified, service, trust, pending, state)
    if not finish_login(state, pending):
        raise SamlError(Fault.REPLAYED, f"request {pending.request_id!r} has been answered before")
    return keep_proven(state, pending, proven, CODE_LIFETIME)


def _redeemed(service: ServiceProvider, code: str) -> tuple[PendingLogin, Login]:
    """Take what is kept under the code, once, and make sure that this browser began it."""
    from ..saml.errors import Fault, SamlError
    from ..saml.requests import reference_of, take_proven

    found = take_proven(runtime().state, code)
    if found is None:
        raise SamlError(Fault.CODE, "the code is unknown, used or too old")
    pending, proven = found
    if pending.contact_center != service.contact_center:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER, f"the login is one of {pending.contact_center}, not {service.contact_center}"
        )
    reference = reference_of(pending.request_id)
    kept = _pending()
    if not any(name == reference and pending.begun_by(nonce) for name, nonce in kept):
        raise SamlError(Fault.OTHER_BROWSER, "another browser began this login, or this one has lost its cookie")
    session[login.PENDING] = [entry for entry in kept if entry[0] != reference]
    return pending, proven


def _settled(service: ServiceProvider, proven: Login) -> Settled:
    """Return the account that the proven person is here."""
    from ..saml.errors import Fault, SamlError

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


def _kept(ask: Callable[[], Any]) -> Any:
    """Ask; a state that does not answer makes it 503, not a refusal."""
    try:
        return ask()
    except BackendUnavailable as error:
        decision = Decision(None, steps=(StepRecord("saml", unavailable(error), 0.0),))
        raise refusals.DirectoryUnavailable(decision) from error


def _refused(service: ServiceProvider, error: SamlError) -> Response:
    """Log the reason, which nobody outside learns, under a reference that they can quote."""
    reference = secrets.token_hex(4)
    _log.warning(
        "SAML login refused for %s: %s: %s (reference %s)",
        service.contact_center,
        error.reason,
        error.detail,
        reference,
        extra={
            "saml_reference": reference,
            "saml_reason": str(error.reason),
            "saml_detail": error.detail,
            "contact_center": service.contact_center,
        },
    )
    again = url_for(f"{ENDPOINTS}.login", contact_center=service.contact_center)
    return _unseen(refusals.saml_failed(reference, again))


def _unseen(answer: Response) -> Response:
    """Keep an answer out of caches, and its address, which may carry a code, out of ``Referer``."""
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
