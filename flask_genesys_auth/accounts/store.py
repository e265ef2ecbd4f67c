"""The accounts in SQL: SQLite by default, any database that SQLAlchemy supports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..chain.outcomes import Identity
from ..chain.protocols import AccountState
from ..checks import SLOW, Check
from ..config.names import fold, lower_ascii
from ..state.database import Database
from ..state.values import batches
from .database import ACCOUNT, AccountDatabase, accounts, database_checks, echoing, identities, storable, to_account
from .models import (
    Account,
    AccountDetails,
    AccountError,
    AccountExists,
    IdentityTaken,
    NewAccount,
    NoSuchAccount,
    Taken,
    display_name_fits,
    hash_problems,
    identity_problems,
    new_version,
    role_problems,
    roles_text,
    to_row,
)

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


class SqlAccounts:
    """Implements ``AccountStore``, ``PasswordStore`` and ``EnrollingStore``, and the changes of administrators.

    Each read of the chain is one query, roles included; each change is one transaction. Every method raises
    ``AccountsUnavailable`` if the database does not answer.

    A built-in account has one name, which may be an e-mail address, as Genesys requires of ``userName``: an identity
    matched by e-mail is compared with it as well.

    :param url: a SQLAlchemy URL.
    :param timeout: seconds to wait for a free connection, for another writer, and (PostgreSQL) for each statement.
        With the driver psycopg, it holds even if the server hangs; psycopg2 may take two seconds and more.
    :param database: shared connections (default: the store's own).
    :raises ConfigurationError: if the URL cannot be used. The database is not contacted before its first use.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, database: Database | None = None) -> None:
        self._database = AccountDatabase(database or Database(url, timeout, setting="accounts_url"), timeout)
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"SqlAccounts({self._database.name!r})"

    @property
    def name(self) -> str:
        """Where the accounts are: a file, or a URL without user, password and query."""
        return self._database.name

    def find(self, identity: Identity) -> Account | None:
        """Return the account of this identity in its contact center, or ``None``."""
        if identity.matched_by == "account_id":
            found = self.get(identity.subject)
            return found if found is not None and found.contact_center == identity.contact_center else None
        if identity.matched_by == "identity":
            wanted = {"center": identity.contact_center, "provider": identity.provider, "value": identity.subject}
            row = self._database.first(_BY_IDENTITY, wanted)
            same = row is not None and (row.contact_center, row.provider, row.value) == tuple(wanted.values())
            return to_account(row) if same else None
        return self.get_by_name(identity.contact_center, identity.subject)

    def get(self, account_id: str) -> Account | None:
        """Return the account with this id, or ``None``."""
        row = self._database.first(_BY_ID, {"id": account_id})
        # Some databases compare text loosely (MySQL: without accents); ids, names and linked values must be exact.
        return to_account(row) if row is not None and row.id == account_id else None

    def get_by_name(self, contact_center: str, user_name: str) -> Account | None:
        """Return the account with this user name in any case, or ``None``."""
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
        """Return the PHC string of this account, or ``None`` without an account or a password."""
        row = self._first_named(_HASH, contact_center, user_name)
        stored: str | None = None if row is None else row.password_hash
        return stored

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the account's hash is still ``old``; the account's version stays."""
        named = {"center": contact_center, "name": fold(user_name)}
        with self._database.transaction() as connection:
            connection.execute(_REPLACE_HASH, {**named, "old": old, "new": new})

    def link_by_name(self, contact_center: str, user_name: str, provider: str, value: str) -> bool:
        """Link a value to the enabled account of this name without a value of this provider; return whether it was.

        :param user_name: the account's own name; only the case of ASCII letters may differ.
        """
        account = self.get_by_name(contact_center, user_name)
        if account is None or lower_ascii(account.user_name) != lower_ascii(user_name):
            return False
        try:
            return self.link_first(account.id, provider, value)
        except AccountError:
            return False

    def provision(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Create the account of this identity, linked to it and named by its subject; return whether it was created.

        Nothing is created if the name or the linked value is taken or cannot be stored: no account is taken over.
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
        """Give the account of this identity exactly these roles; return whether that changed anything."""
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

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call a listener after every change to an account that this process makes, or may have made."""
        self._listeners.append(listener)

    def create_tables(self) -> None:
        """Create missing tables, and SQLite's file with its parents."""
        self._database.create_tables()

    def check_tables(self) -> None:
        """Check that the tables exist.

        :raises ConfigurationError: if not; names the command that creates them.
        """
        self._database.check_tables()

    def count(self) -> dict[str, int]:
        """Return the number of accounts of each contact center that has any."""
        wanted = select(accounts.c.contact_center, func.count()).group_by(accounts.c.contact_center)
        with self._database.transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(wanted)}

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield the health checks of the database, its tables and its file.

        :param slow: seconds from which an answer is too slow.
        """
        return database_checks(self._database, slow=slow)

    def list(self, contact_center: str | None = None) -> Sequence[Account]:
        """Return all accounts, or those of one contact center, by contact center and name."""
        wanted = select(*ACCOUNT).order_by(accounts.c.contact_center, accounts.c.user_key)
        if contact_center is not None:
            wanted = wanted.where(accounts.c.contact_center == contact_center)
        with self._database.transaction() as connection:
            return [to_account(row) for row in connection.execute(wanted)]

    def details(self, account_id: str) -> AccountDetails:
        """Return an account with the values that only administrators see.

        :raises NoSuchAccount: if there is none.
        """
        wanted = select(*ACCOUNT, accounts.c.password_hash).where(accounts.c.id == account_id)
        linked = (
            select(identities.c.provider, identities.c.value)
            .where(identities.c.account_id == account_id)
            .order_by(identities.c.provider, identities.c.value)
        )
        with self._database.transaction() as connection:
            row = connection.execute(wanted).first()
            if row is None:
                raise NoSuchAccount("this account does not exist")
            known = tuple((one[0], one[1]) for one in connection.execute(linked))
        return AccountDetails(to_account(row), has_password=row[-1] is not None, identities=known)

    def add(
        self,
        contact_center: str,
        user_name: str,
        *,
        first_name: str = "",
        last_name: str = "",
        roles: Iterable[str] = (),
        enabled: bool = True,
        password_hash: str | None = None,
        identities: Iterable[tuple[str, str]] = (),
    ) -> Account:
        """Create an account.

        :param password_hash: of :meth:`~flask_genesys_auth.accounts.passwords.PasswordHasher.hash`; none, no password.
        :param identities: linked values, as (provider, value).
        :raises AccountExists: if the name is taken in this contact center.
        :raises IdentityTaken: if one of the linked values is taken.
        :raises AccountError: if a value cannot be stored.
        """
        new = NewAccount(
            contact_center,
            user_name,
            first_name,
            last_name,
            frozenset(roles),
            enabled,
            password_hash,
            tuple(identities),
        )
        return self.import_rows([new])[0]

    def import_rows(self, new: Iterable[NewAccount]) -> Sequence[Account]:
        """Create all of these accounts, or none.

        :raises AccountExists: if a name is taken; names it.
        :raises IdentityTaken: if a linked value is taken.
        :raises AccountError: if a value cannot be stored.
        """
        wanted = [*new]
        for one in wanted:
            _refuse(one.problems())
        try:
            with self._changing() as connection:
                return [account for batch in batches(wanted) for account in _insert(connection, batch)]
        except IntegrityError:
            raise self._collision(wanted) from None

    def taken(self, new: Sequence[NewAccount]) -> Taken:
        """Return which names and linked values of these accounts exist already.

        Values that cannot be stored are left out.
        """
        names: dict[str, set[str]] = {}
        linked: dict[tuple[str, str], set[str]] = {}
        for one in new:
            if storable(one.contact_center + one.user_name):
                names.setdefault(one.contact_center, set()).add(fold(one.user_name))
            for provider, value in one.identities:
                if storable(one.contact_center + provider + value):
                    linked.setdefault((one.contact_center, provider), set()).add(value)
        with self._database.transaction() as connection:
            return Taken(
                frozenset(_taken_names(connection, names)),
                frozenset(_taken_identities(connection, linked)),
            )

    def _collision(self, new: Sequence[NewAccount]) -> AccountError:
        """Return which of these accounts has a taken name or linked value."""
        taken = self.taken(new)
        for one in new:
            if (one.contact_center, fold(one.user_name)) in taken.names:
                return AccountExists(f"{one.contact_center} already has an account {one.user_name!r}")
            for provider, value in one.identities:
                if (one.contact_center, provider, value) in taken.identities:
                    return IdentityTaken(f"another account is linked to {provider}={value}")
        return AccountExists("two of the new accounts have the same name or the same linked value")

    def set_password(self, account_id: str, password_hash: str | None) -> None:
        """Replace or remove an account's password; its version changes.

        Cached verifications of the old password end. Login sessions belong to the state and do not end: the caller
        ends them (:meth:`~flask_genesys_auth.GenesysAuth.revoke`), as ``accounts set-password`` does.

        :raises NoSuchAccount: if there is none.
        :raises AccountError: if the hash is not an argon2id hash.
        """
        _refuse(hash_problems(password_hash))
        self._change(account_id, password_hash=password_hash, version=new_version())

    def set_enabled(self, account_id: str, enabled: bool) -> None:
        """Enable or disable an account.

        :raises NoSuchAccount: if there is none.
        """
        self._change(account_id, enabled=enabled)

    def set_roles(self, account_id: str, roles: Iterable[str]) -> None:
        """Give an account exactly these roles.

        :raises NoSuchAccount: if there is none.
        :raises AccountError: if one is not a valid role.
        """
        wanted = frozenset(roles)
        _refuse(role_problems(wanted))
        self._change(account_id, roles=roles_text(wanted))

    def link(self, account_id: str, provider: str, value: str) -> None:
        """Link a provider's value for this user to the account; linking it again changes nothing.

        :raises NoSuchAccount: if there is no such account.
        :raises IdentityTaken: if another account of the contact center is linked to the value.
        :raises AccountError: if the value cannot be stored.
        """
        _refuse(identity_problems(provider, value))
        try:
            with self._changing() as connection:
                center = _contact_center(connection, account_id)
                if center is None:
                    raise NoSuchAccount("this account does not exist")
                if _owner(connection, center, provider, value) != account_id:
                    connection.execute(insert(identities), _identity_row(center, provider, value, account_id))
        except IntegrityError:
            raise IdentityTaken(f"another account is linked to {provider}={value}") from None

    def link_first(self, account_id: str, provider: str, value: str) -> bool:
        """Link a value to an enabled account without a value of this provider; return whether it was linked.

        If two logins claim one account at the same time, one of them gets it.

        :raises AccountError: if the value cannot be stored.
        """
        _refuse(identity_problems(provider, value))
        claim = update(accounts).where(accounts.c.id == account_id, accounts.c.enabled).values(id=account_id)
        known = select(identities.c.value).where(
            identities.c.account_id == account_id, identities.c.provider == provider
        )
        try:
            with self._changing() as connection:
                # The write comes first: every other claim of this account waits for it.
                if not connection.execute(claim).rowcount or connection.execute(known).first() is not None:
                    return False
                center = str(_contact_center(connection, account_id))
                connection.execute(insert(identities), _identity_row(center, provider, value, account_id))
        except IntegrityError:
            return False
        return True

    def unlink(self, account_id: str, provider: str, value: str) -> bool:
        """Remove a linked value; return whether it existed."""
        gone = delete(identities).where(
            identities.c.account_id == account_id, identities.c.provider == provider, identities.c.value == value
        )
        with self._changing() as connection:
            return connection.execute(gone).rowcount > 0

    def delete(self, account_id: str) -> bool:
        """Delete an account with its linked values; return whether it existed."""
        with self._changing() as connection:
            connection.execute(delete(identities).where(identities.c.account_id == account_id))
            return connection.execute(delete(accounts).where(accounts.c.id == account_id)).rowcount > 0

    def _first_named(self, statement: Select[Any], contact_center: str, user_name: str) -> Any:
        """Return the row of an account by its name, or ``None``; the statement selects center and name."""
        name = fold(user_name)
        row = self._database.first(statement, {"center": contact_center, "name": name})
        return row if row is not None and (row.contact_center, row.user_key) == (contact_center, name) else None

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        finally:
            # Also after an error: without an answer, the change may have happened.
            for listener in self._listeners:
                listener()

    def _change(self, account_id: str, **values: Any) -> None:
        with self._changing() as connection:
            changed = connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values)).rowcount
        if not changed:
            raise NoSuchAccount("this account does not exist")


def _display_name(identity: Identity, attribute: str) -> str:
    """Return a first or last name; one that cannot be stored is left out, because it must not prevent a login."""
    found = identity.attributes.get(attribute, "")
    text = (found if isinstance(found, str) else " ".join(found)).strip()
    return text if display_name_fits(text) else ""


def _contact_center(connection: Connection, account_id: str) -> str | None:
    center: str | None = connection.execute(
        select(accounts.c.contact_center).where(accounts.c.id == account_id)
    ).scalar()
    return center


def _owner(connection: Connection, center: str, provider: str, value: str) -> str | None:
    owner: str | None = connection.execute(
        select(identities.c.account_id).where(
            identities.c.contact_center == center, identities.c.provider == provider, identities.c.value == value
        )
    ).scalar()
    return owner


def _identity_row(center: str, provider: str, value: str, account_id: str) -> dict[str, str]:
    return {"contact_center": center, "provider": provider, "value": value, "account_id": account_id}


def _taken_names(connection: Connection, names: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    for center, keys in names.items():
        for part in batches(sorted(keys)):
            found = select(accounts.c.user_key).where(
                accounts.c.contact_center == center, accounts.c.user_key.in_(part)
            )
            yield from ((center, row[0]) for row in connection.execute(found))


def _taken_identities(
    connection: Connection, linked: Mapping[tuple[str, str], set[str]]
) -> Iterator[tuple[str, str, str]]:
    for (center, provider), values in linked.items():
        for part in batches(sorted(values)):
            found = select(identities.c.value).where(
                identities.c.contact_center == center,
                identities.c.provider == provider,
                identities.c.value.in_(part),
            )
            yield from ((center, provider, row[0]) for row in connection.execute(found))


def _insert(connection: Connection, new: Sequence[NewAccount]) -> list[Account]:
    created = [one.to_account() for one in new]
    rows = [to_row(account, one.password_hash) for account, one in zip(created, new, strict=True)]
    connection.execute(insert(accounts), rows)
    linked = [
        _identity_row(account.contact_center, provider, value, account.id)
        for account, one in zip(created, new, strict=True)
        for provider, value in one.identities
    ]
    for batch in batches(linked):
        connection.execute(insert(identities), batch)
    return created


def _refuse(problems: Iterator[tuple[str, str]]) -> None:
    for field, problem in problems:
        raise AccountError(f"{field}: {problem}")
