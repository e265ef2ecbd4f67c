"""Offers the SAML login; its success is the login session that the assertion consumer service makes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ..chain.decision import NotApplicable, Outcome, Reason
from ..chain.ports import Challenge

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..chain.contact_centers import ContactCenter
    from ..chain.evidence import Evidence


class SamlStep:
    """The last step; it never succeeds in mid-walk.

    :param prefix: ``saml_url_prefix``.
    """

    name = "saml"

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Hand over: a SAML login takes a browser (saml-profiles 4.1)."""
        return NotApplicable(Reason.BROWSER_LOGIN)

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Return where the SAML login of this contact center begins, to come back to this request's address."""
        begin = f"{request.root_path}{self._prefix}/{contact_center.name}/login"
        if request.method not in {"GET", "HEAD"}:
            return Challenge(location=begin)
        wanted = request.root_path + request.full_path.removesuffix("?")
        return Challenge(location=f"{begin}?next={quote(wanted, safe='')}")
