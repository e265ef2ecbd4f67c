"""The built-in account as the application sees it, and what a new account may hold."""

from __future__ import annotations

import json
import secrets
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..chain.evidence import MAX_USER_NAME, Malformed, read_credentials
from ..config.names import fold
from ..errors import GenesysAuthError
from .passwords import is_argon2

MAX_NAME = 255
MAX_CONTACT_CENTER = 100
MAX_ROLE = 100
MAX_PROVIDER = 100
MAX_VALUE = 512


class AccountError(GenesysAuthError):
    """An account or a change that cannot be stored; the text says why."""


class AccountExists(AccountError):
    """The user name is taken in this contact center."""


class IdentityTaken(AccountError):
    """A linked value belongs to another account."""


class NoSuchAccount(AccountError):
    """There is no account with this id."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of one contact center.

    :param id: opaque text.
    :param contact_center: the table's name.
    :param user_name: as written when the account was created; compared after NFC and case folding.
    :param version: changes with the password.
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
        """Always true (Flask-Login)."""
        return True

    @property
    def is_anonymous(self) -> bool:
        """Always false (Flask-Login)."""
        return False

    @property
    def is_active(self) -> bool:
        """Return whether the account is enabled (Flask-Login)."""
        return self.enabled

    def get_id(self) -> str:
        """Return the account's id (Flask-Login)."""
        return self.id


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """An account with the values that only administrators see.

    :param identities: linked values, as (provider, value).
    """

    account: Account
    has_password: bool
    identities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be created.

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

    def to_account(self) -> Account:
        """Return the account with a new id and a new version."""
        return Account(
            id=uuid.uuid4().hex,
            contact_center=self.contact_center,
            user_name=unicodedata.normalize("NFC", self.user_name),
            first_name=self.first_name,
            last_name=self.last_name,
            roles=self.roles,
            enabled=self.enabled,
            version=new_version(),
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each field that cannot be stored, and why; never a secret."""
        if not _is_text(self.contact_center, MAX_CONTACT_CENTER):
            yield "contact_center", f"must be 1 to {MAX_CONTACT_CENTER} visible characters"
        if not _is_text(self.user_name, MAX_USER_NAME) or len(fold(self.user_name)) > MAX_USER_NAME:
            yield "user_name", f"must be 1 to {MAX_USER_NAME} visible characters"
        elif ":" in self.user_name or "\\" in self.user_name:
            # The first colon ends the name (RFC 7617 2), and the part before a backslash is a realm.
            yield "user_name", "must not contain a colon or a backslash, because a Basic header could not name it"
        for name, value in (("first_name", self.first_name), ("last_name", self.last_name)):
            if not display_name_fits(value):
                yield name, f"must be at most {MAX_NAME} visible characters"
        yield from role_problems(self.roles)
        yield from hash_problems(self.password_hash)
        for provider, value in self.identities:
            yield from identity_problems(provider, value)


@dataclass(frozen=True, slots=True)
class Taken:
    """Names and linked values of existing accounts.

    :param names: as (contact center, folded user name).
    :param identities: as (contact center, provider, value).
    """

    names: frozenset[tuple[str, str]]
    identities: frozenset[tuple[str, str, str]]


def new_version() -> str:
    """Return a version that no account has had."""
    return secrets.token_hex(16)


def roles_text(roles: Iterable[str]) -> str:
    """Return roles as they are stored: a JSON array, sorted."""
    return json.dumps(sorted(roles))


def display_name_fits(name: str) -> bool:
    """Return whether a first or last name can be stored; it may be empty."""
    return not name or _is_text(name, MAX_NAME)


def hash_problems(password_hash: str | None) -> Iterator[tuple[str, str]]:
    """Yield a problem if no password could match this hash."""
    if password_hash is not None and not is_argon2(password_hash):
        yield "password_hash", "is not an argon2id hash in PHC form ($argon2id$v=19$m=...)"


def role_problems(roles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a problem for each role that is not a valid name."""
    for role in roles:
        if not _is_text(role, MAX_ROLE) or "," in role or " " in role:
            yield "roles", f"a role must be 1 to {MAX_ROLE} visible characters without comma or space"


def identity_problems(provider: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the problems of a linked value."""
    if not _is_text(provider, MAX_PROVIDER):
        yield "identities", f"a provider's name must be 1 to {MAX_PROVIDER} visible characters"
    if not _is_text(value, MAX_VALUE):
        yield "identities", f"a linked value must be 1 to {MAX_VALUE} visible characters"


def password_problem(password: str) -> str | None:
    """Return why no Basic header could carry a password (RFC 7617 2), or ``None``."""
    if isinstance(read_credentials("name", ":", password), Malformed):
        return "has control characters or is too long"
    return None if password else "is empty"


def _is_text(value: str, most: int) -> bool:
    """Return whether a value is not empty and not too long, without surrounding spaces and control characters."""
    if not value or len(value) > most or value != value.strip():
        return False
    return all(unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"} for character in value)


def to_row(account: Account, password_hash: str | None) -> dict[str, Any]:
    """Return the row of an account."""
    return {
        "id": account.id,
        "contact_center": account.contact_center,
        "user_key": fold(account.user_name),
        "user_name": account.user_name,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "roles": roles_text(account.roles),
        "enabled": account.enabled,
        "version": account.version,
        "password_hash": password_hash,
    }
