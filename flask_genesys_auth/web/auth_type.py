"""``?authType=saml``: a link to any page that says how the user is to log in (Genesys Web Services)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import make_response, redirect

from ..steps.saml import address_of, login_address
from . import refusals
from .addresses import local_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request, Response

    from ..chain.outcomes import Decision
    from .runtime import Runtime

ASKED = "authType=saml"
_SAML = "genesys_saml."


def answer(here: Runtime, sent: Request, decide: Callable[[], Decision]) -> Response | None:
    """Send a browser that asks for it to the SAML login of its contact center, then to the page without asking.

    Only a navigation by GET to an endpoint that exists is meant, and only where the contact center has SAML;
    everything else goes on as if the parameter were not there. A user with a SAML session goes to the page at once.

    :param decide: returns the decision of the request.
    """
    if sent.method != "GET" or not _is_page(sent) or not refusals.is_navigation():
        return None
    pieces = sent.environ["QUERY_STRING"].split("&")
    rest = [piece for piece in pieces if piece != ASKED]
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


def _is_page(sent: Request) -> bool:
    # Without a rule it is a 404, a 405 or a redirect of Flask's.
    return sent.url_rule is not None and not sent.url_rule.endpoint.startswith(_SAML)
