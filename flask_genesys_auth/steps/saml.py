"""Offers the SAML login; its success is the login session that the assertion consumer service makes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ..chain.outcomes import NotApplicable, Reason
from ..chain.protocols import Challenge

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..chain.evidence import Evidence
    from ..chain.protocols import ContactCenter

_BROWSER_LOGIN = NotApplicable(Reason.BROWSER_LOGIN)
_IN_A_PATH = "/:@!$&'()*+,;=~-._"
_IN_A_QUERY = _IN_A_PATH + "%?"


def address_of(request: Request, query: bytes) -> str:
    """Return the path of a request as a browser would write it, with this query."""
    path = quote(f"{request.root_path}{request.path}", safe=_IN_A_PATH)
    return f"{path}?{quote(query, safe=_IN_A_QUERY)}" if query else path


def login_address(prefix: str, request: Request, contact_center: str, return_to: str = "") -> str:
    """Return where the SAML login of a contact center begins; where it has several providers, it asks for one.

    :param prefix: ``saml_url_prefix``.
    :param return_to: the path to which the browser comes back.
    """
    begin = f"{request.root_path}{prefix}/{quote(contact_center, safe='')}/login"
    return f"{begin}?next={quote(return_to, safe='')}" if return_to else begin


class SamlStep:
    """The last step; it never succeeds in mid-walk: a SAML login takes a browser (saml-profiles 4.1).

    :param prefix: ``saml_url_prefix``.
    """

    name = "saml"

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> NotApplicable:
        """Pass the request on: only a browser can log in here."""
        return _BROWSER_LOGIN

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Return where the SAML login of this contact center begins, to come back to this request's address."""
        if request.method not in {"GET", "HEAD"}:
            return Challenge(location=login_address(self._prefix, request, contact_center.name))
        wanted = address_of(request, request.query_string)
        return Challenge(location=login_address(self._prefix, request, contact_center.name, wanted))
