"""Shared by the SAML endpoints: service provider lookup, forms, pages and refusals."""

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
"""Seconds until the one-time code of a login expires."""
TICKET_LIFETIME = 300
"""Seconds until the user must have confirmed an unsolicited login."""

_LARGEST_FORM = 512 * 1024
"""Bytes: twice the largest message, because of escapes and line breaks."""
_MOST_FIELDS = 8
"""Parsing time grows with the number of fields: without a bound, one request could use much CPU time."""
_FORM = "application/x-www-form-urlencoded"


def service_of(contact_center: str) -> ServiceProvider:
    """Return the service provider of a contact center, or abort with 404 if it has no SAML."""
    found = runtime().saml.service_providers.get(contact_center)
    return found if found is not None else abort(404)


def address_of(name: str, contact_center: str, **query: Any) -> str:
    """Return the path of a SAML endpoint such as ``login``."""
    return url_for(f"{ENDPOINTS}.{name}", contact_center=contact_center, **query)


def posted(*names: str) -> tuple[str, str, str]:
    """Return the message and ``RelayState`` of a form in the POST binding (saml-bindings 3.5.4), bounded in size.

    :param names: the allowed message fields: ``SAMLResponse``, ``SAMLRequest``.
    :returns: the field's name, the message, and RelayState or an empty string.
    :raises SamlError: if a field is missing or repeated.
    """
    request.max_content_length = request.max_form_memory_size = _LARGEST_FORM
    if request.mimetype != _FORM:
        raise SamlError(Fault.MALFORMED, f"the content type is {request.mimetype or 'missing'}, not {_FORM}")
    try:
        if request.get_data(cache=True).count(b"&") >= _MOST_FIELDS:
            raise SamlError(Fault.TOO_LARGE, f"the form has more than {_MOST_FIELDS} fields")
        fields = {field: request.form.getlist(field) for field in (*names, "RelayState")}
    except RequestEntityTooLarge as error:
        raise SamlError(Fault.TOO_LARGE, f"the form has more than {_LARGEST_FORM} bytes") from error
    except HTTPException as error:
        raise SamlError(Fault.MALFORMED, "the form cannot be parsed") from error
    relay_states = fields.pop("RelayState")
    found = [(name, value) for name, values in fields.items() for value in values]
    if len(found) != 1 or len(relay_states) > 1:
        wanted = " or ".join(names)
        raise SamlError(Fault.MALFORMED, f"the form must have exactly one {wanted} and at most one RelayState")
    return *found[0], "".join(relay_states)


def post_form(action: str, fields: Mapping[str, str], *, title: str) -> Response:
    """Return a page whose form submits itself, or has a button if there is no JavaScript.

    :param action: a URL of the provider, from its metadata.
    :param fields: the hidden fields by name.
    :param title: the name of the title's text.
    """
    page = render_template("genesys_auth/post.html", action=action, fields=fields, title=runtime().texts.text(title))
    answer = refusals.no_store(make_response(page))
    answer.headers["Content-Security-Policy"] = refusals.CONTENT_SECURITY_POLICY.replace(
        "form-action 'self'", f"script-src 'self'; form-action {form_targets(action)}"
    )
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def form_targets(*addresses: str) -> str:
    """Return the URL schemes for ``form-action`` of a form that is sent to these addresses.

    Browsers check ``form-action`` for each redirect as well, including the one back to us.
    """
    known = (*addresses, *runtime().origins.own.values())
    return "http: https:" if any(address.startswith("http:") for address in known) else "https:"


def refused(service: ServiceProvider, error: SamlError, *, leaving: bool = False) -> Response:
    """Log a refused message with its reason, and return the page with the reference of the log record.

    The client never sees the reason.

    :param leaving: the message belongs to a logout.
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
        return private(refusals.refusal_page(400, "saml_logout_failed", reference=reference))
    # With force_authn: otherwise the provider would return the same, possibly wrong, user again.
    retry_url = address_of("login", service.contact_center, force_authn="true")
    return private(refusals.refusal_page(400, "saml_failed", reference=reference, login_url=retry_url))


def private(answer: Response) -> Response:
    """Forbid caching, and keep the URL, which may hold a code, out of ``Referer``."""
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
