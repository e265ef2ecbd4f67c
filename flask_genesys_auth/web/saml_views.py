"""The SAML endpoints and the login flow: ``login`` -> provider -> ``acs`` -> ``complete``.

The provider's response is posted from another site, without our ``SameSite=Lax`` cookie. The assertion consumer
service (``acs``) verifies it, stores the result under a one-time code and redirects to ``complete`` on our site. There
the cookie proves that the same browser began the login.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ..accounts.enrolment import enrol
from ..chain.outcomes import Authenticated, Decision, Identity, StepRecord
from ..errors import BackendUnavailable
from ..saml.documents import as_instant
from ..saml.errors import Fault, SamlError, StatusRefused
from ..saml.logout import check_not_logged_out
from ..saml.requests import Proven, begin_login, keep_proven, reference_of, take_proven
from ..saml.response import consume, declined
from . import access, events, login, refusals
from .browser import browser, withhold_new_cookie
from .redirects import local_path
from .runtime import LoginDetails, runtime
from .saml_logout import log_out, signed_out, slo
from .saml_pages import (
    CODE_LIFETIME,
    ENDPOINTS,
    TICKET_LIFETIME,
    address_of,
    post_form,
    posted,
    private,
    refused,
    service_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..chain.walk import Settled
    from ..saml.requests import BegunLogin, Kind, Login, PendingLogin
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import TrustedProvider

_CROSS_SITE = frozenset({"acs", "slo"})
"""Endpoints that providers' sites post to, possibly without our cookie."""
_GET_HAS_EFFECTS = frozenset({"login", "complete", "slo"})
"""Endpoints at which a GET request changes state."""
_LARGEST_TICKET_FORM = 4096

MOST_PENDING = 8
"""Pending logins of one browser (one per tab); the oldest is dropped first."""

_LOGIN_PARAMETERS = ("next", "login_hint", "is_passive", "force_authn")
_REDIRECTED = "moved"
_QUERY_CHARACTERS = "%&=+/?:@!$'()*,;~-._"


def create_blueprint(prefix: str) -> Blueprint:
    """Return the blueprint of the SAML endpoints. They are unprotected, and each checks its own proof.

    :param prefix: ``saml_url_prefix``.
    """
    blueprint = Blueprint(ENDPOINTS, __name__, url_prefix=prefix)
    rules: tuple[tuple[str, Callable[[str], Any], list[str]], ...] = (
        ("login", begin, ["GET"]),
        ("choose", choose, ["GET"]),
        ("acs", receive, ["POST"]),
        ("complete", complete, ["GET", "POST"]),
        ("metadata", metadata, ["GET"]),
        ("logout", log_out, ["GET", "POST"]),
        ("signed-out", signed_out, ["GET"]),
        ("slo", slo, ["GET", "POST"]),
    )
    for name, view, methods in rules:
        blueprint.add_url_rule(
            f"/<contact_center>/{name}",
            endpoint=name.replace("-", "_"),
            view_func=_guarded(name, view, methods),
            methods=methods,
        )
    blueprint.after_app_request(functools.partial(_refuse_framing, f"{prefix}/"))
    return access.unprotected(blueprint)


def _guarded(name: str, view: Callable[[str], Any], methods: list[str]) -> Callable[[str], Any]:
    """Add the checks that all endpoints share; an unavailable store or missing metadata give 503."""

    @functools.wraps(view)
    def guarded(contact_center: str) -> Any:
        if name in _CROSS_SITE:
            # Applications may touch every session (``session.permanent = True``), and an empty one would replace the
            # browser's.
            withhold_new_cookie()
        if name in _GET_HAS_EFFECTS and request.method not in methods:
            # A HEAD request, which Flask answers like GET, must not begin a login or consume a message.
            raise MethodNotAllowed(valid_methods=methods)
        try:
            return view(contact_center)
        except BackendUnavailable as error:
            raise events.unavailable(error, "saml") from error

    return guarded


def _refuse_framing(prefix: str, answer: Response) -> Response:
    """Forbid framing of the error pages of Werkzeug (404, 405) as well."""
    ours = request.blueprint == ENDPOINTS or (request.routing_exception is not None and request.path.startswith(prefix))
    if ours and answer.status_code >= 400 and "Content-Security-Policy" not in answer.headers:
        answer.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY
        answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


def begin(contact_center: str) -> Response:
    """``GET login?idp=&next=``: send the browser to the identity provider (saml-profiles 4.1.3.2)."""
    service = service_of(contact_center)
    canonical = _on_public_url(service)
    if canonical:
        return private(make_response(redirect(canonical, 302)))
    provider = _requested_provider(service)
    if provider is None:
        return private(make_response(redirect(address_of("choose", contact_center, **_login_parameters()), 302)))
    _check_login_limit(contact_center)
    begun = _begin_login(service, provider)
    browser.pending = [*browser.pending, [begun.reference, begun.nonce]][-MOST_PENDING:]
    if begun.fields:
        return post_form(begun.location, begun.fields, title="signing_in_title")
    return private(make_response(redirect(begun.location, 302)))


def _check_login_limit(contact_center: str) -> None:
    """Keep one address from filling the state with unfinished logins.

    :raises Throttled: if it began too many.
    """
    over = runtime().saml.begin_limit.take(events.client_address())
    if over is not None:
        decision = Decision(contact_center, steps=(StepRecord("saml", over, 0.0),))
        events.report(decision)
        raise refusals.Throttled(decision)


def choose(contact_center: str) -> Response:
    """``GET choose?next=``: let the user choose an identity provider."""
    service = service_of(contact_center)
    choices = {name: address_of("login", contact_center, idp=name, **_login_parameters()) for name in service.providers}
    return refusals.no_store(make_response(render_template("genesys_auth/choose.html", choices=choices)))


def _requested_provider(service: ServiceProvider) -> TrustedProvider | None:
    """Return the requested identity provider, or ``None`` if the user has to choose."""
    name = request.args.get("idp", "")
    if not name and len(service.providers) > 1:
        return None
    provider = service.providers.get(name) if name else next(iter(service.providers.values()))
    return abort(404) if provider is None else provider


def _begin_login(service: ServiceProvider, provider: TrustedProvider) -> BegunLogin:
    after_logout = service.force_authn_after_logout and browser.signed_out is not None
    return begin_login(
        service,
        provider.current(),
        runtime().state,
        return_to=local_path(request.args.get("next")),
        force_authn=after_logout or request.args.get("force_authn") == "true",
        passive=request.args.get("is_passive") == "true",
        login_hint=request.args.get("login_hint", ""),
    )


def _login_parameters() -> dict[str, Any]:
    return {name: request.args[name] for name in _LOGIN_PARAMETERS if name in request.args}


def _on_public_url(service: ServiceProvider) -> str:
    """Return this URL at the host of ``public_url``, if the browser used another configured host.

    The provider's response arrives at ``public_url``, so the cookie with the nonce must be set there. Unlisted hosts
    are not redirected. A redirected request is not redirected again: a proxy may pass on another host.
    """
    host = request.host.lower()
    hosts = runtime().settings.contact_centers[service.contact_center].hosts
    if _REDIRECTED in request.args or not {host, host.rpartition(":")[0]} & hosts:
        return ""
    if urlsplit(f"//{host}").hostname == urlsplit(service.public_url).hostname:
        return ""
    query = quote(request.query_string, safe=_QUERY_CHARACTERS)
    return f"{service.acs_url.removesuffix('/acs')}/login?{query}{'&' if query else ''}{_REDIRECTED}=1"


def receive(contact_center: str) -> Response:
    """``POST acs``: verify the provider's response, redirect with a one-time code (saml-profiles 4.1.4.5)."""
    service = service_of(contact_center)
    try:
        _, encoded, relay_state = posted("SAMLResponse")
        location = _consume(service, encoded, relay_state)
    except SamlError as error:
        return refused(service, error)
    return private(make_response(redirect(location, 303)))


def _consume(service: ServiceProvider, encoded: str, relay_state: str) -> str:
    """Validate and consume the message; return the next URL, with the one-time code of the result."""
    state = runtime().state
    try:
        received = consume(service, state, encoded, relay_state)
    except StatusRefused as error:
        return_to = declined(service, state, error, relay_state)
        if return_to is None:
            raise
        return return_to
    pending = received.pending
    return_to = local_path(relay_state) if pending is None else pending.return_to
    code = keep_proven(state, Proven(received.login, service.contact_center, return_to, pending), CODE_LIFETIME)
    return f"{service.complete_url}?code={code}"


def complete(contact_center: str) -> Response:
    """``GET complete?code=``: log in the browser that began the login; ``POST``: a user who confirmed the login."""
    service = service_of(contact_center)
    if request.method == "POST" and not runtime().origins.is_own_page(request, contact_center):
        raise refusals.ForeignOrigin(Decision(contact_center))
    try:
        if request.method == "POST":
            return _log_in(service, _redeem(service, _ticket(), "ticket"))
        proven = _redeem(service, request.args.get("code", ""), "code")
        if proven.pending is None:
            return _ask_user(service, proven)
        _check_browser(proven.pending)
        return _log_in(service, proven)
    except SamlError as error:
        # The provider is known only for a verified message.
        error.asked = bool(error.provider)
        return refused(service, error)


def _ask_user(service: ServiceProvider, proven: Proven) -> Response:
    """Ask the user to confirm an unsolicited login: an attacker may have sent their own (login CSRF)."""
    ticket = keep_proven(runtime().state, proven, TICKET_LIFETIME, "ticket")
    page = render_template(
        "genesys_auth/continue.html",
        action=address_of("complete", service.contact_center),
        ticket=ticket,
        name=proven.login.subject,
        provider=proven.login.provider,
    )
    return refusals.no_store(make_response(page))


def _ticket() -> str:
    request.max_content_length = request.max_form_memory_size = _LARGEST_TICKET_FORM
    try:
        return request.form.get("ticket", "")
    except HTTPException as error:
        raise SamlError(Fault.CODE, "the form cannot be parsed") from error


def _redeem(service: ServiceProvider, secret: str, kind: Kind) -> Proven:
    """Take the result that is stored under a one-time secret."""
    proven = take_proven(runtime().state, secret, kind)
    if proven is None:
        raise SamlError(Fault.CODE, f"the {kind} is unknown, used or expired")
    if proven.contact_center != service.contact_center:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login belongs to contact center {proven.contact_center}, not {service.contact_center}",
            provider=proven.login.provider,
        )
    return proven


def _check_browser(pending: PendingLogin) -> None:
    """Check that this browser began the login."""
    reference = reference_of(pending.request_id)
    known = browser.pending
    if not any(name == reference and pending.begun_by(nonce) for name, nonce in known):
        raise SamlError(
            Fault.OTHER_BROWSER,
            "another browser began this login, or this browser lost its cookie",
            provider=pending.provider,
        )
    browser.pending = [entry for entry in known if entry[0] != reference]


def _log_in(service: ServiceProvider, proven: Proven) -> Response:
    ends = proven.login.not_on_or_after
    if ends is not None and service.clock() >= ends:
        raise SamlError(
            Fault.SESSION_EXPIRED,
            f"the provider's session ended at {as_instant(ends)}, before the login was complete",
            provider=proven.login.provider,
        )
    settled = _find_account(service, proven.login)
    details = LoginDetails(
        contact_center=service.contact_center,
        step="saml",
        provider=proven.login.provider,
        name_id=proven.login.name_id,
        session_index=proven.login.session_index,
        not_on_or_after=proven.login.not_on_or_after,
        confirm=lambda: check_not_logged_out(runtime().state, service, proven.login),
    )
    login.begin_session(settled.user, details)
    return private(make_response(redirect(proven.return_to, 303)))


def _find_account(service: ServiceProvider, proven: Login) -> Settled:
    """Return the account of the proven identity; create or link it if the configuration allows."""
    identity = Identity(
        step="saml",
        contact_center=service.contact_center,
        subject=proven.subject,
        attributes=proven.attributes,
        matched_by="identity",
        provider=proven.provider,
    )
    here = runtime()
    provider = service.providers.get(proven.provider)
    if provider is None:
        raise SamlError(
            Fault.ISSUER, f"{proven.provider} is no longer a provider of contact center {service.contact_center}"
        )
    enrol(here.accounts, identity, provider.settings)
    settled = here.chain.settle(Authenticated(identity))
    if settled.user is None:
        reason = getattr(settled.outcome, "reason", "")
        detail = f"{reason}: {proven.subject!r} of {proven.provider}"
        raise SamlError(Fault.ACCOUNT, detail, provider=proven.provider)
    return settled


def metadata(contact_center: str) -> Response:
    """``GET metadata``: our metadata for identity providers."""
    return Response(service_of(contact_center).metadata_xml(), mimetype="application/samlmetadata+xml")
