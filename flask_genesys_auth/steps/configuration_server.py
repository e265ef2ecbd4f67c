"""The second step: verifies Basic credentials with Configuration Server or its LDAP directory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..chain.evidence import BasicCredentials, Malformed
from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected, Unavailable
from ..config.names import fold_loosely
from .web_services import basic_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from werkzeug.wrappers import Request

    from ..chain.evidence import Evidence
    from ..chain.protocols import Challenge, ContactCenter, Directory, DirectoryEntry
    from ..checks import Check
    from ..config.settings import ConfigurationServer
    from ..limits import FailureLimit


class ConfigurationServerStep:
    """Authenticates a user whose password the contact center's directory accepts.

    :param enrol: called with each identity that the directory has proven, before its account is looked up.
    """

    name = "configuration_server"
    credentials = "basic"

    def __init__(
        self,
        settings: ConfigurationServer,
        directory: Directory,
        limit: FailureLimit,
        *,
        enrol: Callable[[Identity], None] | None = None,
    ) -> None:
        self._match = settings.match
        self._enrol = enrol
        self._directory = directory
        self._limit = limit
        self.reuse_verified_for = settings.reuse_verified_for

    def own_limit(self, evidence: Evidence, contact_center: ContactCenter) -> tuple[FailureLimit, str] | None:
        """Return the limit on failures that reach the directory, which locks accounts, and the key to count by."""
        sent = evidence.basic
        if not isinstance(sent, BasicCredentials) or not sent.password:
            return None
        # A name has no control characters, so the key is unambiguous. All spellings that a directory may read as one
        # name share its slots; otherwise each of them would allow as many failures on the same account.
        return self._limit, f"{contact_center.name}\n{fold_loosely(sent.name)}"

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Verify the user name and the password with the directory."""
        sent = evidence.basic
        if sent is None:
            return NotApplicable(Reason.NO_EVIDENCE)
        if isinstance(sent, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS, sent.finding)
        if not sent.password:
            # For LDAP, an empty password is an anonymous bind (RFC 4513 5.1.2), which succeeds.
            return Rejected(Reason.BAD_CREDENTIALS, "the password is empty")
        found = self._directory.verify(sent.name, sent.password)
        if isinstance(found, (Rejected, Unavailable)):
            return found
        outcome = self._identity(found, contact_center.name)
        if self._enrol is not None and isinstance(outcome, Authenticated) and not evidence.dry_run:
            self._enrol(outcome.identity)
        return outcome

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer Basic."""
        return basic_challenge(contact_center.name)

    def checks(self) -> Iterable[Check]:
        """Return the checks of the directory, if it has any."""
        checks = getattr(self._directory, "checks", None)
        return cast("Iterable[Check]", checks()) if callable(checks) else ()

    def _identity(self, entry: DirectoryEntry, contact_center: str) -> Authenticated | Rejected:
        subject = entry.attributes.get(self._match, "")
        if not subject:
            # The same rejection as for a missing account: another would show an attacker that the password is right.
            return Rejected(Reason.NO_ACCOUNT, f"the directory has no {self._match} for this user")
        attributes: dict[str, str | tuple[str, ...]] = dict(entry.attributes)
        if entry.groups:
            attributes["groups"] = entry.groups
        identity = Identity(self.name, contact_center, subject, attributes)
        if self._match == "identity":
            identity = replace(identity, matched_by="identity", provider=self.name)
        return Authenticated(identity)
