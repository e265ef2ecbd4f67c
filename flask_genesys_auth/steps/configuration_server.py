"""The second step: a user name and a password that Configuration Server is asked about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from ..chain.decision import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected, Unavailable
from ..chain.evidence import Malformed
from ..config.names import fold_loosely
from .basic import basic_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from werkzeug.wrappers import Request

    from ..chain.contact_centers import ContactCenter
    from ..chain.evidence import BasicCredentials, Evidence
    from ..chain.ports import Challenge, Directory, DirectoryEntry, Reservation
    from ..checks import Check
    from ..config.settings import ConfigurationServer


class Limiter(Protocol):
    """What bounds the failures that may reach Genesys, which locks accounts."""

    def reserve(self, key: str) -> Reservation | Unavailable:
        """Take a slot for this key, or say that it has none left."""
        ...

    def look(self, key: str) -> Unavailable | None:
        """Tell whether it has none left, and take none."""
        ...


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
        limiter: Limiter,
        *,
        enrol: Callable[[Identity], None] | None = None,
    ) -> None:
        self._settings = settings
        self._enrol = enrol
        self._directory = directory
        self._limiter = limiter
        self.reuse_verified_for = settings.reuse_verified_for

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Take a slot, then ask the directory; a slot that is not returned counts as a failure."""
        sent = evidence.basic
        if sent is None:
            return NotApplicable(Reason.NO_EVIDENCE)
        if isinstance(sent, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS, sent.finding)
        if not sent.password:
            # LDAP behind a directory takes an empty password as an anonymous bind (RFC 4513 5.1.2), which succeeds.
            return Rejected(Reason.BAD_CREDENTIALS, "the password is empty")
        # No control character can stand in a name, so the key is unambiguous. All spellings that a directory may read
        # as one name share its failures, or each of them would be allowed as many on the same account.
        key = f"{contact_center.name}\n{fold_loosely(sent.name)}"
        if evidence.dry_run:
            return self._look(key) or self._ask(sent, contact_center.name)
        slot = self._limiter.reserve(key)
        if isinstance(slot, Unavailable):
            return slot
        outcome = self._ask(sent, contact_center.name)
        if isinstance(outcome, Authenticated):
            # The walk returns it once there is an account: a good password of somebody disabled here is a failure.
            evidence.held[self.name] = slot
            if self._enrol is not None:
                self._enrol(outcome.identity)
        elif isinstance(outcome, Unavailable) and (outcome.uncounted or outcome.reason is Reason.UNREACHABLE):
            # After an outage nobody shall be locked out for having tried during it.
            slot.void()
        return outcome

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer Basic, as the Web Services step does."""
        return basic_challenge(contact_center.name)

    def checks(self) -> Iterable[Check]:
        """Return what the directory says of itself, if it says anything."""
        look = getattr(self._directory, "checks", None)
        return cast("Iterable[Check]", look()) if callable(look) else ()

    def _look(self, key: str) -> Unavailable | None:
        found = self._limiter.look(key)
        if found is None or found.reason is not Reason.THROTTLED:
            return found
        detail = f"over configuration_server.max_failures ({self._settings.max_failures}): the directory is not asked"
        return replace(found, detail=detail)

    def _ask(self, sent: BasicCredentials, contact_center: str) -> Authenticated | Rejected | Unavailable:
        found = self._directory.verify(sent.name, sent.password)
        return found if isinstance(found, (Rejected, Unavailable)) else self._identity(found, contact_center)

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
