"""Where a SAML login ends: in the browser that began it, or in one whose user says that this is what they want."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException

from ..accounts.enrolment import enrol
from ..chain.outcomes import Authenticated, Decision, Identity
from ..saml.documents import as_instant
from ..saml.errors import Fault, SamlError
from ..saml.logout import check_not_logged_out
from ..saml.requests import keep_proven, reference_of, take_proven
from . import login, refusals
from .browser import browser
from .runtime import runtime
from .saml_pages import address_of, kept, refused, service_of, unseen

if TYPE_CHECKING:
    from ..chain.walk import Settled
    from ..saml.requests import Kind, Login, PendingLogin, Proven
    from ..saml.service_provider import ServiceProvider

TICKET_LIFETIME = 300
"""Seconds within which the user must say whether they want a login that nobody here has asked for."""

_LARGEST_FORM = 4096


def complete(contact_center: str) -> Response:
    """``GET complete?code=``: log in the browser that began the login, and no other; ``POST``: whose user agrees."""
    service = service_of(contact_center)
    if request.method == "POST":
        _check_own_page(service.contact_center)
    try:
        if request.method == "POST":
            return _logged_in(service, kept(lambda: _redeemed(service, _ticket(), "ticket")))
        proven: Proven = kept(lambda: _redeemed(service, request.args.get("code", ""), "code"))
        if proven.pending is None:
            return _question(service, proven)
        _check_browser(proven.pending)
        return _logged_in(service, proven)
    except SamlError as error:
        # A provider is named once it has proven something.
        error.asked = bool(error.provider)
        return refused(service, error)


def _check_own_page(contact_center: str) -> None:
    """Refuse what does not come from a page of this contact center.

    :raises ForeignOrigin: if it does not.
    """
    if not runtime().origins.is_own_page(request, contact_center):
        raise refusals.ForeignOrigin(Decision(contact_center))


def _question(service: ServiceProvider, proven: Proven) -> Response:
    """Ask the user: whoever sent this browser here may have had an account of their own in mind (login CSRF)."""
    ticket = kept(lambda: keep_proven(runtime().state, proven, TICKET_LIFETIME, "ticket"))
    page = render_template(
        "genesys_auth/continue.html",
        action=address_of("complete", service.contact_center),
        ticket=ticket,
        name=proven.login.subject,
        provider=proven.login.provider,
    )
    return refusals.no_store(make_response(page))


def _ticket() -> str:
    request.max_content_length = request.max_form_memory_size = _LARGEST_FORM
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
    kept(lambda: enrol(here.accounts, identity, provider.settings))
    settled: Settled = kept(lambda: here.chain.settle(Authenticated(identity)))
    if settled.user is None:
        reason = getattr(settled.outcome, "reason", "")
        detail = f"{reason}: {proven.subject!r} of {proven.provider}"
        raise SamlError(Fault.ACCOUNT, detail, provider=proven.provider)
    return settled
