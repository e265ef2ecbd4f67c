"""Verifies a Basic header against the passwords of the accounts here."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..accounts.passwords import ForeignHashes
from ..chain.evidence import BasicCredentials, Malformed
from ..chain.outcomes import Authenticated, Identity, NotApplicable, Outcome, Reason, Rejected
from ..errors import AccountsUnavailable, HasherBusy
from ..events import Event, log_event
from .basic import basic_challenge

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..accounts.passwords import PasswordHasher
    from ..chain.evidence import Evidence
    from ..chain.protocols import Challenge, ContactCenter, PasswordStore
    from ..config.settings import PasswordSettings


class WebServicesStep:
    """The third step: the account is our own (Genesys, "Web Services authentication flow").

    An unknown user, an account without a password and a wrong password are one refusal after the same work;
    whether the account is enabled is looked at later, when the walk settles the identity.

    :param passwords: where the hashes are. One that has :class:`~flask_genesys_auth.accounts.passwords.ForeignHashes`
        as ``foreign_hashes`` keeps another format than ours, which is verified as it says and never re-hashed.
    :param hasher: verifies, and bounds how many hashes run at once.
    :param settings: for how long a good password may be remembered.
    """

    name = "web_services"
    credentials = "basic"
    needs_version = True
    """The password is the account's own: without ``AccountState.version`` a success is not remembered."""

    def __init__(self, passwords: PasswordStore, hasher: PasswordHasher, settings: PasswordSettings) -> None:
        self._passwords = passwords
        self._hasher = hasher
        self._foreign: ForeignHashes | None = getattr(passwords, "foreign_hashes", None)
        self.reuse_verified_for = settings.reuse_verified_for

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Verify the name and the password of the Basic header.

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
            stored = self._renew(contact_center.name, basic.name, stored, basic.password)
        identity = Identity(step=self.name, contact_center=contact_center.name, subject=basic.name)
        return Authenticated(identity, _digest(stored))

    def still_holds(self, evidence: Evidence, contact_center: ContactCenter, proven: Authenticated) -> bool:
        """Tell whether the password is that of the account now; it is verified again only if the hash has changed.

        :raises AccountsUnavailable: if the hashes cannot be read.
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

    def _renew(self, contact_center: str, name: str, stored: str, password: str) -> str:
        """Hash anew where the parameters have changed; the login stands whether or not that works out.

        :returns: the hash that should be stored now.
        """
        if self._foreign is not None or not self._hasher.needs_rehash(stored):
            return stored
        try:
            renewed = self._hasher.hash(password)
            self._passwords.replace_password_hash(contact_center, name, stored, renewed)
        except (AccountsUnavailable, HasherBusy) as error:
            log_event(
                Event.PASSWORD_HASH_NOT_RENEWED,
                step=self.name,
                contact_center=contact_center,
                account=name,
                detail=f"a password could not be hashed anew: {error}",
            )
            return stored
        return renewed


def _digest(stored: str | None) -> str:
    """Return a digest of a stored hash; the hash itself stays in the step."""
    return "" if stored is None else hashlib.sha256(stored.encode("utf-8", "surrogatepass")).hexdigest()
