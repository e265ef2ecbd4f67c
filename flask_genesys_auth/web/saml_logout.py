"""Logging out (saml-profiles 4.4): here first, then at the provider; and what providers ask and answer.

A provider's message comes from another site, perhaps without our cookie. Its signature is the proof, and the sessions
that it ends are found in the state, whichever browser brings it and whichever node has made them.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Response, make_response, redirect, render_template, request

from ..chain.outcomes import LoginSession
from ..errors import BackendUnavailable
from ..events import Event, log_event
from ..saml.errors import MetadataUnavailable, SamlError
from ..saml.logout import LogoutRequest, LogoutResponse, begin_logout, can_log_out, note_logout
from ..saml.logout import answer as answer_to
from ..saml.logout import receive as receive_logout
from . import events, login, refusals
from .browser import browser, login_session_id
from .hooks import decide
from .runtime import current_application, runtime
from .saml_pages import (
    CODE_LIFETIME,
    TICKET_LIFETIME,
    address_of,
    form_targets,
    post_form,
    posted,
    refused,
    service_of,
    unseen,
)

if TYPE_CHECKING:
    from ..saml.logout import Outgoing
    from ..saml.service_provider import ServiceProvider
    from ..saml.transport import Kind
    from ..saml.trust import Trust

LONGEST_WAY = CODE_LIFETIME + TICKET_LIFETIME
"""Seconds from an accepted assertion to its login session."""

OUTCOME_LIFETIME = 300
"""Seconds within which the browser must come from the provider to the signed-out page."""

_TITLE = "signing_out_title"


def log_out(contact_center: str) -> Response:
    """``POST logout`` ends the session here and goes on; ``GET`` shows the button that does, for a link must not."""
    service = service_of(contact_center)
    # Looking at the decision also refuses a POST that another site sent.
    decision = decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if request.method == "POST":
        # Another contact center's session is none to this walk, so its origin was not looked at.
        onward = leave() if decision.resumed else None
        if onward is not None:
            return onward
    elif decision.authenticated:
        name = getattr(decision.user, "user_name", "") or decision.account_id
        action = address_of("logout", service.contact_center)
        page = refusals.no_store(
            make_response(render_template("genesys_auth/logout.html", action=action, user_name=name))
        )
        return _may_go_on(page)
    return _to_signed_out(service)


def leave() -> Response | None:
    """End this browser's login, here and on the server; then send it to the provider that has vouched for it.

    :returns: the way there; ``None`` where the logout ends here.
    :raises DirectoryUnavailable: if the state cannot end the login session: then nobody is logged out.
    """
    ended = login.end_session()
    if ended is None or ended.step != "saml":
        return None
    browser.signed_out = "local"
    # What has ended here stays so, whether or not the provider can be asked.
    with suppress(BackendUnavailable):
        asked = _who_to_ask(ended)
        if asked is not None:
            service, trust = asked
            outgoing = begin_logout(service, trust, runtime().state, ended)
            browser.signed_out, browser.logout = "asked", outgoing.reference
            return _sent(outgoing)
    return None


def slo(contact_center: str) -> Response:
    """``GET slo`` and ``POST slo``: take a provider's request or answer by either binding (saml-bindings 3.4, 3.5)."""
    service = service_of(contact_center)
    try:
        received = _received(service)
    except SamlError as error:
        return refused(service, error, leaving=True)
    return _noted(service, received) if isinstance(received, LogoutResponse) else _ended(service, received)


def signed_out(contact_center: str) -> Response:
    """``GET signed-out``: say what is so, and offer to log in again; nobody is logged in again in silence."""
    service = service_of(contact_center)
    decision = decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if decision.resumed:
        # What would be said here is not so; there they see who they are, and can sign out.
        return unseen(make_response(redirect(address_of("logout", service.contact_center), 303)))
    _learn_outcome()
    begins = address_of("login", service.contact_center)
    return refusals.no_store(make_response(render_template("genesys_auth/signed_out.html", login_url=begins)))


def _received(service: ServiceProvider) -> LogoutRequest | LogoutResponse:
    state = runtime().state
    if request.method == "GET":
        raw_query = request.query_string.decode("latin-1")
        return receive_logout(service, state, "SAMLRequest", raw_query=raw_query)
    name, encoded, relay_state = posted("SAMLRequest", "SAMLResponse")
    kind: Kind = "SAMLRequest" if name == "SAMLRequest" else "SAMLResponse"
    return receive_logout(service, state, kind, form=(encoded, relay_state))


def _ended(service: ServiceProvider, asked: LogoutRequest) -> Response:
    """End what the provider's request names (saml-core 3.7.3.2), and answer: there is nothing left of it here."""
    here = runtime()
    try:
        # Before the sessions are looked for: a login that is on its way finds either this or its end.
        note_logout(here.state, service, asked, LONGEST_WAY)
        ended = here.sessions.end_saml(
            service.contact_center, asked.trust.name, asked.name_id.text, asked.session_indexes
        )
    except BackendUnavailable:
        asked.allow_resend(here.state)
        raise
    _announce(ended, asked.trust.name)
    login.forget_ended()
    outgoing = answer_to(service, asked)
    return _to_signed_out(service) if outgoing is None else _sent(outgoing)


def _announce(ended: list[LoginSession], provider: str) -> None:
    app = current_application()
    for one in ended:
        events.logged_out(app, one)
    revoked = Counter((one.account_id, one.contact_center) for one in ended)
    for (account_id, contact_center), count in revoked.items():
        events.session_revoked(app, account_id, contact_center, count, by=f"the provider {provider!r}")


def _noted(service: ServiceProvider, answered: LogoutResponse) -> Response:
    """Keep what came of a logout for the browser that began it; this request may not carry its cookie."""
    log_event(
        Event.SAML_LOGOUT,
        level=logging.INFO if answered.outcome == "success" else logging.WARNING,
        step="saml",
        outcome=answered.outcome,
        contact_center=service.contact_center,
        address=events.client_address(),
        provider=answered.trust.name,
    )
    runtime().state.put(_key(answered.reference), answered.outcome, OUTCOME_LIFETIME)
    return _to_signed_out(service)


def _learn_outcome() -> None:
    """Let this browser's session know what came of the logout that it began, if the provider has answered."""
    reference = browser.logout
    if browser.signed_out != "asked" or reference is None:
        return
    # Without the state it stays at what is known: not confirmed.
    with suppress(BackendUnavailable):
        outcome = runtime().state.get(_key(reference))
        if isinstance(outcome, str):
            browser.signed_out = "complete" if outcome == "success" else outcome
            browser.logout = None


def _who_to_ask(ended: LoginSession) -> tuple[ServiceProvider, Trust] | None:
    """Return the provider that has vouched for a session, if it can be asked to end its own."""
    service = runtime().saml.service_providers.get(ended.contact_center)
    provider = None if service is None else service.providers.get(ended.provider)
    if service is None or provider is None:
        return None
    trust = provider.current()
    return (service, trust) if can_log_out(service, trust, ended) else None


def _may_go_on(page: Response) -> Response:
    """Let the page's form end up at the provider: browsers check ``form-action`` along redirects."""
    opaque = login_session_id()
    found = runtime().sessions.resume(opaque, touch=False) if opaque else None
    asked = None
    if isinstance(found, LoginSession):
        with suppress(MetadataUnavailable):
            asked = _who_to_ask(found)
    if asked is not None:
        addresses = (endpoint.location for endpoint in asked[1].metadata.single_logout.values())
        page.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY.replace(
            "form-action 'self'", f"form-action 'self' {form_targets(*addresses)}"
        )
    return page


def _sent(outgoing: Outgoing) -> Response:
    if outgoing.binding == "post":
        return post_form(outgoing.location, outgoing.fields, title=_TITLE)
    return unseen(make_response(redirect(outgoing.location, 303)))


def _to_signed_out(service: ServiceProvider) -> Response:
    return unseen(make_response(redirect(address_of("signed_out", service.contact_center), 303)))


def _key(reference: str) -> str:
    return f"saml-logout-outcome:{reference}"
