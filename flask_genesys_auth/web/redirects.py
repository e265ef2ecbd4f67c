"""Redirects: back to paths of this host only, and to the SAML login for ``?authType=saml``."""

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
"""A query parameter of any page that requires a login by SAML (Genesys Web Services)."""
_SAML = "genesys_saml."
_LONGEST = 2048


def local_path(address: str | None) -> str:
    """Return the address if it is a safe path of this host, else the path of the front page.

    Use it for the ``next`` parameter of your own login page too. Browsers read a backslash as a slash and skip tabs
    and line breaks, so an address with one of these is not safe.

    :param address: an untrusted address.
    """
    front = f"{request.root_path}/"
    if not address or not address.startswith("/") or address.startswith("//") or len(address) > _LONGEST:
        return front
    if "\\" in address or not address.isprintable():
        return front
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return front
    # A return to the SAML endpoints would begin the login again, in a loop.
    if parts.path.startswith(f"{request.root_path}{runtime().settings.saml_url_prefix}/"):
        return front
    return address


def to_saml_login(here: Runtime, sent: Request, decide: Callable[[], Decision]) -> Response | None:
    """Redirect a request with the parameter to the SAML login, or without it if the user has a SAML session.

    The parameter counts only in a GET navigation to an existing endpoint of a contact center with SAML; otherwise
    it is ignored.

    :param decide: returns the decision of the request.
    """
    # Without a rule, Flask answers 404, 405 or a redirect.
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
