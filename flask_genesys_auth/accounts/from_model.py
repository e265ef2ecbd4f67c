"""An account store over the user model that an application already has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from sqlalchemy import ColumnElement, func, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from ..chain.outcomes import Identity
from ..chain.protocols import AccountState
from ..config.names import fold
from ..errors import AccountsUnavailable, ConfigurationError
from .database import storable
from .passwords import ForeignHashes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..chain.protocols import AccountStore, Describe

M = TypeVar("M")
MOST_CANDIDATES = 20


class _ScopedSession(Protocol):
    """A ``scoped_session``, which returns the session of this thread or request."""

    def __call__(self) -> Session:
        """Return the session."""
        ...


@dataclass(frozen=True, slots=True)
class _Attributes:
    """The names of the model's attributes."""

    user_name: str
    roles: str | None
    password_hash: str | None
    email: str
    enabled: str | None
    contact_center: str | None


def from_model(
    session: Session | _ScopedSession,
    model: type[M],
    *,
    user_name: str,
    roles: str | None = None,
    password_hash: str | None = None,
    email: str | None = None,
    enabled: str | None = None,
    contact_center: str | None = None,
    identity: Callable[[Identity], M | None] | None = None,
    load: Callable[[str], M | None] | None = None,
    verify: Callable[[str, str], bool] | None = None,
    dummy_hash: str | None = None,
) -> ModelAccounts[M]:
    """Return a store over an application's own SQLAlchemy model; its user objects become ``current_user``.

    Names below are attributes of the model. User names are compared without case, by ``lower()`` in the database: an
    index on that expression makes it fast. If several users match, none is returned.

    :param session: the application's ``scoped_session`` (Flask-SQLAlchemy: ``db.session``).
    :param model: the mapped class, with one primary key column unless ``load`` is given.
    :param user_name: a mapped column.
    :param roles: a column (text: names separated by commas), a relationship, a list, or a property, of text,
        enumeration members, or objects with a ``name``.
    :param password_hash: a mapped column, for the Web Services step: argon2 in PHC form, hashed again at login if the
        parameters have changed, unless ``verify`` is given.
    :param email: a mapped column; default: ``user_name``.
    :param enabled: an attribute; default: ``is_active`` if the model has it (Flask-Login).
    :param contact_center: a mapped column with the names of contact centers' tables, if the model separates them.
    :param identity: returns the user linked to an identity (``matched_by == "identity"``); default: none.
    :param load: returns the user of a ``get_id()``, as a ``user_loader`` does, if that is not the primary key.
    :param verify: verifies hashes of another format, such as ``werkzeug.security.check_password_hash``.
    :param dummy_hash: required with ``verify``: a hash of that format with the application's parameters, verified for
        unknown users so that they take the same time.
    :raises ConfigurationError: if the model lacks an attribute, or only one of ``verify`` and ``dummy_hash`` is given.
    """
    given = {"roles": roles, "password_hash": password_hash, "enabled": enabled, "contact_center": contact_center}
    problems = [
        f"from_model: {model.__name__} has no attribute {name!r} ({key}=)"
        for key, name in {"user_name": user_name, "email": email, **given}.items()
        if name is not None and not hasattr(model, name)
    ]
    if (verify is None) is not (dummy_hash is None):
        problems.append("from_model: verify= and dummy_hash= require each other: pass both, or neither")
    if verify is not None and password_hash is None:
        problems.append("from_model: verify= requires password_hash=")
    if problems:
        raise ConfigurationError(*problems)
    names = _Attributes(user_name=user_name, email=email or user_name, **given)
    if password_hash is None:
        return ModelAccounts(session, model, names, identity=identity, load=load)
    foreign = ForeignHashes(verify, dummy_hash) if verify is not None and dummy_hash is not None else None
    return ModelAccountsWithPasswords(session, model, names, identity=identity, load=load, foreign_hashes=foreign)


class ModelAccounts(Generic[M]):
    """Implements ``AccountStore`` over a model; :func:`from_model` creates it."""

    def __init__(
        self,
        session: Session | _ScopedSession,
        model: type[M],
        names: _Attributes,
        *,
        identity: Callable[[Identity], M | None] | None,
        load: Callable[[str], M | None] | None,
    ) -> None:
        # Imported here, because the ORM is half of SQLAlchemy and only a model needs it.
        from sqlalchemy.orm import Session

        self._new_session = Session
        self._session = session
        self._model = model
        self._names = names
        self._identity = identity
        self._load = load

    def __repr__(self) -> str:
        return f"from_model({self._model.__name__})"

    def find(self, identity: Identity) -> M | None:
        """Return the user of this identity, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        if identity.matched_by == "account_id":
            return self.get(identity.subject)
        if identity.matched_by == "identity":
            with self._reading():
                return self._identity(identity) if self._identity is not None else None
        attribute = self._names.email if identity.matched_by == "email" else self._names.user_name
        return self._by(attribute, identity.contact_center, identity.subject)

    def get(self, account_id: str) -> M | None:
        """Return the user with this ``get_id()``, or ``None``.

        :raises AccountsUnavailable: if the database does not answer.
        """
        with self._reading() as session:
            found = self._load(account_id) if self._load is not None else self._by_primary_key(session, account_id)
            # A get_id() of the application's own must never match another user's primary key.
            return found if found is not None and self._id_of(found) == account_id else None

    def describe(self, user: M) -> AccountState:
        """Return the state of this user that the chain needs.

        :raises AccountsUnavailable: if the database does not answer (roles may be loaded now).
        """
        names = self._names
        with self._reading():
            enabled = getattr(user, names.enabled) if names.enabled else getattr(user, "is_active", True)
            stored = getattr(user, names.password_hash) if names.password_hash else None
            return AccountState(
                account_id=self._id_of(user),
                enabled=bool(enabled),
                roles=role_names(getattr(user, names.roles) if names.roles else None),
                contact_center=str(getattr(user, names.contact_center)) if names.contact_center else None,
                version=hashlib.sha256(str(stored).encode()).hexdigest()[:16] if stored else "",
            )

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        """Provide the application's session without flushing its pending changes.

        :raises AccountsUnavailable: for every SQLAlchemy error.
        """
        session = self._session if isinstance(self._session, self._new_session) else self._session()
        try:
            with session.no_autoflush:
                yield session
        except SQLAlchemyError as error:
            # After an error, PostgreSQL answers nothing until the transaction is rolled back.
            _roll_back(session)
            raise AccountsUnavailable(f"{self!r} did not answer: {type(error).__name__}") from None

    def _by(self, attribute: str, contact_center: str, wanted: str) -> M | None:
        name = fold(wanted)
        if not storable(name):
            return None
        with self._reading() as session:
            matching = select(self._model).where(*self._where(attribute, contact_center, name)).limit(MOST_CANDIDATES)
            found = [one for one in session.scalars(matching) if fold(str(getattr(one, attribute))) == name]
        return found[0] if len(found) == 1 else None

    def _where(self, attribute: str, contact_center: str, name: str) -> list[ColumnElement[bool]]:
        column = getattr(self._model, attribute)
        conditions: list[ColumnElement[bool]] = [func.lower(column) == name]
        if self._names.contact_center:
            conditions.append(getattr(self._model, self._names.contact_center) == contact_center)
        return conditions

    def _by_primary_key(self, session: Session, account_id: str) -> M | None:
        (column,) = inspect(self._model).primary_key
        try:
            kind = column.type.python_type
            key = account_id if kind is str else kind(account_id)
        except (NotImplementedError, ValueError, TypeError):
            return None
        return session.get(self._model, key)

    def _id_of(self, user: M) -> str:
        get_id = getattr(user, "get_id", None)
        if callable(get_id):
            return str(get_id())
        (key,) = inspect(self._model).primary_key_from_instance(user)
        return str(key)


class ModelAccountsWithPasswords(ModelAccounts[M]):
    """Implements ``PasswordStore`` as well."""

    def __init__(self, *args: Any, foreign_hashes: ForeignHashes | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.foreign_hashes = foreign_hashes

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        """Return the stored hash of this user, or ``None`` without a user or a password.

        :raises AccountsUnavailable: if the database does not answer.
        """
        found = self._by(self._names.user_name, contact_center, user_name)
        stored = getattr(found, str(self._names.password_hash)) if found is not None else None
        return str(stored) if stored else None

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the hash is still ``old``, in a transaction of its own.

        :raises AccountsUnavailable: if the database does not answer.
        """
        attribute = str(self._names.password_hash)
        column = getattr(self._model, attribute)
        where = self._where(self._names.user_name, contact_center, fold(user_name))
        change = update(self._model).where(*where, column == old).values({attribute: new})
        with self._reading() as session:
            bind = session.get_bind(self._model)
            with self._new_session(bind) as own:
                own.execute(change, execution_options={"synchronize_session": False})
                own.commit()


def _roll_back(session: Session) -> None:
    try:
        session.rollback()
    except SQLAlchemyError:
        session.invalidate()


def describe_of(accounts: AccountStore[Any]) -> Describe:
    """Return the function that reads an account's state: the store's own, or Flask-Login's conventions."""
    own = getattr(accounts, "describe", None)
    return cast("Describe", own) if callable(own) else describe_by_convention


def describe_by_convention(user: Any) -> AccountState:
    """Return an account's state by Flask-Login's conventions: ``get_id()``, ``is_active`` and maybe ``roles``."""
    return AccountState(
        account_id=str(user.get_id()),
        enabled=bool(user.is_active),
        roles=role_names(getattr(user, "roles", None)),
    )


def role_names(value: object) -> frozenset[str]:
    """Return the names of roles in any form that a model stores them."""
    if value is None:
        return frozenset()
    if isinstance(value, str) and not isinstance(value, Enum):
        value = value.split(",")
    elif not isinstance(value, Iterable):
        value = [value]
    return frozenset(name for name in map(_role, value) if name)


def _role(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value.strip()
    return str(getattr(value, "name", "") or "").strip()
