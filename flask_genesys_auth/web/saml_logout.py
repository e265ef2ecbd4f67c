"""Single logout (saml-profiles 4.4): here first, then at the provider; and requests and responses of providers.

A provider's message comes from another site, possibly without our cookie. Its signature is the proof. The sessions
that it ends are found in the state, for any browser and any node.
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
    private,
    refused,
    service_of,
)

if TYPE_CHECKING:
    from ..saml.logout import Outgoing
    from ..saml.service_provider import ServiceProvider
    from ..saml.transport import Kind
    from ..saml.trust import Trust

LONGEST_LOGIN = CODE_LIFETIME + TICKET_LIFETIME
"""Seconds at most from an accepted assertion to its login session."""

OUTCOME_LIFETIME = 300
"""Seconds for which the outcome is stored until the browser reaches the signed-out page."""

_TITLE = "signing_out_title"


def log_out(contact_center: str) -> Response:
    """``POST logout``: end the session here and at the provider; ``GET``: show a button, because a link must not."""
    service = service_of(contact_center)
    # Reading the decision also refuses a POST from another site.
    decision = decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if request.method == "POST":
        # The walk ignores a session of another contact center, and has not checked the origin for it.
        to_provider = leave() if decision.resumed else None
        if to_provider is not None:
            return to_provider
    elif decision.authenticated:
        name = getattr(decision.user, "user_name", "") or decision.account_id
        action = address_of("logout", service.contact_center)
        page = refusals.no_store(
            make_response(render_template("genesys_auth/logout.html", action=action, user_name=name))
        )
        return _allow_form_to_provider(page)
    return _to_signed_out(service)


def leave() -> Response | None:
    """End the login session in this browser and on the server, then at the SAML provider of the login.

    :returns: the response that sends the browser to the provider; ``None`` if there is no logout at a provider.
    :raises DirectoryUnavailable: if the state cannot end the login session; the user is still logged in.
    """
    ended = login.end_session()
    if ended is None or ended.step != "saml":
        return None
    browser.signed_out = "local"
    # The local logout stands, even if the provider cannot be contacted.
    with suppress(BackendUnavailable):
        target = _logout_target(ended)
        if target is not None:
            service, trust = target
            outgoing = begin_logout(service, trust, runtime().state, ended)
            browser.signed_out, browser.logout = "asked", outgoing.reference
            return _send(outgoing)
    return None


def slo(contact_center: str) -> Response:
    """``GET`` or ``POST slo``: receive a provider's request or response in either binding (saml-bindings 3.4, 3.5)."""
    service = service_of(contact_center)
    try:
        received = _receive(service)
    except SamlError as error:
        return refused(service, error, leaving=True)
    return (
        _store_outcome(service, received) if isinstance(received, LogoutResponse) else _end_sessions(service, received)
    )


def signed_out(contact_center: str) -> Response:
    """``GET signed-out``: show the outcome of the logout and a login button; never log in automatically."""
    service = service_of(contact_center)
    decision = decide()
    if decision.unavailable:
        raise refusals.for_anonymous(decision)
    if decision.resumed:
        # The user is logged in; the logout page shows the account and a button.
        return private(make_response(redirect(address_of("logout", service.contact_center), 303)))
    _read_outcome()
    login_url = address_of("login", service.contact_center)
    return refusals.no_store(make_response(render_template("genesys_auth/signed_out.html", login_url=login_url)))


def _receive(service: ServiceProvider) -> LogoutRequest | LogoutResponse:
    state = runtime().state
    if request.method == "GET":
        raw_query = request.query_string.decode("latin-1")
        return receive_logout(service, state, "SAMLRequest", raw_query=raw_query)
    name, encoded, relay_state = posted("SAMLRequest", "SAMLResponse")
    kind: Kind = "SAMLRequest" if name == "SAMLRequest" else "SAMLResponse"
    return receive_logout(service, state, kind, form=(encoded, relay_state))


def _end_sessions(service: ServiceProvider, asked: LogoutRequest) -> Response:
    """End the sessions in a provider's LogoutRequest (saml-core 3.7.3.2) and send the LogoutResponse."""
    here = runtime()
    try:
        # Noted before the search: a login that completes meanwhile finds the note, or its session is found here.
        note_logout(here.state, service, asked, LONGEST_LOGIN)
        ended = here.sessions.end_saml(
            service.contact_center, asked.trust.name, asked.name_id.text, asked.session_indexes
        )
    except BackendUnavailable:
        asked.allow_resend(here.state)
        raise
    _report_ended(ended, asked.trust.name)
    login.forget_ended()
    outgoing = answer_to(service, asked)
    return _to_signed_out(service) if outgoing is None else _send(outgoing)


def _report_ended(ended: list[LoginSession], provider: str) -> None:
    app = current_application()
    for one in ended:
        events.logged_out(app, one)
    revoked = Counter((one.account_id, one.contact_center) for one in ended)
    for (account_id, contact_center), count in revoked.items():
        events.session_revoked(app, account_id, contact_center, count, by=f"the provider {provider!r}")


def _store_outcome(service: ServiceProvider, answered: LogoutResponse) -> Response:
    """Store the outcome for the browser that began the logout; this request may lack its cookie."""
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


def _read_outcome() -> None:
    """Copy the outcome of this browser's logout into its session, if the provider has answered."""
    reference = browser.logout
    if browser.signed_out != "asked" or reference is None:
        return
    # Without the state, the logout remains unconfirmed.
    with suppress(BackendUnavailable):
        outcome = runtime().state.get(_key(reference))
        if isinstance(outcome, str):
            browser.signed_out = "complete" if outcome == "success" else outcome
            browser.logout = None


def _logout_target(ended: LoginSession) -> tuple[ServiceProvider, Trust] | None:
    """Return the provider of a session, if it supports single logout for it."""
    service = runtime().saml.service_providers.get(ended.contact_center)
    provider = None if service is None else service.providers.get(ended.provider)
    if service is None or provider is None:
        return None
    trust = provider.current()
    return (service, trust) if can_log_out(service, trust, ended) else None


def _allow_form_to_provider(page: Response) -> Response:
    """Allow the page's form to be redirected to the provider: browsers check ``form-action`` for redirects."""
    opaque = login_session_id()
    found = runtime().sessions.resume(opaque, touch=False) if opaque else None
    target = None
    if isinstance(found, LoginSession):
        with suppress(MetadataUnavailable):
            target = _logout_target(found)
    if target is not None:
        addresses = (endpoint.location for endpoint in target[1].metadata.single_logout.values())
        page.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY.replace(
            "form-action 'self'", f"form-action 'self' {form_targets(*addresses)}"
        )
    return page


def _send(outgoing: Outgoing) -> Response:
    if outgoing.binding == "post":
        return post_form(outgoing.location, outgoing.fields, title=_TITLE)
    return private(make_response(redirect(outgoing.location, 303)))


def _to_signed_out(service: ServiceProvider) -> Response:
    return private(make_response(redirect(address_of("signed_out", service.contact_center), 303)))


def _key(reference: str) -> str:
    return f"saml-logout-outcome:{reference}"
