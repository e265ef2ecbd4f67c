"""The built-in account, as the application sees it: a value with Flask-Login's conventions."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from ..errors import GenesysAuthError


class AccountError(GenesysAuthError):
    """An account, or a change to one, that cannot be kept; the text says why."""


class AccountExists(AccountError):
    """The user name is taken in this contact center."""


class IdentityTaken(AccountError):
    """A linked value belongs to another account."""


class NoSuchAccount(AccountError):
    """There is no such account."""


def new_version() -> str:
    """Return a version that no account has had."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Account:
    """A person of one contact center.

    :param id: opaque text.
    :param contact_center: the table's name.
    :param user_name: as it was written when the account was made; compared after NFC and case folding.
    :param version: changes when the password does.
    """

    id: str
    contact_center: str
    user_name: str
    first_name: str = ""
    last_name: str = ""
    roles: frozenset[str] = frozenset()
    enabled: bool = True
    version: str = field(default="", repr=False)

    @property
    def is_authenticated(self) -> bool:
        """An account is somebody (Flask-Login)."""
        return True

    @property
    def is_anonymous(self) -> bool:
        """An account is somebody (Flask-Login)."""
        return False

    @property
    def is_active(self) -> bool:
        """Tell whether the account is enabled (Flask-Login)."""
        return self.enabled

    def get_id(self) -> str:
        """Return the account's id (Flask-Login)."""
        return self.id


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """An account with what only an administrator sees.

    :param identities: linked values, as (provider, value).
    """

    account: Account
    has_password: bool
    identities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that is to be made.

    :param password_hash: a PHC string, or ``None`` for an account without a password.
    :param identities: linked values, as (provider, value).
    """

    contact_center: str
    user_name: str
    first_name: str = ""
    last_name: str = ""
    roles: frozenset[str] = frozenset()
    enabled: bool = True
    password_hash: str | None = field(default=None, repr=False)
    identities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """Names and linked values that accounts have already.

    :param names: as (contact center, folded user name).
    :param identities: as (contact center, provider, value).
    """

    names: frozenset[tuple[str, str]]
    identities: frozenset[tuple[str, str, str]]
