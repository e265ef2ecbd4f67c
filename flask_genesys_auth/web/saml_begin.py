"""Where a SAML login begins: which identity provider, from which of our hosts, and what the browser remembers of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from flask import Response, abort, make_response, redirect, render_template, request

from ..chain.outcomes import Decision, StepRecord
from ..saml.requests import begin_login
from . import events, refusals
from .addresses import local_path
from .browser import browser
from .runtime import runtime
from .saml_pages import address_of, kept, post_form, service_of, unseen

if TYPE_CHECKING:
    from ..saml.requests import BegunLogin
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import TrustedProvider

MOST_PENDING = 8
"""Logins that one browser may have begun at a time, in as many tabs; the oldest is forgotten first."""

_WISHES = ("next", "login_hint", "is_passive", "force_authn")
_MOVED = "moved"
_IN_A_QUERY = "%&=+/?:@!$'()*,;~-._"


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
    begun = kept(lambda: _begun(service, provider))
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
