"""The second step: a user name and a password that Configuration Server is asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..chain.evidence import BasicCredentials, Malformed
from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected, Unavailable
from ..config.names import fold_loosely
from .basic import basic_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from werkzeug.wrappers import Request

    from ..chain.evidence import Evidence
    from ..chain.protocols import Challenge, ContactCenter, Directory, DirectoryEntry
    from ..checks import Check
    from ..config.settings import ConfigurationServer
    from ..limits import FailureLimit


class ConfigurationServerStep:
    """Proves the user whose password the contact center's directory finds good.

    :param settings: of this contact center.
    :param directory: whom to ask.
    :param limiter: of ``configuration_server.max_failures``.
    :param enrol: is told of each identity that the directory has just proven, before its account is looked up.
    """

    name = "configuration_server"
    credentials = "basic"

    def __init__(
        self,
        settings: ConfigurationServer,
        directory: Directory,
        limiter: FailureLimit,
        *,
        enrol: Callable[[Identity], None] | None = None,
    ) -> None:
        self._settings = settings
        self._enrol = enrol
        self._directory = directory
        self._limiter = limiter
        self.reuse_verified_for = settings.reuse_verified_for

    def own_limit(self, evidence: Evidence, contact_center: ContactCenter) -> tuple[FailureLimit, str] | None:
        """Return the limit of failures that may reach Genesys, which locks accounts, and what is counted by it."""
        sent = evidence.basic
        if not isinstance(sent, BasicCredentials) or not sent.password:
            return None
        # No control character can stand in a name, so the key is unambiguous. All spellings that a directory may read
        # as one name share its failures, or each of them would be allowed as many on the same account.
        return self._limiter, f"{contact_center.name}\n{fold_loosely(sent.name)}"

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Ask the directory."""
        sent = evidence.basic
        if sent is None:
            return NotApplicable(Reason.NO_EVIDENCE)
        if isinstance(sent, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS, sent.finding)
        if not sent.password:
            # LDAP behind a directory takes an empty password as an anonymous bind (RFC 4513 5.1.2), which succeeds.
            return Rejected(Reason.BAD_CREDENTIALS, "the password is empty")
        found = self._directory.verify(sent.name, sent.password)
        if isinstance(found, (Rejected, Unavailable)):
            return found
        outcome = self._identity(found, contact_center.name)
        if self._enrol is not None and isinstance(outcome, Authenticated) and not evidence.dry_run:
            self._enrol(outcome.identity)
        return outcome

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer Basic, as the Web Services step does."""
        return basic_challenge(contact_center.name)

    def checks(self) -> Iterable[Check]:
        """Return what the directory says of itself, if it says anything."""
        look = getattr(self._directory, "checks", None)
        return cast("Iterable[Check]", look()) if callable(look) else ()

    def _identity(self, entry: DirectoryEntry, contact_center: str) -> Authenticated | Rejected:
        match = self._settings.match
        subject = entry.attributes.get(match, "")
        if not subject:
            # As with an account that is missing here: another answer would tell a guesser that the password is good.
            return Rejected(Reason.NO_ACCOUNT, f"the directory knows no {match} of this person")
        attributes: dict[str, str | tuple[str, ...]] = dict(entry.attributes)
        if entry.groups:
            attributes["groups"] = entry.groups
        if match == "identity":
            return Authenticated(
                Identity(self.name, contact_center, subject, attributes, matched_by="identity", provider=self.name)
            )
        return Authenticated(Identity(self.name, contact_center, subject, attributes))
