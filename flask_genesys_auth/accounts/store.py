"""The accounts in SQL: SQLite by default, any database that SQLAlchemy knows."""

from __future__ import annotations

from sqlalchemy import bindparam, select, update

from ..chain.outcomes import Identity
from ..chain.protocols import AccountState
from ..config.names import fold, lower_ascii
from ..state.database import Database
from .database import ACCOUNT, AccountDatabase, accounts, echoing, identities, to_account
from .management import AccountManagement
from .models import Account, AccountError
from .rows import display_name_fits

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

    Our own accounts have one name, which is an e-mail address where the contact center follows Genesys' rule
    (``userName`` is an e-mail address): an identity matched by e-mail is compared with it too.

    :param url: a SQLAlchemy address.
    :param timeout: seconds to wait for a free connection, for another writer, and (PostgreSQL) for each statement.
        With the driver psycopg they hold against a server that hangs; psycopg2 may take two seconds and more.
    :param database: the connections, where they are shared (default: the store's own).
    :raises ConfigurationError: if the address cannot be used. Whether the database answers is seen at its first use.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, database: Database | None = None) -> None:
        super().__init__(AccountDatabase(database or Database(url, timeout, setting="accounts_url"), timeout))

    def __repr__(self) -> str:
        return f"SqlAccounts({self._database.name!r})"

    @property
    def name(self) -> str:
        """Where the accounts are: a file, or an address without user, password and query."""
        return self._database.name

    def find(self, identity: Identity) -> Account | None:
        """Return the account that this identity is in its contact center, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        if identity.matched_by == "account_id":
            found = self.get(identity.subject)
            return found if found is not None and found.contact_center == identity.contact_center else None
        if identity.matched_by == "identity":
            return self._find_linked(identity)
        return self.get_by_name(identity.contact_center, identity.subject)

    def get(self, account_id: str) -> Account | None:
        """Return the account of this id, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        row = self._database.first(_BY_ID, {"id": account_id})
        # Some databases compare text loosely (MySQL: without accents); ids, names and linked values never are.
        return to_account(row) if row is not None and row.id == account_id else None

    def get_by_name(self, contact_center: str, user_name: str) -> Account | None:
        """Return the account of this user name, whatever its case, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        name = fold(user_name)
        row = self._database.first(_BY_NAME, {"center": contact_center, "name": name})
        if row is None or (row.contact_center, row.user_key) != (contact_center, name):
            return None
        return to_account(row)

    def describe(self, user: Account) -> AccountState:
        """Return what the chain must know of this account."""
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
        name = fold(user_name)
        row = self._database.first(_HASH, {"center": contact_center, "name": name})
        if row is None or (row.contact_center, row.user_key) != (contact_center, name):
            return None
        stored: str | None = row.password_hash
        return stored

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the account's hash is still ``old``; the account's version stays.

        :raises AccountsUnavailable: if the database does not answer.
        """
        named = {"center": contact_center, "name": fold(user_name)}
        with self._database.transaction() as connection:
            connection.execute(_REPLACE_HASH, {**named, "old": old, "new": new})

    def link_by_name(self, contact_center: str, user_name: str, provider: str, value: str) -> bool:
        """Link a value to the enabled account of this name that has none of this provider yet; tell whether it was.

        :param user_name: the account's own name, character for character but for the case of ASCII letters.
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
        """Make the account of this identity, linked to it and named by its subject; tell whether it was made.

        Nothing is made where the name or the linked value is taken, or cannot be kept: nobody's account is taken over.

        :raises AccountsUnavailable: if the database does not answer.
        """
        try:
            self.add(
                identity.contact_center,
                identity.subject,
                first_name=_text(identity, "first_name"),
                last_name=_text(identity, "last_name"),
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
        """Let go of connections; the store opens them anew when it is used again."""
        self._database.close()

    def _find_linked(self, identity: Identity) -> Account | None:
        row = self._database.first(
            _BY_IDENTITY,
            {"center": identity.contact_center, "provider": identity.provider, "value": identity.subject},
        )
        wanted = (identity.contact_center, identity.provider, identity.subject)
        if row is None or (row.contact_center, row.provider, row.value) != wanted:
            return None
        return to_account(row)


def _text(identity: Identity, name: str) -> str:
    """Return a name for display; what no account can keep is left out, for nobody is kept out because of it."""
    found = identity.attributes.get(name, "")
    text = (found if isinstance(found, str) else " ".join(found)).strip()
    return text if display_name_fits(text) else ""
