"""The addresses of SAML: where a login begins, where the provider's answer arrives, where the browser ends it.

The provider's answer is posted from another site, so that no ``SameSite=Lax`` cookie comes with it and none is
needed: the assertion consumer service verifies the message, keeps the result under a one-time code and sends the
browser to ``complete`` on the same site, where its cookie shows that it is the browser that began the login.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, make_response, redirect, request
from werkzeug.exceptions import MethodNotAllowed

from ..saml.errors import SamlError, StatusRefused
from ..saml.requests import Proven, keep_proven
from ..saml.response import consume, declined
from . import access
from .addresses import local_path
from .browser import keep_session_of_browser
from .refusals import CONTENT_SECURITY_POLICY
from .runtime import runtime
from .saml_begin import begin, choose
from .saml_complete import complete
from .saml_logout import log_out, signed_out, slo
from .saml_pages import CODE_LIFETIME, ENDPOINTS, kept, posted, refused, service_of, unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..saml.service_provider import ServiceProvider

_FROM_ELSEWHERE = frozenset({"acs", "slo"})
"""Addresses to which a provider's site sends the browser, so that its cookie may stay behind."""
_TAKING = frozenset({"login", "complete", "slo"})
"""Addresses at which a GET changes something."""


def create_blueprint(prefix: str) -> Blueprint:
    """Return the blueprint of the SAML addresses; none of them asks for a login, each has its own proof.

    :param prefix: ``saml_url_prefix``.
    """
    blueprint = Blueprint(ENDPOINTS, __name__, url_prefix=prefix)
    rules: tuple[tuple[str, Callable[[str], Any], list[str]], ...] = (
        ("login", begin, ["GET"]),
        ("acs", receive, ["POST"]),
        ("choose", choose, ["GET"]),
        ("complete", complete, ["GET", "POST"]),
        ("metadata", metadata, ["GET"]),
        ("logout", log_out, ["GET", "POST"]),
        ("signed-out", signed_out, ["GET"]),
        ("slo", slo, ["GET", "POST"]),
    )
    for name, view, methods in rules:
        kept_view = _not_in_passing(view, methods) if name in _TAKING else view
        blueprint.add_url_rule(
            f"/<contact_center>/{name}",
            endpoint=name.replace("-", "_"),
            view_func=_without_session(kept_view) if name in _FROM_ELSEWHERE else kept_view,
            methods=methods,
        )
    blueprint.after_app_request(functools.partial(_guarded, f"{prefix}/"))
    return access.unprotected(blueprint)


def _guarded(prefix: str, answer: Response) -> Response:
    """Let errors that Werkzeug has written (404, 405) refuse framing too."""
    ours = request.blueprint == ENDPOINTS or (request.routing_exception is not None and request.path.startswith(prefix))
    if ours and answer.status_code >= 400 and "Content-Security-Policy" not in answer.headers:
        answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


def _not_in_passing(view: Callable[[str], Any], methods: list[str]) -> Callable[[str], Any]:
    """Keep a look ahead (HEAD, which Flask answers like GET) from beginning a login or using anything up."""

    @functools.wraps(view)
    def checked(contact_center: str) -> Any:
        if request.method not in methods:
            raise MethodNotAllowed(valid_methods=methods)
        return view(contact_center)

    return checked


def _without_session(view: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep an answer to a request without the browser's session from putting an empty one in its place.

    Applications touch the session of every request (``session.permanent = True``), and the browser takes the cookie.
    """

    @functools.wraps(view)
    def checked(contact_center: str) -> Any:
        keep_session_of_browser()
        return view(contact_center)

    return checked


def receive(contact_center: str) -> Response:
    """``POST acs``: verify the provider's answer and hand the browser a one-time code (saml-profiles 4.1.4.5)."""
    service = service_of(contact_center)
    try:
        _, encoded, relay_state = posted("SAMLResponse")
        location: str = kept(lambda: _next_address(service, encoded, relay_state))
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


def metadata(contact_center: str) -> Response:
    """``GET metadata``: what the identity provider must know of us."""
    return Response(service_of(contact_center).metadata_xml(), mimetype="application/samlmetadata+xml")
