"""New accounts: what one may hold, and its row."""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from ..chain.evidence import MAX_USER_NAME, Malformed, read_credentials
from ..config.names import fold
from .models import NewAccount, new_version
from .passwords import is_argon2

MAX_NAME = 255
MAX_CONTACT_CENTER = 100
MAX_ROLE = 100
MAX_PROVIDER = 100
MAX_VALUE = 512


def to_row(new: NewAccount) -> dict[str, Any]:
    """Return the row of a new account, with an id and a version of its own."""
    return {
        "id": uuid.uuid4().hex,
        "contact_center": new.contact_center,
        "user_key": fold(new.user_name),
        "user_name": unicodedata.normalize("NFC", new.user_name),
        "first_name": new.first_name,
        "last_name": new.last_name,
        "roles": roles_text(new.roles),
        "enabled": new.enabled,
        "version": new_version(),
        "password_hash": new.password_hash,
    }


def roles_text(roles: Iterable[str]) -> str:
    """Return how roles are kept: a JSON array, sorted."""
    return json.dumps(sorted(roles))


def problems(new: NewAccount) -> Iterator[tuple[str, str]]:
    """Find what cannot be kept: the field, and what is wrong with it, without a secret."""
    if not _is_text(new.contact_center, MAX_CONTACT_CENTER):
        yield "contact_center", f"must be 1 to {MAX_CONTACT_CENTER} visible characters"
    yield from _name_problems(new.user_name)
    for field in ("first_name", "last_name"):
        if not display_name_fits(getattr(new, field)):
            yield field, f"must be at most {MAX_NAME} visible characters"
    yield from role_problems(new.roles)
    yield from hash_problems(new.password_hash)
    for provider, value in new.identities:
        yield from identity_problems(provider, value)


def display_name_fits(name: str) -> bool:
    """Tell whether a first or last name can be kept; none at all can."""
    return not name or _is_text(name, MAX_NAME)


def hash_problems(password_hash: str | None) -> Iterator[tuple[str, str]]:
    """Find a password hash that no password could match."""
    if password_hash is not None and not is_argon2(password_hash):
        yield "password_hash", "is not an argon2id hash in PHC form ($argon2id$v=19$m=...)"


def role_problems(roles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find roles that are no names."""
    for role in roles:
        if not _is_text(role, MAX_ROLE) or "," in role or " " in role:
            yield "roles", f"a role is 1 to {MAX_ROLE} visible characters without a comma or a blank"


def identity_problems(provider: str, value: str) -> Iterator[tuple[str, str]]:
    """Find what is wrong with a linked value."""
    if not _is_text(provider, MAX_PROVIDER):
        yield "identities", f"a provider's name is 1 to {MAX_PROVIDER} visible characters"
    if not _is_text(value, MAX_VALUE):
        yield "identities", f"a linked value is 1 to {MAX_VALUE} visible characters"


def password_problem(password: str) -> str | None:
    """Return why a password could never be sent in a Basic header, or ``None`` (RFC 7617 2)."""
    read = read_credentials("name", ":", password)
    if isinstance(read, Malformed):
        return "has control characters or is too long"
    return None if password else "is empty"


def _name_problems(user_name: str) -> Iterator[tuple[str, str]]:
    if not _is_text(user_name, MAX_USER_NAME) or len(fold(user_name)) > MAX_USER_NAME:
        yield "user_name", f"must be 1 to {MAX_USER_NAME} visible characters"
    elif ":" in user_name or "\\" in user_name:
        # RFC 7617 2: the first colon ends the name. What stands before a backslash is a realm.
        yield "user_name", "has a colon or a backslash, so no Basic header could name it"


def _is_text(value: str, most: int) -> bool:
    """Tell whether a value has characters, not too many, no spaces around them, and no controls among them."""
    if not value or len(value) > most or value != value.strip():
        return False
    return all(unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"} for character in value)
