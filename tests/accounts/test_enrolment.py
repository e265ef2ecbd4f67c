"""A SAML login links an account, creates one or sets its roles, and does nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.accounts.enrolment import check_enrolment, enrol
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.chain.protocols import EnrollingStore
from flask_genesys_auth.config.settings import ContactCenterSettings, IdentityProvider, Saml, Settings
from flask_genesys_auth.errors import AccountsUnavailable, ConfigurationError

ANN = "ann@acme.example"
OKTA = IdentityProvider("okta", Path("idp.xml"), email_domains=frozenset({"acme.example"}))
LINKING = dataclasses.replace(OKTA, link_by="user_name")
MAKING = dataclasses.replace(OKTA, provision=True, role_map={"agents": "ROLE_AGENT", "bosses": "ROLE_SUPERVISOR"})
SYNCING = dataclasses.replace(MAKING, provision=False, sync_roles=True)


def proven(subject: str = ANN, center: str = "acme", **attributes: str | tuple[str, ...]) -> Identity:
    return Identity("saml", center, subject, attributes, matched_by="identity", provider="okta")


def everybody(store: SqlAccounts) -> list[tuple[str, str, frozenset[str]]]:
    return [(one.contact_center, one.user_name, one.roles) for one in store.list()]


def test_first_login_links_the_account_by_name(store: SqlAccounts) -> None:
    account = store.add("acme", "Ann@ACME.example", roles={"ROLE_AGENT"})
    enrol(store, proven(), OKTA)
    assert store.find(proven()) is None
    enrol(store, proven(), LINKING)
    assert store.find(proven()) == account
    enrol(store, proven(), LINKING)
    assert store.details(account.id).identities == (("okta", ANN),)


@pytest.mark.parametrize("subject", ["ann@evil.example", "ann", "@acme.example", "ann@evil@acme.example"])
def test_foreign_domain_links_nothing(store: SqlAccounts, subject: str) -> None:
    named = subject if subject and not subject.startswith("@") else "at"
    account = store.add("acme", named)
    own = store.add("acme", ANN)
    enrol(store, proven(subject), LINKING)
    enrol(store, proven(), LINKING)
    assert store.details(account.id).identities == ()
    assert store.details(own.id).identities == (("okta", ANN),)


@pytest.mark.parametrize(
    ("own", "alike"),
    [
        ("fiona@acme.example", "\ufb01ona@acme.example"),
        ("Kim@acme.example", "\u212aim@acme.example"),
        ("grosse@acme.example", "gro\u00dfe@acme.example"),
        ("sam@acme.example", "\u017fam@acme.example"),
        ("b\u00e4r@acme.example", "ba\u0308r@acme.example"),
        ("ann@acme.example", "ann@ac\uff4de.example"),
    ],
)
def test_name_equal_only_after_folding_links_nothing(store: SqlAccounts, own: str, alike: str) -> None:
    account = store.add("acme", own)
    enrol(store, proven(alike), LINKING)
    assert store.details(account.id).identities == ()
    enrol(store, proven(own.replace("acme", "ACME")), LINKING)
    assert store.details(account.id).identities == (("okta", own.replace("acme", "ACME")),)


def test_account_with_another_linked_value_is_not_linked(store: SqlAccounts) -> None:
    account = store.add("acme", ANN, identities=[("okta", "somebody-else"), ("entra", ANN)])
    enrol(store, proven(), LINKING)
    assert store.find(proven()) is None
    assert store.unlink(account.id, "okta", "somebody-else")
    enrol(store, proven(), LINKING)
    assert store.find(proven()) == account


def test_disabled_account_is_not_linked(store: SqlAccounts) -> None:
    account = store.add("acme", ANN, enabled=False)
    enrol(store, proven(), LINKING)
    assert store.details(account.id).identities == ()
    store.set_enabled(account.id, True)
    enrol(store, proven(), LINKING)
    assert store.details(account.id).identities == (("okta", ANN),)


def test_account_of_another_contact_center_is_not_linked(store: SqlAccounts) -> None:
    other = store.add("beta", ANN)
    enrol(store, proven(), LINKING)
    assert store.details(other.id).identities == ()
    enrol(store, proven(center="beta"), LINKING)
    assert store.details(other.id).identities == (("okta", ANN),)


def test_first_login_creates_an_account(store: SqlAccounts, caplog: pytest.LogCaptureFixture) -> None:
    ann = proven(first_name="Ann", last_name="Archer", groups=("agents", "unmapped"))
    enrol(store, ann, OKTA)
    assert store.list() == []
    with caplog.at_level(logging.INFO, "flask_genesys_auth"):
        enrol(store, ann, MAKING)
    account = store.find(ann)
    assert account is not None
    assert (account.user_name, account.first_name, account.last_name) == (ANN, "Ann", "Archer")
    assert account.roles == {"ROLE_AGENT"}
    assert not store.details(account.id).has_password
    assert [record.getMessage() for record in caplog.records] == [
        f"account_enrolled: created an account for '{ANN}' of okta in acme"
    ]


def test_invalid_display_names_do_not_prevent_a_login(store: SqlAccounts) -> None:
    enrol(store, proven(first_name=" Cat ", last_name="x" * 300), MAKING)
    (made,) = store.list()
    assert (made.first_name, made.last_name) == ("Cat", "")
    enrol(store, proven("bob@acme.example", first_name=("Bob", "B."), last_name="a\u2028b"), MAKING)
    assert [(one.first_name, one.last_name) for one in store.list() if one != made] == [("Bob B.", "")]


def test_foreign_domain_creates_no_account(store: SqlAccounts, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flask_genesys_auth"):
        enrol(store, proven("eve@evil.example"), MAKING)
    assert store.list() == []
    assert "linked and created no account" in caplog.text
    enrol(store, proven("eve@evil.example"), dataclasses.replace(MAKING, email_domains=frozenset()))
    assert [one.user_name for one in store.list()] == ["eve@evil.example"]


def test_invalid_role_changes_nothing(store: SqlAccounts) -> None:
    store.add("acme", ANN, roles={"ROLE_AGENT"}, identities=[("okta", ANN)])
    assert not store.follow_roles(proven(), frozenset({"a,b"}))
    assert everybody(store)[0][2] == {"ROLE_AGENT"}


def test_existing_account_is_not_taken_over(store: SqlAccounts) -> None:
    local = store.add("acme", ANN, roles={"ROLE_ADMIN"})
    enrol(store, proven(groups=("agents",)), MAKING)
    assert store.find(proven()) is None
    assert everybody(store) == [("acme", ANN, frozenset({"ROLE_ADMIN"}))]
    assert store.details(local.id).identities == ()


def test_invalid_subject_creates_no_account(store: SqlAccounts) -> None:
    enrol(store, proven("x" * 300), MAKING)
    enrol(store, proven("acme\\ann"), MAKING)
    assert store.list() == []
    enrol(store, proven(), MAKING)
    assert len(store.list()) == 1


def test_roles_follow_groups_only_with_sync_roles(store: SqlAccounts) -> None:
    store.add("acme", ANN, roles={"ROLE_ADMIN"}, identities=[("okta", ANN)])
    enrol(store, proven(groups=("bosses",)), MAKING)
    assert everybody(store)[0][2] == {"ROLE_ADMIN"}
    enrol(store, proven(groups=("bosses", "agents")), SYNCING)
    assert everybody(store)[0][2] == {"ROLE_SUPERVISOR", "ROLE_AGENT"}
    enrol(store, proven(groups="agents"), SYNCING)
    assert everybody(store)[0][2] == {"ROLE_AGENT"}
    enrol(store, proven(), SYNCING)
    assert everybody(store)[0][2] == frozenset()


def test_linking_login_sets_the_roles(store: SqlAccounts) -> None:
    store.add("acme", ANN, roles={"ROLE_ADMIN"})
    enrol(store, proven(groups=("agents",)), dataclasses.replace(SYNCING, link_by="user_name"))
    assert everybody(store) == [("acme", ANN, frozenset({"ROLE_AGENT"}))]


def test_unchanged_roles_are_not_written(store: SqlAccounts) -> None:
    store.add("acme", ANN, roles={"ROLE_AGENT"}, identities=[("okta", ANN)])
    assert not store.follow_roles(proven(), frozenset({"ROLE_AGENT"}))
    assert store.follow_roles(proven(), frozenset())
    assert not store.follow_roles(proven("nobody"), frozenset())


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_concurrent_claims_link_one_value(store: SqlAccounts) -> None:
    account = store.add("acme", ANN)
    store_of = [SqlAccounts(store_url(store), timeout=20) for _ in range(10)]
    linked = at_once(
        *(lambda own=own, n=n: own.link_first(account.id, "okta", f"value-{n}") for n, own in enumerate(store_of))
    )
    for own in store_of:
        own.close()
    assert linked.count(True) == 1
    assert len(store.details(account.id).identities) == 1


def test_concurrent_first_logins_create_one_account(store: SqlAccounts) -> None:
    store_of = [SqlAccounts(store_url(store), timeout=20) for _ in range(10)]
    at_once(*(lambda own=own: enrol(own, proven(), MAKING) for own in store_of))
    for own in store_of:
        own.close()
    assert [one[1] for one in everybody(store)] == [ANN]
    assert store.find(proven()) is not None


def store_url(store: SqlAccounts) -> str:
    name = store.name
    return name.replace("://", "://postgres@") if "://" in name else f"sqlite:///{name}"


class ReadOnlyStore:
    """A custom store without enrolment."""

    def find(self, identity: Identity) -> Account | None:
        return None

    def get(self, account_id: str) -> Account | None:
        return None


def settings(provider: IdentityProvider) -> Settings:
    center = ContactCenterSettings("acme", "acme", saml=Saml({"okta": provider}))
    plain = ContactCenterSettings("beta", "beta")
    return Settings({"acme": center, "beta": plain}, Path())


@pytest.mark.parametrize("provider", [LINKING, MAKING, SYNCING])
def test_store_without_enrolment_is_a_configuration_error(store: SqlAccounts, provider: IdentityProvider) -> None:
    assert isinstance(store, EnrollingStore)
    check_enrolment(store, settings(provider))
    check_enrolment(ReadOnlyStore(), settings(OKTA))
    with pytest.raises(
        ConfigurationError, match=r"acme\.saml\.identity_providers\.okta\.(link_by|provision|sync_roles): requires"
    ):
        check_enrolment(ReadOnlyStore(), settings(provider))
    enrol(ReadOnlyStore(), proven(), provider)


def test_database_outage_is_not_a_refusal(sqlite_store: SqlAccounts, tmp_path: Path) -> None:
    enrol(sqlite_store, proven(), MAKING)
    (tmp_path / "broken.sqlite3").write_text("this is no database, and it is long enough to show that" * 20)
    broken = SqlAccounts(f"sqlite:///{tmp_path}/broken.sqlite3")
    with pytest.raises(AccountsUnavailable):
        enrol(broken, proven(), MAKING)
