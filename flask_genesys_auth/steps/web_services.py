"""The third step: verifies Basic credentials against the passwords of our own accounts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..accounts.passwords import ForeignHashes
from ..chain.evidence import BasicCredentials, Malformed
from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected
from ..chain.protocols import Challenge
from ..errors import AccountsUnavailable, HasherBusy
from ..events import Event, log_event

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..accounts.passwords import PasswordHasher
    from ..chain.evidence import Evidence
    from ..chain.protocols import ContactCenter, PasswordStore
    from ..config.settings import PasswordSettings


def basic_challenge(realm: str) -> Challenge:
    """Return the Basic challenge in UTF-8 (RFC 7617 2 and 2.1).

    :param realm: the text that the client shows; characters that no quoted-string (RFC 9110 5.6.4) or no header can
        have are removed.
    """
    shown = "".join(character for character in realm if " " <= character <= "~")
    quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
    return Challenge(scheme=f'Basic realm="{quoted}", charset="UTF-8"')


class WebServicesStep:
    """Authenticates a user of the account store (Genesys, "Web Services authentication flow").

    An unknown user, an account without a password and a wrong password get the same rejection after the same work.
    The walk checks later whether the account is enabled.

    :param passwords: stores the hashes. With :class:`~flask_genesys_auth.accounts.passwords.ForeignHashes` as
        ``foreign_hashes``, it has another format than ours and verifies the hashes itself; these are never re-hashed.
    """

    name = "web_services"
    credentials = "basic"
    needs_version = True
    """The password belongs to the account: without ``AccountState.version``, a success is not cached."""

    def __init__(self, passwords: PasswordStore, hasher: PasswordHasher, settings: PasswordSettings) -> None:
        self._passwords = passwords
        self._hasher = hasher
        self._foreign: ForeignHashes | None = getattr(passwords, "foreign_hashes", None)
        self.reuse_verified_for = settings.reuse_verified_for

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Verify the user name and the password.

        :raises AccountsUnavailable: if the hashes cannot be read.
        :raises HasherBusy: if too many passwords are being hashed.
        """
        basic = evidence.basic
        if basic is None:
            return NotApplicable()
        if isinstance(basic, Malformed):
            return Rejected(Reason.MALFORMED_CREDENTIALS, basic.finding)
        stored = self._passwords.password_hash(contact_center.name, basic.name)
        if not self._verify(stored, basic.password):
            return Rejected(Reason.BAD_CREDENTIALS)
        if stored is not None and not evidence.dry_run:
            stored = self._rehash(contact_center.name, basic.name, stored, basic.password)
        identity = Identity(step=self.name, contact_center=contact_center.name, subject=basic.name)
        return Authenticated(identity, _digest(stored))

    def still_holds(self, evidence: Evidence, contact_center: ContactCenter, proven: Authenticated) -> bool:
        """Return whether the password is still that of the account; verify it again only if the hash has changed.

        :raises AccountsUnavailable: if the account store does not answer.
        :raises HasherBusy: if too many passwords are being hashed.
        """
        basic = evidence.basic
        if not isinstance(basic, BasicCredentials):
            return False
        stored = self._passwords.password_hash(contact_center.name, basic.name)
        return _digest(stored) == proven.proof or self._verify(stored, basic.password)

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer Basic."""
        return basic_challenge(contact_center.name)

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._foreign is None:
            return self._hasher.verify(stored, password)
        with self._hasher.slot():
            return self._foreign.check(stored, password)

    def _rehash(self, contact_center: str, name: str, stored: str, password: str) -> str:
        """Hash the password again if the parameters have changed; return the hash that is stored now.

        If that fails, the login succeeds all the same.
        """
        if self._foreign is not None or not self._hasher.needs_rehash(stored):
            return stored
        try:
            new = self._hasher.hash(password)
            self._passwords.replace_password_hash(contact_center, name, stored, new)
        except (AccountsUnavailable, HasherBusy) as error:
            log_event(
                Event.PASSWORD_HASH_NOT_RENEWED,
                step=self.name,
                contact_center=contact_center,
                account=name,
                detail=f"the password could not be hashed with the new parameters: {error}",
            )
            return stored
        return new


def _digest(stored: str | None) -> str:
    """Return a digest of the stored hash, so that the hash itself does not leave the step."""
    return "" if stored is None else hashlib.sha256(stored.encode("utf-8", "surrogatepass")).hexdigest()
