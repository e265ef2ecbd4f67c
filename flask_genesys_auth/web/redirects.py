"""Where a browser is sent: back to paths of this host only, and to the SAML login for ``?authType=saml``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import make_response, redirect, request

from ..steps.saml import address_of, login_address
from . import refusals
from .runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request, Response

    from ..chain.outcomes import Decision
    from .runtime import Runtime

SAML_REQUESTED = "authType=saml"
"""A parameter of any page's link that says how the user is to log in (Genesys Web Services)."""
_SAML = "genesys_saml."
_LONGEST = 2048


def local_path(address: str | None) -> str:
    """Return the address if it is a path of this host to which a browser may come back, else the front page.

    For ``next`` parameters of an application's own login page too. Browsers read a backslash as a slash and skip tabs
    and line breaks: an address with one of those is not kept.

    :param address: as it came from outside.
    """
    front = f"{request.root_path}/"
    if not address or not address.startswith("/") or address.startswith("//") or len(address) > _LONGEST:
        return front
    if "\\" in address or not address.isprintable():
        return front
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return front
    # Coming back to where a login begins would begin it again, for ever.
    if parts.path.startswith(f"{request.root_path}{runtime().settings.saml_url_prefix}/"):
        return front
    return address


def to_saml_login(here: Runtime, sent: Request, decide: Callable[[], Decision]) -> Response | None:
    """Send a browser that asks for it to the SAML login of its contact center, then to the page without asking.

    Only a navigation by GET to an endpoint that exists is meant, and only where the contact center has SAML;
    everything else goes on as if the parameter were not there. A user with a SAML session goes to the page at once.

    :param decide: returns the decision of the request.
    """
    # Without a rule it is a 404, a 405 or a redirect of Flask's.
    if sent.method != "GET" or sent.url_rule is None or sent.url_rule.endpoint.startswith(_SAML):
        return None
    if not refusals.is_navigation():
        return None
    pieces = sent.environ["QUERY_STRING"].split("&")
    rest = [piece for piece in pieces if piece != SAML_REQUESTED]
    if len(rest) == len(pieces):
        return None
    decision = decide()
    contact_center = decision.contact_center
    if contact_center is None or contact_center not in here.saml.service_providers:
        return None
    location = local_path(address_of(sent, "&".join(rest).encode("latin-1")))
    if decision.authenticated_by != "saml":
        location = login_address(here.settings.saml_url_prefix, sent, contact_center, location)
    return refusals.no_store(make_response(redirect(location, 302)))
