"""The addresses of SAML: where a login begins, where the provider's answer arrives, where the browser ends it.

The provider's answer is posted from another site, so that no ``SameSite=Lax`` cookie comes with it and none is
needed: the assertion consumer service verifies the message, keeps the result under a one-time code and sends the
browser to ``complete`` on the same site, where its cookie shows that it is the browser that began the login.
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
from .browser import browser, keep_session_of_browser
from .redirects import local_path
from .runtime import runtime
from .saml_logout import log_out, signed_out, slo
from .saml_pages import (
    CODE_LIFETIME,
    ENDPOINTS,
    TICKET_LIFETIME,
    address_of,
    post_form,
    posted,
    refused,
    service_of,
    unseen,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..chain.walk import Settled
    from ..saml.requests import BegunLogin, Kind, Login, PendingLogin
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import TrustedProvider

_FROM_ELSEWHERE = frozenset({"acs", "slo"})
"""Addresses to which a provider's site sends the browser, so that its cookie may stay behind."""
_TAKING = frozenset({"login", "complete", "slo"})
"""Addresses at which a GET changes something."""
_LARGEST_TICKET_FORM = 4096

MOST_PENDING = 8
"""Logins that one browser may have begun at a time, in as many tabs; the oldest is forgotten first."""

_WISHES = ("next", "login_hint", "is_passive", "force_authn")
_MOVED = "moved"
_IN_A_QUERY = "%&=+/?:@!$'()*,;~-._"


def create_blueprint(prefix: str) -> Blueprint:
    """Return the blueprint of the SAML addresses; none of them asks for a login, each has its own proof.

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
    """Return a view with what all of them share; a store or metadata that cannot be had make it 503."""

    @functools.wraps(view)
    def guarded(contact_center: str) -> Any:
        if name in _FROM_ELSEWHERE:
            # Applications touch the session of every request (``session.permanent = True``): an empty one would take
            # the place of the browser's.
            keep_session_of_browser()
        if name in _TAKING and request.method not in methods:
            # A look ahead (HEAD, which Flask answers like GET) must not begin a login or use anything up.
            raise MethodNotAllowed(valid_methods=methods)
        try:
            return view(contact_center)
        except BackendUnavailable as error:
            raise events.unavailable(error, "saml") from error

    return guarded


def _refuse_framing(prefix: str, answer: Response) -> Response:
    """Let errors that Werkzeug has written (404, 405) refuse framing too."""
    ours = request.blueprint == ENDPOINTS or (request.routing_exception is not None and request.path.startswith(prefix))
    if ours and answer.status_code >= 400 and "Content-Security-Policy" not in answer.headers:
        answer.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY
        answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


def begin(contact_center: str) -> Response:
    """``GET login?idp=&next=``: send the browser to the identity provider (saml-profiles 4.1.3.2)."""
    service = service_of(contact_center)
    elsewhere = _on_public_url(service)
    if elsewhere:
        return unseen(make_response(redirect(elsewhere, 302)))
    provider = _chosen(service)
    if provider is None:
        return unseen(make_response(redirect(address_of("choose", contact_center, **_wishes()), 302)))
    _check_not_too_many(contact_center)
    begun = _begun(service, provider)
    browser.pending = [*browser.pending, [begun.reference, begun.nonce]][-MOST_PENDING:]
    if begun.fields:
        return post_form(begun.location, begun.fields, title="signing_in_title")
    return unseen(make_response(redirect(begun.location, 302)))


def _check_not_too_many(contact_center: str) -> None:
    """Keep one address from filling the state with logins that nobody finishes.

    :raises Throttled: if it has begun too many.
    """
    over = runtime().saml.begin_limit.take(events.client_address())
    if over is not None:
        decision = Decision(contact_center, steps=(StepRecord("saml", over, 0.0),))
        events.report(decision)
        raise refusals.Throttled(decision)


def choose(contact_center: str) -> Response:
    """``GET choose?next=``: let the user choose one of several identity providers."""
    service = service_of(contact_center)
    choices = {name: address_of("login", contact_center, idp=name, **_wishes()) for name in service.providers}
    return refusals.no_store(make_response(render_template("genesys_auth/choose.html", choices=choices)))


def _chosen(service: ServiceProvider) -> TrustedProvider | None:
    """Return the identity provider, or ``None`` if the user has to choose."""
    name = request.args.get("idp", "")
    if not name and len(service.providers) > 1:
        return None
    provider = service.providers.get(name) if name else next(iter(service.providers.values()))
    return abort(404) if provider is None else provider


def _begun(service: ServiceProvider, provider: TrustedProvider) -> BegunLogin:
    asked_anew = service.force_authn_after_logout and browser.signed_out is not None
    return begin_login(
        service,
        provider.current(),
        runtime().state,
        return_to=local_path(request.args.get("next")),
        force_authn=asked_anew or request.args.get("force_authn") == "true",
        passive=request.args.get("is_passive") == "true",
        login_hint=request.args.get("login_hint", ""),
    )


def _wishes() -> dict[str, Any]:
    return {name: request.args[name] for name in _WISHES if name in request.args}


def _on_public_url(service: ServiceProvider) -> str:
    """Return this very address on ``public_url`` if the browser is at another of the contact center's hosts.

    The provider's answer comes back to ``public_url``, so that the nonce has to be set there. A host that is not
    listed is no reason to send anybody anywhere, and what has been sent once is not sent again: a proxy may well
    call us by a name of its own.
    """
    asked = request.host.lower()
    hosts = runtime().settings.contact_centers[service.contact_center].hosts
    if _MOVED in request.args or not {asked, asked.rpartition(":")[0]} & hosts:
        return ""
    if urlsplit(f"//{asked}").hostname == urlsplit(service.public_url).hostname:
        return ""
    query = quote(request.query_string, safe=_IN_A_QUERY)
    return f"{service.acs_url.removesuffix('/acs')}/login?{query}{'&' if query else ''}{_MOVED}=1"


def receive(contact_center: str) -> Response:
    """``POST acs``: verify the provider's answer and hand the browser a one-time code (saml-profiles 4.1.4.5)."""
    service = service_of(contact_center)
    try:
        _, encoded, relay_state = posted("SAMLResponse")
        location = _next_address(service, encoded, relay_state)
    except SamlError as error:
        return refused(service, error)
    return unseen(make_response(redirect(location, 303)))


def _next_address(service: ServiceProvider, encoded: str, relay_state: str) -> str:
    """Consume the message; return where the browser goes on, with the code under which the result is kept."""
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
    """``GET complete?code=``: log in the browser that began the login, and no other; ``POST``: whose user agrees."""
    service = service_of(contact_center)
    if request.method == "POST" and not runtime().origins.is_own_page(request, contact_center):
        raise refusals.ForeignOrigin(Decision(contact_center))
    try:
        if request.method == "POST":
            return _logged_in(service, _redeemed(service, _ticket(), "ticket"))
        proven = _redeemed(service, request.args.get("code", ""), "code")
        if proven.pending is None:
            return _question(service, proven)
        _check_browser(proven.pending)
        return _logged_in(service, proven)
    except SamlError as error:
        # A provider is named once it has proven something.
        error.asked = bool(error.provider)
        return refused(service, error)


def _question(service: ServiceProvider, proven: Proven) -> Response:
    """Ask the user: whoever sent this browser here may have had an account of their own in mind (login CSRF)."""
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
        raise SamlError(Fault.CODE, "the form cannot be read") from error


def _redeemed(service: ServiceProvider, secret: str, kind: Kind) -> Proven:
    """Take what is kept under the secret, once."""
    proven = take_proven(runtime().state, secret, kind)
    if proven is None:
        raise SamlError(Fault.CODE, f"the {kind} is unknown, used or too old")
    if proven.contact_center != service.contact_center:
        raise SamlError(
            Fault.OTHER_CONTACT_CENTER,
            f"the login is one of {proven.contact_center}, not {service.contact_center}",
            provider=proven.login.provider,
        )
    return proven


def _check_browser(pending: PendingLogin) -> None:
    """Make sure that this browser began the login."""
    reference = reference_of(pending.request_id)
    known = browser.pending
    if not any(name == reference and pending.begun_by(nonce) for name, nonce in known):
        raise SamlError(
            Fault.OTHER_BROWSER,
            "another browser began this login, or this one has lost its cookie",
            provider=pending.provider,
        )
    browser.pending = [entry for entry in known if entry[0] != reference]


def _logged_in(service: ServiceProvider, proven: Proven) -> Response:
    ends = proven.login.not_on_or_after
    if ends is not None and service.clock() >= ends:
        raise SamlError(
            Fault.SESSION_EXPIRED,
            f"the provider's session ended at {as_instant(ends)}, before the login came to its end",
            provider=proven.login.provider,
        )
    settled = _settled(service, proven.login)
    login.begin_session(
        settled.user,
        contact_center=service.contact_center,
        step="saml",
        provider=proven.login.provider,
        name_id=proven.login.name_id,
        session_index=proven.login.session_index,
        not_on_or_after=proven.login.not_on_or_after,
        confirm=lambda: check_not_logged_out(runtime().state, service, proven.login),
    )
    return unseen(make_response(redirect(proven.return_to, 303)))


def _settled(service: ServiceProvider, proven: Login) -> Settled:
    """Return the account that the proven person is here."""
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
        raise SamlError(Fault.ISSUER, f"{proven.provider} is no provider of {service.contact_center} any more")
    enrol(here.accounts, identity, provider.settings)
    settled = here.chain.settle(Authenticated(identity))
    if settled.user is None:
        reason = getattr(settled.outcome, "reason", "")
        detail = f"{reason}: {proven.subject!r} of {proven.provider}"
        raise SamlError(Fault.ACCOUNT, detail, provider=proven.provider)
    return settled


def metadata(contact_center: str) -> Response:
    """``GET metadata``: what the identity provider must know of us."""
    return Response(service_of(contact_center).metadata_xml(), mimetype="application/samlmetadata+xml")
