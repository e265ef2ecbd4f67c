"""The last step: offers the SAML login, which ends in a login session (see ``web/saml_views.py``)."""

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
    """Return the path of a request as a browser writes it, with this query."""
    path = quote(f"{request.root_path}{request.path}", safe=_IN_A_PATH)
    return f"{path}?{quote(query, safe=_IN_A_QUERY)}" if query else path


def login_address(prefix: str, request: Request, contact_center: str, return_to: str = "") -> str:
    """Return the address at which the SAML login of a contact center begins.

    :param return_to: the path to which the browser returns after the login.
    """
    begin = f"{request.root_path}{prefix}/{quote(contact_center, safe='')}/login"
    return f"{begin}?next={quote(return_to, safe='')}" if return_to else begin


class SamlStep:
    """Never succeeds within a walk: a SAML login takes several requests of a browser (saml-profiles 4.1)."""

    name = "saml"

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> NotApplicable:
        """Return ``NotApplicable``."""
        return _BROWSER_LOGIN

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer the SAML login, which returns to the address of this request if its method is GET or HEAD."""
        return_to = address_of(request, request.query_string) if request.method in {"GET", "HEAD"} else ""
        return Challenge(location=login_address(self._prefix, request, contact_center.name, return_to))
