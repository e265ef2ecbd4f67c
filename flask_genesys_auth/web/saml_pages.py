"""What all SAML addresses share: their service provider, their forms, their pages and their refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, abort, make_response, render_template, request, url_for
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ..events import Event, log_event
from ..saml.errors import Fault, SamlError
from . import events, refusals
from .runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..saml.service_provider import ServiceProvider

ENDPOINTS = "genesys_saml"
CODE_LIFETIME = 60
"""Seconds within which the browser must bring the one-time code back."""
TICKET_LIFETIME = 300
"""Seconds within which the user must say whether they want a login that nobody here has asked for."""

_LARGEST_FORM = 512 * 1024
"""Bytes: twice the largest message, which leaves room for escapes and line breaks."""
_MOST_FIELDS = 8
"""Reading a form takes as long as it has fields: who sends many would have a tenth of a second of ours for each."""
_FORM = "application/x-www-form-urlencoded"


def service_of(contact_center: str) -> ServiceProvider:
    """Return the service provider that this contact center is; without SAML its addresses do not exist (404)."""
    found = runtime().saml.service_providers.get(contact_center)
    return found if found is not None else abort(404)


def address_of(name: str, contact_center: str, **query: Any) -> str:
    """Return the path of a SAML address, such as ``login``."""
    return url_for(f"{ENDPOINTS}.{name}", contact_center=contact_center, **query)


def posted(*names: str) -> tuple[str, str, str]:
    """Return a message and its ``RelayState`` as the POST binding brings them (saml-bindings 3.5.4), bounded.

    :param names: the fields that it may be in: ``SAMLResponse``, ``SAMLRequest``.
    :returns: the field's name, the message, RelayState or nothing.
    :raises SamlError: if they are not there, or not once.
    """
    request.max_content_length = request.max_form_memory_size = _LARGEST_FORM
    if request.mimetype != _FORM:
        raise SamlError(Fault.MALFORMED, f"the request is {request.mimetype or 'of no type'}, not {_FORM}")
    try:
        if request.get_data(cache=True).count(b"&") >= _MOST_FIELDS:
            raise SamlError(Fault.TOO_LARGE, f"the form has more than {_MOST_FIELDS} fields")
        fields = {field: request.form.getlist(field) for field in (*names, "RelayState")}
    except RequestEntityTooLarge as error:
        raise SamlError(Fault.TOO_LARGE, f"the form has more than {_LARGEST_FORM} bytes") from error
    except HTTPException as error:
        raise SamlError(Fault.MALFORMED, "the form cannot be read") from error
    relay_states = fields.pop("RelayState")
    found = [(name, value) for name, values in fields.items() for value in values]
    if len(found) != 1 or len(relay_states) > 1:
        wanted = " or ".join(names)
        raise SamlError(Fault.MALFORMED, f"the form has not exactly one {wanted} and at most one RelayState")
    return *found[0], "".join(relay_states)


def post_form(action: str, fields: Mapping[str, str], *, title: str) -> Response:
    """Return the page that posts these fields on by itself, or by its button where there is no JavaScript.

    :param action: an address of the provider's, from its metadata.
    :param fields: the hidden fields by name.
    :param title: the name of the text that is its title.
    """
    page = render_template("genesys_auth/post.html", action=action, fields=fields, title=runtime().texts.text(title))
    answer = refusals.no_store(make_response(page))
    answer.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY.replace(
        "form-action 'self'", f"script-src 'self'; form-action {form_targets(action)}"
    )
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def form_targets(*addresses: str) -> str:
    """Return the schemes of all addresses that a form may come by on its way to these.

    Browsers check ``form-action`` along the provider's redirects too, back to us among them.
    """
    known = (*addresses, *runtime().origins.own.values())
    return "http: https:" if any(address.startswith("http:") for address in known) else "https:"


def refused(service: ServiceProvider, error: SamlError, *, leaving: bool = False) -> Response:
    """Log the reason, which nobody outside learns, under a reference that they can quote.

    :param leaving: the message was about logging out.
    """
    address = events.client_address()
    reference = runtime().saml.failures.note(service.contact_center, error, address=address, leaving=leaving)
    log_event(
        Event.SAML_LOGOUT_REFUSED if leaving else Event.SAML_REFUSED,
        step="saml",
        outcome="rejected",
        reason=str(error.reason),
        contact_center=service.contact_center,
        address=address,
        detail=error.detail,
        provider=error.provider,
        reference=reference,
    )
    if leaving:
        return unseen(refusals.refusal_page(400, "saml_logout_failed", reference=reference))
    # Anew: whom the provider remembers may be the wrong person, who would come back for ever.
    again = address_of("login", service.contact_center, force_authn="true")
    return unseen(refusals.refusal_page(400, "saml_failed", reference=reference, login_url=again))


def unseen(answer: Response) -> Response:
    """Keep an answer out of caches, and its address, which may carry a code, out of ``Referer``."""
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
