"""The accounts in SQL: SQLite by default, any database that SQLAlchemy supports."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, select, update

from ..chain.outcomes import Identity
from ..chain.protocols import AccountState
from ..config.names import fold, lower_ascii
from ..state.database import Database
from .database import ACCOUNT, AccountDatabase, accounts, echoing, identities, to_account
from .management import AccountManagement
from .models import Account, AccountError, display_name_fits

_NAMED = (accounts.c.contact_center == bindparam("center"), accounts.c.user_key == bindparam("name"))
_BY_ID = echoing(select(*ACCOUNT).where(accounts.c.id == bindparam("id")), "id")
_BY_NAME = echoing(select(*ACCOUNT, accounts.c.user_key).where(*_NAMED), "center", "name")
_BY_IDENTITY = echoing(
    select(*ACCOUNT, identities.c.provider, identities.c.value)
    .join(identities, identities.c.account_id == accounts.c.id)
    .where(
        identities.c.contact_center == bindparam("center"),
        identities.c.provider == bindparam("provider"),
        identities.c.value == bindparam("value"),
    ),
    "center",
    "provider",
    "value",
)
_HASH = echoing(
    select(accounts.c.password_hash, accounts.c.contact_center, accounts.c.user_key).where(*_NAMED), "center", "name"
)
_REPLACE_HASH = (
    update(accounts).where(*_NAMED, accounts.c.password_hash == bindparam("old")).values(password_hash=bindparam("new"))
)


class SqlAccounts(AccountManagement):
    """Implements ``AccountStore`` and ``PasswordStore``; each read is one query, roles included.

    A built-in account has one name, which may be an e-mail address, as Genesys requires of ``userName``: an identity
    matched by e-mail is compared with it as well.

    :param url: a SQLAlchemy URL.
    :param timeout: seconds to wait for a free connection, for another writer, and (PostgreSQL) for each statement.
        With the driver psycopg, it holds even if the server hangs; psycopg2 may take two seconds and more.
    :param database: shared connections (default: the store's own).
    :raises ConfigurationError: if the URL cannot be used. The database is not contacted before its first use.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, database: Database | None = None) -> None:
        super().__init__(AccountDatabase(database or Database(url, timeout, setting="accounts_url"), timeout))

    def __repr__(self) -> str:
        return f"SqlAccounts({self._database.name!r})"

    @property
    def name(self) -> str:
        """Where the accounts are: a file, or a URL without user, password and query."""
        return self._database.name

    def find(self, identity: Identity) -> Account | None:
        """Return the account of this identity in its contact center, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        if identity.matched_by == "account_id":
            found = self.get(identity.subject)
            return found if found is not None and found.contact_center == identity.contact_center else None
        if identity.matched_by == "identity":
            wanted = (identity.contact_center, identity.provider, identity.subject)
            row = self._database.first(_BY_IDENTITY, dict(zip(("center", "provider", "value"), wanted, strict=True)))
            return (
                to_account(row) if row is not None and (row.contact_center, row.provider, row.value) == wanted else None
            )
        return self.get_by_name(identity.contact_center, identity.subject)

    def get(self, account_id: str) -> Account | None:
        """Return the account with this id, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        row = self._database.first(_BY_ID, {"id": account_id})
        # Some databases compare text loosely (MySQL: without accents); ids, names and linked values must be exact.
        return to_account(row) if row is not None and row.id == account_id else None

    def get_by_name(self, contact_center: str, user_name: str) -> Account | None:
        """Return the account with this user name in any case, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        row = self._first_named(_BY_NAME, contact_center, user_name)
        return None if row is None else to_account(row)

    def describe(self, user: Account) -> AccountState:
        """Return the state of this account that the chain needs."""
        return AccountState(
            account_id=user.id,
            enabled=user.enabled,
            roles=user.roles,
            contact_center=user.contact_center,
            version=user.version,
        )

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        """Return the PHC string of this account, or ``None`` without an account or a password.

        :raises AccountsUnavailable: if the database does not answer.
        """
        row = self._first_named(_HASH, contact_center, user_name)
        stored: str | None = None if row is None else row.password_hash
        return stored

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the account's hash is still ``old``; the account's version stays.

        :raises AccountsUnavailable: if the database does not answer.
        """
        named = {"center": contact_center, "name": fold(user_name)}
        with self._database.transaction() as connection:
            connection.execute(_REPLACE_HASH, {**named, "old": old, "new": new})

    def link_by_name(self, contact_center: str, user_name: str, provider: str, value: str) -> bool:
        """Link a value to the enabled account of this name without a value of this provider; tell whether it was.

        :param user_name: the account's own name; only the case of ASCII letters may differ.
        :raises AccountsUnavailable: if the database does not answer.
        """
        account = self.get_by_name(contact_center, user_name)
        if account is None or lower_ascii(account.user_name) != lower_ascii(user_name):
            return False
        try:
            return self.link_first(account.id, provider, value)
        except AccountError:
            return False

    def provision(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Create the account of this identity, linked to it and named by its subject; tell whether it was created.

        Nothing is created if the name or the linked value is taken or cannot be stored: no account is taken over.

        :raises AccountsUnavailable: if the database does not answer.
        """
        try:
            self.add(
                identity.contact_center,
                identity.subject,
                first_name=_display_name(identity, "first_name"),
                last_name=_display_name(identity, "last_name"),
                roles=roles,
                identities=[(identity.provider, identity.subject)],
            )
        except AccountError:
            return False
        return True

    def follow_roles(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Give the account of this identity exactly these roles; tell whether that changed anything.

        :raises AccountsUnavailable: if the database does not answer.
        """
        account = self.find(identity)
        if account is None or account.roles == roles:
            return False
        try:
            self.set_roles(account.id, roles)
        except AccountError:
            return False
        return True

    def close(self) -> None:
        """Close the connections; the store opens new ones at its next use."""
        self._database.close()

    def _first_named(self, statement: Select[Any], contact_center: str, user_name: str) -> Any:
        """Return the row of an account by its name, or ``None``; the statement selects center and name."""
        name = fold(user_name)
        row = self._database.first(statement, {"center": contact_center, "name": name})
        return row if row is not None and (row.contact_center, row.user_key) == (contact_center, name) else None


def _display_name(identity: Identity, attribute: str) -> str:
    """Return a first or last name; one that cannot be stored is left out, because it must not prevent a login."""
    found = identity.attributes.get(attribute, "")
    text = (found if isinstance(found, str) else " ".join(found)).strip()
    return text if display_name_fits(text) else ""
