"""The SQL account store, in every database."""

from __future__ import annotations

import threading

import pytest

from flask_genesys_auth.accounts.models import AccountError, AccountExists, IdentityTaken, NewAccount, NoSuchAccount
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.chain.protocols import AccountState, AccountStore, PasswordStore


def named(name: str, *, center: str = "acme", by: str = "user_name") -> Identity:
    return Identity("web_services", center, name, matched_by=by)  # type: ignore[arg-type]  # one of the literals


def linked(value: str, *, provider: str = "okta", center: str = "acme") -> Identity:
    return Identity("saml", center, value, matched_by="identity", provider=provider)


def test_store_implements_the_protocols_of_the_chain(store: SqlAccounts) -> None:
    assert isinstance(store, AccountStore)
    assert isinstance(store, PasswordStore)


def test_account_is_found_by_name_email_and_id(store: SqlAccounts) -> None:
    ann = store.add("acme", "Ann@Acme.example", first_name="Ann", last_name="Smith", roles=["B", "A"])
    assert ann.user_name == "Ann@Acme.example"
    assert ann.roles == {"A", "B"}
    for identity in (
        named("ann@acme.example"),
        named("ANN@ACME.EXAMPLE"),
        named("ann@acme.example", by="email"),
        named(ann.id, by="account_id"),
    ):
        assert store.find(identity) == ann
    assert store.get(ann.id) == ann
    assert store.find(named("bob@acme.example")) is None
    assert store.find(named("bob@acme.example", by="email")) is None
    assert store.find(named("nobody", by="account_id")) is None
    assert store.get("nobody") is None


def test_contact_centers_are_separate(store: SqlAccounts) -> None:
    here = store.add("acme", "ann", identities=[("okta", "a1")])
    there = store.add("globex", "ann", identities=[("okta", "a1")])
    assert here.id != there.id
    assert store.find(named("ann")) == here
    assert store.find(named("ann", center="globex")) == there
    assert store.find(linked("a1")) == here
    assert store.find(linked("a1", center="globex")) == there
    assert store.find(named(here.id, by="account_id")) == here
    assert store.find(named(here.id, center="globex", by="account_id")) is None
    assert [account.contact_center for account in store.list()] == ["acme", "globex"]
    assert store.list("globex") == [there]


@pytest.mark.parametrize(
    ("kept", "sought"), [("STRASSE", "straße"), ("Éva", "E\u0301VA"), ("Ωmega", "ωMEGA"), ("ann", "Ann")]
)
def test_names_are_compared_after_nfc_and_case_folding(store: SqlAccounts, kept: str, sought: str) -> None:
    made = store.add("acme", kept)
    assert store.find(named(sought)) == made
    with pytest.raises(AccountExists):
        store.add("acme", sought)
    assert store.add("acme", "somebody else").id != made.id


def test_linked_values_are_compared_exactly(store: SqlAccounts) -> None:
    ann = store.add("acme", "ann", identities=[("okta", "Ann")])
    assert store.find(linked("Ann")) == ann
    assert store.find(linked("ann")) is None
    assert store.find(linked("Ann", provider="Okta")) is None
    assert store.find(linked("Ann ")) is None


@pytest.mark.parametrize("text", ["ann\0", "ann\ud800", "\0"])
def test_text_that_cannot_be_stored_finds_no_account(store: SqlAccounts, text: str) -> None:
    ann = store.add("acme", "ann", identities=[("okta", "ann")])
    assert store.find(named("ann")) == store.find(linked("ann")) == ann
    assert store.find(named(text)) is None
    assert store.find(linked(text)) is None
    assert store.get(text) is None
    assert store.password_hash("acme", text) is None


def test_describe_returns_the_state_of_an_account(store: SqlAccounts) -> None:
    ann = store.add("acme", "ann", roles=["A"], enabled=False)
    assert store.describe(ann) == AccountState(ann.id, False, frozenset({"A"}), "acme", ann.version)
    assert (ann.is_authenticated, ann.is_active, ann.is_anonymous, ann.get_id()) == (True, False, False, ann.id)
    store.set_enabled(ann.id, True)
    found = store.get(ann.id)
    assert found is not None
    assert found.is_active


def test_version_changes_with_the_password_only(store: SqlAccounts, hasher: PasswordHasher) -> None:
    ann = store.add("acme", "Ann")
    assert ann.version
    assert store.password_hash("acme", "ann") is None
    first = hasher.hash("first")
    store.set_password(ann.id, first)
    with_password = store.get(ann.id)
    assert with_password is not None
    assert with_password.version != ann.version
    assert store.password_hash("acme", "ann") == first
    second = hasher.hash("first")
    store.replace_password_hash("acme", "ann", first, second)
    assert store.password_hash("acme", "ann") == second
    store.replace_password_hash("acme", "ann", first, hasher.hash("lost race"))
    assert store.password_hash("acme", "ann") == second
    assert store.get(ann.id) == with_password
    store.set_password(ann.id, None)
    assert store.password_hash("acme", "ann") is None
    assert store.password_hash("acme", "nobody") is None


def test_identity_belongs_to_one_account_at_a_time(store: SqlAccounts) -> None:
    ann, bob = store.add("acme", "ann"), store.add("acme", "bob")
    store.link(ann.id, "okta", "1")
    store.link(ann.id, "okta", "1")
    store.link(ann.id, "salesforce", "00D/005")
    with pytest.raises(IdentityTaken):
        store.link(bob.id, "okta", "1")
    with pytest.raises(NoSuchAccount):
        store.link("nobody", "okta", "2")
    assert store.details(ann.id).identities == (("okta", "1"), ("salesforce", "00D/005"))
    assert store.unlink(bob.id, "okta", "1") is False
    assert store.unlink(ann.id, "okta", "1") is True
    assert store.find(linked("1")) is None
    store.link(bob.id, "okta", "1")
    assert store.find(linked("1")) == bob


def test_roles_are_replaced(store: SqlAccounts) -> None:
    ann = store.add("acme", "ann", roles=["A"])
    store.set_roles(ann.id, {"B", "C"})
    assert store.list()[0].roles == {"B", "C"}
    with pytest.raises(AccountError, match="roles"):
        store.set_roles(ann.id, {"B,C"})


def test_deleted_account_leaves_nothing(store: SqlAccounts) -> None:
    ann = store.add("acme", "ann", identities=[("okta", "1")])
    assert store.delete(ann.id) is True
    assert store.delete(ann.id) is False
    assert store.find(linked("1")) is None
    again = store.add("acme", "ann", identities=[("okta", "1")])
    assert again.id != ann.id


def test_changing_an_unknown_account_is_an_error(store: SqlAccounts, hasher: PasswordHasher) -> None:
    with pytest.raises(NoSuchAccount):
        store.set_enabled("nobody", True)
    with pytest.raises(NoSuchAccount):
        store.set_roles("nobody", [])
    with pytest.raises(NoSuchAccount):
        store.set_password("nobody", hasher.hash("x"))
    with pytest.raises(NoSuchAccount):
        store.details("nobody")


def test_rows_are_imported_all_or_none(store: SqlAccounts) -> None:
    many = [NewAccount("acme", f"user{number}", identities=(("okta", str(number)),)) for number in range(1200)]
    assert len(store.import_rows(many)) == 1200
    assert len(store.list()) == 1200
    with pytest.raises(AccountExists, match="USER7"):
        store.import_rows([NewAccount("acme", "new"), NewAccount("acme", "USER7")])
    with pytest.raises(IdentityTaken, match="okta=7"):
        store.import_rows([NewAccount("acme", "new"), NewAccount("acme", "other", identities=(("okta", "7"),))])
    with pytest.raises(AccountExists, match="two of the new accounts"):
        store.import_rows([NewAccount("acme", "new"), NewAccount("acme", "NEW")])
    assert store.get_by_name("acme", "new") is None
    assert list(store.import_rows([])) == []


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("user_name", {"user_name": ""}),
        ("user_name", {"user_name": "a:b"}),
        ("user_name", {"user_name": "ACME\\ann"}),
        ("user_name", {"user_name": "a\nb"}),
        ("user_name", {"user_name": " ann"}),
        ("user_name", {"user_name": "x" * 256}),
        ("user_name", {"user_name": "ß" * 200}),
        ("contact_center", {"contact_center": ""}),
        ("first_name", {"first_name": "a\0"}),
        ("last_name", {"last_name": "x" * 256}),
        ("roles", {"roles": [""]}),
        ("password_hash", {"password_hash": "secret in clear"}),
        ("identities", {"identities": [("", "x")]}),
        ("identities", {"identities": [("okta", "")]}),
    ],
)
def test_invalid_values_are_refused_by_field(sqlite_store: SqlAccounts, field: str, changes: dict[str, object]) -> None:
    good: dict[str, object] = {"contact_center": "acme", "user_name": "ann"}
    with pytest.raises(AccountError, match=f"^{field}: ") as refusal:
        sqlite_store.add(**{**good, **changes})  # type: ignore[arg-type]  # wrong on purpose
    assert "secret in clear" not in str(refusal.value)
    assert sqlite_store.list() == []
    assert sqlite_store.add("acme", "ann").user_name == "ann"


def test_many_threads_read_and_write_at_once(store: SqlAccounts) -> None:
    ann = store.add("acme", "ann")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                store.set_roles(ann.id, {f"R{number}"})
                assert store.get(ann.id) is not None
                assert store.find(named("ann")) is not None
                if turn == 5:
                    store.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
