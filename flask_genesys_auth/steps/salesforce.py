"""The first step: verifies a Salesforce session id at its identity URL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..chain.evidence import Malformed
from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected, Unavailable
from ..directories.salesforce import SalesforceDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.wrappers import Request

    from ..chain.evidence import Evidence
    from ..chain.protocols import Challenge, ContactCenter
    from ..checks import Check
    from ..config.settings import Salesforce
    from ..directories.salesforce import SalesforceUser
    from ..upstream import Upstream


class SalesforceStep:
    """Authenticates the user of a Salesforce session."""

    name = "salesforce"
    credentials = "salesforce"

    def __init__(self, settings: Salesforce, upstream: Upstream | None = None) -> None:
        self._match = settings.match
        self._directory = SalesforceDirectory(settings, upstream)
        self.reuse_verified_for = settings.reuse_verified_for

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Request the user of this session from the identity service."""
        sent = evidence.salesforce
        if sent is None:
            return NotApplicable(Reason.NO_EVIDENCE)
        if isinstance(sent, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS, sent.finding)
        found = self._directory.look_up(sent.session_id, sent.identity)
        if isinstance(found, (Rejected, Unavailable)):
            return found
        return self._identity(found, contact_center.name)

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer nothing: a page inside Salesforce sends the headers."""
        return None

    def checks(self) -> Iterator[Check]:
        """Yield whether the identity service can be reached."""
        return self._directory.checks()

    def _identity(self, user: SalesforceUser, contact_center: str) -> Outcome:
        identity = Identity(self.name, contact_center, user.username, user.attributes)
        if self._match == "identity":
            identity = replace(identity, subject=user.identity, matched_by="identity", provider=self.name)
        elif self._match == "email":
            if not user.email:
                return Rejected(Reason.EMAIL_NOT_VERIFIED, "the answer has no e-mail address that Salesforce verified")
            identity = replace(identity, subject=user.email, matched_by="email")
        elif not user.username:
            return Unavailable(Reason.UNREADABLE_ANSWER, detail="the answer has no username")
        return Authenticated(identity)
