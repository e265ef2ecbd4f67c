"""What a type checker makes of the public names (tox, typing); that this file runs too is a test beside it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, Response
from flask.views import MethodView
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session
from typing_extensions import assert_type
from werkzeug.wrappers import Request

from flask_genesys_auth import (
    AccountState,
    AccountStore,
    Authenticated,
    Challenge,
    Decision,
    Directory,
    DirectoryEntry,
    GenesysAuth,
    Identity,
    NotApplicable,
    Outcome,
    PasswordStore,
    Reason,
    Rejected,
    RoleRequired,
    Step,
    Unavailable,
    current_decision,
    current_user,
    login_required,
    protected,
    roles_required,
    unprotected,
)
from flask_genesys_auth.accounts import from_model
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import StepRecord
from flask_genesys_auth.testing import (
    AuthClient,
    DevelopmentIdentityProvider,
    Message,
    SalesforceEmulator,
    SamlLogin,
    reset,
)


@unprotected
def healthz() -> str:
    return "ok"


@protected
def page(number: int) -> str:
    return str(number)


@login_required
@roles_required("ROLE_SUPERVISOR", "ROLE_ADMIN")
async def reports(name: str) -> dict[str, str]:
    return {"name": name}


def parameters_of_an_async_view_are_kept() -> None:
    view: Callable[[str], Coroutine[Any, Any, dict[str, str]]] = reports
    assert callable(view)


@protected
class Calls(MethodView):
    def get(self) -> str:
        return "calls"


def marks_keep_their_types() -> None:
    assert_type(healthz(), str)
    assert_type(page(1), str)
    assert_type(unprotected(Blueprint("public", __name__)), Blueprint)
    assert_type(Calls(), Calls)


def the_user_is_typed() -> None:
    assert_type(current_user, Account)
    assert_type(current_user.user_name, str)
    assert_type(current_user.roles, frozenset[str])


def the_decision_is_typed(auth: GenesysAuth) -> None:
    assert_type(current_decision, Decision[Account])
    assert_type(current_decision.user, Account | None)
    assert_type(current_decision.steps, tuple[StepRecord, ...])
    assert_type(current_decision.authenticated_by, str | None)
    assert_type(auth.current_user, Account)
    assert_type(auth.log_in_with_password("ann", "a password"), Decision[Account])
    assert_type(auth.logout(), Response | None)
    assert_type(auth.revoke(account_id="7"), int)
    for record in current_decision.steps:
        assert_type(record.reason, Reason | None)


@dataclass
class Person:
    number: int


class People:
    """An application's own store, with its own user class."""

    def find(self, identity: Identity) -> Person | None:
        return Person(1) if identity.subject == "ann" else None

    def get(self, account_id: str) -> Person | None:
        return Person(int(account_id))

    def describe(self, user: Person) -> AccountState:
        return AccountState(str(user.number))

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        return None

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        return None


class StaffDirectory:
    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        return DirectoryEntry({"username": user_name}) if password else Unavailable(Reason.TIMED_OUT)


class BadgeStep:
    name = "badge"

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        badge = evidence.request.headers.get("X-Badge")
        return Authenticated(Identity("badge", contact_center.name, badge)) if badge else NotApplicable()

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        return None


def own_parts_fit() -> None:
    store: AccountStore[Person] = People()
    passwords: PasswordStore = People()
    directory: Directory = StaffDirectory()
    step: Step = BadgeStep()
    assert_type(store.get("1"), Person | None)
    everything: list[Any] = [passwords, directory]
    auth = GenesysAuth(accounts=store, extra_steps=[step, BadgeStep, "package.module:Class"])
    assert_type(auth, GenesysAuth[Person])
    auth.init_app(Flask(__name__))
    assert everything


class Base(DeclarativeBase):
    pass


class Employee(Base):
    """A model that an application has already."""

    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


def own_users_keep_their_type(session: scoped_session[Session]) -> None:
    auth = GenesysAuth(accounts=from_model(session, Employee, user_name="email"))
    assert_type(auth, GenesysAuth[Employee])
    assert_type(auth.current_user, Employee)
    assert_type(auth.current_user.email, str)
    assert_type(auth.current_decision, Decision[Employee])
    decision = auth.log_in_with_password("ann", "a password")
    assert_type(decision.user, Employee | None)


def without_a_store_users_are_accounts(app: Flask) -> None:
    assert_type(GenesysAuth(), GenesysAuth[Account])
    assert_type(GenesysAuth(app, language=lambda: "de").current_user.user_name, str)


def refusals_carry_the_decision(refusal: RoleRequired) -> None:
    assert_type(refusal.decision.contact_center, str | None)
    assert_type(refusal.status_code, int)


def the_testing_kit_is_typed(app: Flask, provider: DevelopmentIdentityProvider) -> None:
    client = AuthClient(app, basic=("ann", "a password"), headers={"X-Badge": "B7"})
    assert_type(client.log_in(Person(1), contact_center="acme"), None)
    assert_type(client.log_in_with_saml(provider, "Ann").status_code, int)
    begun = client.begin_saml_login(provider)
    assert_type(begun, SamlLogin)
    assert_type(begun.message("Ann").but(audience=None), Message)
    assert_type(SalesforceEmulator().add_user("ann"), dict[str, str])
    assert_type(reset(app), None)


def mistakes_are_found(auth: GenesysAuth, decision: Decision[Person]) -> None:
    len(current_user.no_such_name)  # type: ignore[attr-defined]  # an account has none
    decision.roles = frozenset()  # type: ignore[misc]  # a decision is what it is
    roles_required(page)  # type: ignore[arg-type]  # it takes names of roles
    unprotected("page")  # type: ignore[type-var]  # which is no view
    page("1")  # type: ignore[arg-type]  # a mark keeps the parameters
    GenesysAuth(accounts=StaffDirectory())  # type: ignore[call-overload]  # which is no store
    auth.revoke(7)  # type: ignore[arg-type]  # ids are text
