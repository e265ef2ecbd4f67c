"""The fourth step: resumes a login session that SAML or a login form has created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..chain.evidence import Evidence
    from ..chain.protocols import Challenge, ContactCenter


class LoginSessionStep:
    """Authenticates the user of a login session; the walk skips it after explicit credentials have failed."""

    name = "login_session"
    resumes = True

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Resume the browser's login session if it belongs to this contact center."""
        session = evidence.resume()
        if session is None:
            return NotApplicable(Reason.NO_EVIDENCE)
        if isinstance(session, Rejected):
            return session
        if session.contact_center != contact_center.name:
            return NotApplicable(Reason.OTHER_CONTACT_CENTER)
        return Authenticated(
            Identity(session.step, contact_center.name, subject=session.account_id, matched_by="account_id")
        )

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer nothing: other steps create the session."""
        return None
