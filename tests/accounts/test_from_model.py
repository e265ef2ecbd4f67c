"""A store over an application's own model."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, String, Table, create_engine, event, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker
from werkzeug.security import check_password_hash, generate_password_hash

from flask_genesys_auth.accounts import from_model
from flask_genesys_auth.accounts.from_model import ModelAccounts
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.chain.outcomes import Identity, MatchedBy
from flask_genesys_auth.chain.protocols import AccountState, AccountStore, PasswordStore
from flask_genesys_auth.errors import AccountsUnavailable, ConfigurationError

Scoped = scoped_session[Session]


class Base(DeclarativeBase):
    pass


member = Table(
    "member", Base.metadata, Column("person", ForeignKey("person.id")), Column("role", ForeignKey("role.id"))
)


class Role(Base):
    __tablename__ = "role"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Person(Base):
    """A common model: a numeric key, an e-mail address, roles by a relationship."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    login: Mapped[str]
    role_text: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    secret: Mapped[str | None] = mapped_column("pw_hash")
    center: Mapped[str] = mapped_column(default="acme")
    roles: Mapped[list[Role]] = relationship(secondary=member)

    def get_id(self) -> str:
        return str(self.id)

    @property
    def is_active(self) -> bool:
        return self.active

    @property
    def one_role(self) -> Colour:
        return Colour.RED


class Colour(enum.Enum):
    RED = "ROLE_RED"


class Badge(Base):
    """A model without get_id and with a UUID key."""

    __tablename__ = "badge"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]


class Tokened(Base):
    """A model with a custom get_id (Flask-Login, "alternative tokens")."""

    __tablename__ = "tokened"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    token: Mapped[str] = mapped_column(String(20))

    def get_id(self) -> str:
        return self.token


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'application.sqlite3'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Scoped]:
    session = scoped_session(sessionmaker(engine))
    agent, supervisor = Role(name="ROLE_AGENT"), Role(name="ROLE_SUPERVISOR")
    session.add_all(
        [
            Person(id=1, email="Ann@Acme.example", login="ann", role_text="A, B,,", roles=[agent, supervisor]),
            Person(id=2, email="bob@acme.example", login="bob", active=False, center="globex"),
            Person(id=3, email="twin@acme.example", login="twin"),
            Person(id=4, email="TWIN@acme.example", login="Twin"),
            Tokened(id=1, name="ann", token="2"),
            Tokened(id=2, name="bob", token="other"),
        ]
    )
    session.commit()
    session.remove()
    yield session
    session.remove()


def named(name: str, by: MatchedBy = "user_name", center: str = "acme") -> Identity:
    return Identity("web_services", center, name, matched_by=by, provider="okta" if by == "identity" else "")


def test_users_are_found_by_name_email_and_id(session: Scoped) -> None:
    store = from_model(session, Person, user_name="login", email="email")
    assert isinstance(store, AccountStore)
    assert not isinstance(store, PasswordStore)
    ann = store.find(named("ann"))
    assert isinstance(ann, Person)
    assert ann.id == 1
    assert store.find(named("ANN")) is ann
    assert store.find(named("ann@acme.example", "email")) is ann
    assert store.find(named("1", "account_id")) is ann
    assert store.get("1") is ann
    assert store.find(named("ann@acme.example")) is None
    assert store.find(named("nobody")) is None
    assert repr(store) == "from_model(Person)"


@pytest.mark.parametrize("account_id", ["99", "x", "", "1.0", " 1", "0x1"])
def test_unknown_id_finds_no_user(session: Scoped, account_id: str) -> None:
    store = from_model(session, Person, user_name="login")
    assert store.get(account_id) is None
    assert store.get("1") is not None


def test_several_matches_find_no_user(session: Scoped) -> None:
    store = from_model(session, Person, user_name="email")
    assert store.find(named("twin@acme.example")) is None
    assert store.find(named("bob@acme.example")) is not None


def test_names_are_compared_in_the_database(session: Scoped, engine: Engine) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    store = from_model(session, Person, user_name="login")
    assert store.find(named("ann")) is not None
    assert len(statements) == 1
    assert "lower(person.login) = " in statements[0]
    assert "LIMIT" in statements[0]


def test_identity_function_finds_linked_users(session: Scoped) -> None:
    asked: list[Identity] = []

    def of(identity: Identity) -> Person | None:
        asked.append(identity)
        return session.scalars(select(Person).where(Person.login == identity.subject)).one_or_none()

    linked = named("bob", "identity")
    assert from_model(session, Person, user_name="login").find(linked) is None
    found = from_model(session, Person, user_name="login", identity=of).find(linked)
    assert found is not None
    assert found.id == 2
    assert asked == [linked]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (None, set()),
        ("roles", {"ROLE_AGENT", "ROLE_SUPERVISOR"}),
        ("role_text", {"A", "B"}),
        ("one_role", {"ROLE_RED"}),
        ("secret", set()),
    ],
)
def test_roles_of_every_form_are_read(session: Scoped, attribute: str | None, expected: set[str]) -> None:
    store = from_model(session, Person, user_name="login", roles=attribute)
    ann = store.get("1")
    assert ann is not None
    assert store.describe(ann) == AccountState("1", True, frozenset(expected))


def test_enabled_and_contact_center_are_read(session: Scoped) -> None:
    by_flask_login = from_model(session, Person, user_name="login")
    by_name = from_model(session, Person, user_name="login", enabled="active", contact_center="center")
    bob = by_name.find(named("bob", center="globex"))
    assert bob is not None
    assert by_name.find(named("bob")) is None
    assert by_flask_login.find(named("bob")) is bob
    assert by_flask_login.describe(bob) == AccountState("2", False)
    assert by_name.describe(bob) == AccountState("2", False, contact_center="globex")


def test_model_without_flask_login_methods(session: Scoped) -> None:
    badge = Badge(name="Ann")
    session.add(badge)
    session.commit()
    store: ModelAccounts[Badge] = from_model(session, Badge, user_name="name")
    assert store.find(named("ann")) is badge
    assert store.describe(badge) == AccountState(str(badge.id))
    assert store.get(str(badge.id)) is badge
    assert store.get("not a uuid") is None


def test_custom_get_id_never_matches_a_primary_key(session: Scoped) -> None:
    plain = from_model(session, Tokened, user_name="name")
    ann = plain.find(named("ann"))
    assert ann is not None
    # Ann's token is "2", which is Bob's key.
    assert plain.get("2") is None
    assert plain.get("other") is None

    def load(token: str) -> Tokened | None:
        return session.scalars(select(Tokened).where(Tokened.token == token)).one_or_none()

    told = from_model(session, Tokened, user_name="name", load=load)
    assert told.get("2") is ann
    assert told.get("nobody") is None


def test_reading_does_not_flush_the_session(session: Scoped) -> None:
    store = from_model(session, Person, user_name="login")
    session.add(Person(id=9, email="new@acme.example", login="new"))
    assert store.find(named("ann")) is not None
    assert store.get("2") is not None
    assert len(session.new) == 1
    session.rollback()


def test_argon2_hashes_are_renewed_in_their_own_transaction(
    session: Scoped, engine: Engine, hasher: PasswordHasher
) -> None:
    store: Any = from_model(session, Person, user_name="login", password_hash="secret")
    offers_passwords: bool = isinstance(store, PasswordStore)
    assert offers_passwords
    assert store.foreign_hashes is None
    assert store.password_hash("acme", "ann") is None
    first, second = hasher.hash("first"), hasher.hash("first")
    ann = store.find(named("ann"))
    ann.secret = first
    session.commit()
    before = store.describe(ann)
    assert before.version
    assert first not in before.version
    assert store.password_hash("acme", "ANN") == first
    session.add(Person(id=9, email="new@acme.example", login="new"))
    store.replace_password_hash("acme", "ann", first, second)
    store.replace_password_hash("acme", "ann", first, hasher.hash("lost race"))
    assert len(session.new) == 1
    session.rollback()
    assert store.password_hash("acme", "ann") == second
    with Session(engine) as other:
        assert other.scalars(select(Person.secret).where(Person.id == 1)).one() == second
    assert store.describe(ann).version != before.version
    assert store.password_hash("acme", "nobody") is None
    assert store.password_hash("acme", "twin") is None


def test_passwords_of_another_format(session: Scoped) -> None:
    dummy = generate_password_hash("x", "pbkdf2:sha256:10")
    store: Any = from_model(
        session, Person, user_name="login", password_hash="secret", verify=check_password_hash, dummy_hash=dummy
    )
    assert store.foreign_hashes.check(generate_password_hash("right", "pbkdf2:sha256:10"), "right")
    assert not store.foreign_hashes.check(None, "x")
    assert dummy not in repr(store.foreign_hashes)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"user_name": "nick"}, "user_name="),
        ({"roles": "nothing"}, "roles="),
        ({"password_hash": "nothing"}, "password_hash="),
        ({"verify": check_password_hash, "password_hash": "secret"}, "require each other"),
        ({"dummy_hash": "x", "password_hash": "secret"}, "require each other"),
        ({"verify": check_password_hash, "dummy_hash": "x"}, "requires password_hash="),
    ],
)
def test_missing_attributes_are_configuration_errors(session: Scoped, changes: dict[str, Any], finding: str) -> None:
    with pytest.raises(ConfigurationError, match=finding):
        from_model(session, Person, **{"user_name": "login", **changes})


def test_database_outage_is_unavailable_and_recovers(session: Scoped, engine: Engine, hasher: PasswordHasher) -> None:
    store: Any = from_model(session, Person, user_name="login", password_hash="secret", roles="roles")
    ann = store.find(named("ann"))
    Base.metadata.drop_all(engine)
    session.expire_all()
    asked: list[Callable[[], object]] = [
        lambda: store.find(named("ann")),
        lambda: store.get("2"),
        lambda: store.describe(ann),
        lambda: store.password_hash("acme", "ann"),
        lambda: store.replace_password_hash("acme", "ann", "geheim", "geheim"),
    ]
    for ask in asked:
        with pytest.raises(AccountsUnavailable) as failure:
            ask()
        assert "geheim" not in str(failure.value)
    session.remove()
    Base.metadata.create_all(engine)
    assert store.find(named("ann")) is None


def test_plain_session_is_accepted(engine: Engine, session: Scoped) -> None:
    with Session(engine) as plain:
        store = from_model(plain, Person, user_name="login")
        assert store.find(named("ann")) is not None
