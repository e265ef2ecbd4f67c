"""What an administrator does to accounts: each change is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..checks import SLOW, Check
from ..config.names import fold
from ..state.values import batches
from . import rows
from .database import ACCOUNT, AccountDatabase, accounts, identities, storable, to_account
from .health import database_checks
from .models import (
    Account,
    AccountDetails,
    AccountError,
    AccountExists,
    IdentityTaken,
    NewAccount,
    NoSuchAccount,
    Taken,
    new_version,
)


class AccountManagement:
    """The changes and lists of an account store; all raise ``AccountsUnavailable`` if the database does not answer.

    :param database: where the tables are.
    """

    def __init__(self, database: AccountDatabase) -> None:
        self._database = database
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this after every change to an account that this process makes, or may have made."""
        self._listeners.append(listener)

    def create_tables(self) -> None:
        """Make the tables, and SQLite's file with its parents, where they are missing."""
        self._database.create_tables()

    def check_tables(self) -> None:
        """Look whether the tables are there.

        :raises ConfigurationError: if not; names the command that makes them.
        """
        self._database.check_tables()

    def count(self) -> dict[str, int]:
        """Return how many accounts each contact center has, of those that have any."""
        wanted = select(accounts.c.contact_center, func.count()).group_by(accounts.c.contact_center)
        with self._database.transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(wanted)}

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield whether the database answers in less than ``slow`` seconds, its tables, and who may read its file."""
        return database_checks(self._database, slow=slow)

    def list(self, contact_center: str | None = None) -> Sequence[Account]:
        """Return all accounts, or those of one contact center, by contact center and name."""
        wanted = select(*ACCOUNT).order_by(accounts.c.contact_center, accounts.c.user_key)
        if contact_center is not None:
            wanted = wanted.where(accounts.c.contact_center == contact_center)
        with self._database.transaction() as connection:
            return [to_account(row) for row in connection.execute(wanted)]

    def details(self, account_id: str) -> AccountDetails:
        """Return an account with what only an administrator sees.

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
                raise NoSuchAccount("there is no such account")
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
        """Make an account.

        :param password_hash: of :meth:`~flask_genesys_auth.accounts.passwords.PasswordHasher.hash`; none, no password.
        :param identities: linked values, as (provider, value).
        :raises AccountExists: if the name is taken in this contact center.
        :raises IdentityTaken: if one of the linked values is.
        :raises AccountError: if a value cannot be kept.
        """
        new = NewAccount(
            contact_center=contact_center,
            user_name=user_name,
            first_name=first_name,
            last_name=last_name,
            roles=frozenset(roles),
            enabled=enabled,
            password_hash=password_hash,
            identities=tuple(identities),
        )
        return self.import_rows([new])[0]

    def import_rows(self, new: Iterable[NewAccount]) -> Sequence[Account]:
        """Make all of these accounts, or none.

        :raises AccountExists: if a name is taken; says which.
        :raises IdentityTaken: if a linked value is.
        :raises AccountError: if a value cannot be kept.
        """
        wanted = [*new]
        for one in wanted:
            _refuse(rows.problems(one))
        try:
            with self._changing() as connection:
                return [account for batch in batches(wanted) for account in _insert(connection, batch)]
        except IntegrityError:
            raise self.collision(wanted) from None

    def taken(self, new: Sequence[NewAccount]) -> Taken:
        """Return which of the names and linked values of these accounts are there already.

        What could not be kept at all is none of them.
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

    def collision(self, new: Iterable[NewAccount]) -> AccountError:
        """Return what stands in the way of these accounts: a taken name or a taken linked value."""
        with self._database.transaction() as connection:
            for one in new:
                found = existing(connection, one)
                if found is not None:
                    return found
        return AccountExists("two of the new accounts have the same name or the same linked value")

    def set_password(self, account_id: str, password_hash: str | None) -> None:
        """Give an account another password, or none; its version changes.

        What is remembered of the old password ends with it. Login sessions do not, for they are the state's: whoever
        changes a password ends them (:meth:`~flask_genesys_auth.GenesysAuth.revoke`), as ``accounts set-password``.

        :raises NoSuchAccount: if there is none.
        :raises AccountError: if the hash is none of argon2's.
        """
        _refuse(rows.hash_problems(password_hash))
        self._change(account_id, password_hash=password_hash, version=new_version())

    def set_enabled(self, account_id: str, enabled: bool) -> None:
        """Let an account in, or keep it out.

        :raises NoSuchAccount: if there is none.
        """
        self._change(account_id, enabled=enabled)

    def set_roles(self, account_id: str, roles: Iterable[str]) -> None:
        """Give an account exactly these roles.

        :raises NoSuchAccount: if there is none.
        :raises AccountError: if one is no role's name.
        """
        wanted = frozenset(roles)
        _refuse(rows.role_problems(wanted))
        self._change(account_id, roles=rows.roles_text(wanted))

    def link(self, account_id: str, provider: str, value: str) -> None:
        """Link a value by which a provider knows the person; once more is no error.

        :raises NoSuchAccount: if there is no such account.
        :raises IdentityTaken: if another account of the contact center is linked to the value.
        :raises AccountError: if the value cannot be kept.
        """
        _refuse(rows.identity_problems(provider, value))
        try:
            with self._changing() as connection:
                center = connection.execute(
                    select(accounts.c.contact_center).where(accounts.c.id == account_id)
                ).scalar()
                if center is None:
                    raise NoSuchAccount("there is no such account")
                if _owner(connection, center, provider, value) != account_id:
                    connection.execute(
                        insert(identities).values(
                            contact_center=center, provider=provider, value=value, account_id=account_id
                        )
                    )
        except IntegrityError:
            raise IdentityTaken(f"another account is linked to {provider}={value}") from None

    def link_first(self, account_id: str, provider: str, value: str) -> bool:
        """Link a value to an enabled account that has none of this provider yet; tell whether it was linked.

        Of two logins that claim one account at the same moment, one gets it.

        :raises AccountError: if the value cannot be kept.
        """
        _refuse(rows.identity_problems(provider, value))
        claim = update(accounts).where(accounts.c.id == account_id, accounts.c.enabled).values(id=account_id)
        known = select(identities.c.value).where(
            identities.c.account_id == account_id, identities.c.provider == provider
        )
        center = select(accounts.c.contact_center).where(accounts.c.id == account_id)
        try:
            with self._changing() as connection:
                # The write comes first: it keeps every other claim of this account waiting.
                if not connection.execute(claim).rowcount or connection.execute(known).first() is not None:
                    return False
                connection.execute(
                    insert(identities).values(
                        contact_center=connection.execute(center).scalar_one(),
                        provider=provider,
                        value=value,
                        account_id=account_id,
                    )
                )
        except IntegrityError:
            return False
        return True

    def unlink(self, account_id: str, provider: str, value: str) -> bool:
        """Take a linked value away; tell whether it was there."""
        gone = delete(identities).where(
            identities.c.account_id == account_id, identities.c.provider == provider, identities.c.value == value
        )
        with self._changing() as connection:
            return connection.execute(gone).rowcount > 0

    def delete(self, account_id: str) -> bool:
        """Delete an account with its linked values; tell whether it was there."""
        with self._changing() as connection:
            connection.execute(delete(identities).where(identities.c.account_id == account_id))
            return connection.execute(delete(accounts).where(accounts.c.id == account_id)).rowcount > 0

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        finally:
            # Also after an error: an answer that did not come says nothing of the change.
            for listener in self._listeners:
                listener()

    def _change(self, account_id: str, **values: Any) -> None:
        with self._changing() as connection:
            changed = connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values)).rowcount
        if not changed:
            raise NoSuchAccount("there is no such account")


def existing(connection: Connection, new: NewAccount) -> AccountError | None:
    """Return what stands in the way of a new account, or ``None``."""
    key = rows.to_row(new)["user_key"]
    name_taken = select(accounts.c.id).where(
        accounts.c.contact_center == new.contact_center, accounts.c.user_key == key
    )
    if connection.execute(name_taken).first() is not None:
        return AccountExists(f"{new.contact_center} has an account {new.user_name!r} already")
    for provider, value in new.identities:
        if _owner(connection, new.contact_center, provider, value) is not None:
            return IdentityTaken(f"another account is linked to {provider}={value}")
    return None


def _owner(connection: Connection, center: str, provider: str, value: str) -> str | None:
    owner: str | None = connection.execute(
        select(identities.c.account_id).where(
            identities.c.contact_center == center, identities.c.provider == provider, identities.c.value == value
        )
    ).scalar()
    return owner


def _named(center: str, provider: str, value: str) -> dict[str, str]:
    return {"contact_center": center, "provider": provider, "value": value}


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
    made = [(one, rows.to_row(one)) for one in new]
    connection.execute(insert(accounts), [row for _, row in made])
    linked = [
        {**_named(one.contact_center, provider, value), "account_id": row["id"]}
        for one, row in made
        for provider, value in one.identities
    ]
    for batch in batches(linked):
        connection.execute(insert(identities), batch)
    return [_made(one, row) for one, row in made]


def _made(new: NewAccount, row: dict[str, Any]) -> Account:
    return Account(
        id=row["id"],
        contact_center=new.contact_center,
        user_name=row["user_name"],
        first_name=new.first_name,
        last_name=new.last_name,
        roles=new.roles,
        enabled=new.enabled,
        version=row["version"],
    )


def _refuse(found: Iterator[tuple[str, str]]) -> None:
    for field, problem in found:
        raise AccountError(f"{field}: {problem}")
