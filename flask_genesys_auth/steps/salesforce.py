"""The first step: a Salesforce session id and the identity URL it is shown to."""

from __future__ import annotations

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
    """Proves the user that Salesforce's identity service vouches for.

    :param settings: of this contact center.
    :param upstream: the HTTP client; default: one of its own.
    """

    name = "salesforce"
    credentials = "salesforce"

    def __init__(self, settings: Salesforce, upstream: Upstream | None = None) -> None:
        self._settings = settings
        self._directory = SalesforceDirectory(settings, upstream)
        self.reuse_verified_for = settings.reuse_verified_for

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Ask the identity service whose session it is; what it says must be equal here and there."""
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
        """Offer nothing: the headers come from a page inside Salesforce."""
        return None

    def checks(self) -> Iterator[Check]:
        """Yield whether the identity service can be reached."""
        return self._directory.checks()

    def _identity(self, user: SalesforceUser, contact_center: str) -> Outcome:
        if self._settings.match == "identity":
            return Authenticated(
                Identity(
                    step=self.name,
                    contact_center=contact_center,
                    subject=user.identity,
                    attributes=user.attributes,
                    matched_by="identity",
                    provider=self.name,
                )
            )
        if self._settings.match == "email":
            if not user.email:
                return Rejected(Reason.EMAIL_NOT_VERIFIED, "the answer has no e-mail address that Salesforce verified")
            return Authenticated(
                Identity(self.name, contact_center, user.email, attributes=user.attributes, matched_by="email")
            )
        if not user.username:
            return Unavailable(Reason.UNREADABLE_ANSWER, detail="the answer names no username")
        return Authenticated(Identity(self.name, contact_center, user.username, attributes=user.attributes))
