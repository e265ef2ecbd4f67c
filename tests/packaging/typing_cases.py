"""What a type checker makes of the public names (tox, typing); that this file runs too is a test beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, Response
from flask.views import MethodView
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
    Step,
    Unavailable,
    current_decision,
    current_user,
    login_required,
    protected,
    roles_required,
    unprotected,
)
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.decision import StepRecord
from flask_genesys_auth.chain.evidence import Evidence


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
    assert_type(current_decision, Decision)
    assert_type(current_decision.steps, tuple[StepRecord, ...])
    assert_type(current_decision.authenticated_by, str | None)
    assert_type(auth.log_in_with_password("ann", "a password"), Decision)
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
    auth.init_app(Flask(__name__))
    assert everything
