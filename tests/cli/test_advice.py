"""The table of advice for each reason, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flask_genesys_auth.chain.outcomes import Identity, MatchedBy, Reason
from flask_genesys_auth.cli.advice import BY_STEP, FOREIGN_ADVICE, SAML_ADVICE, STEP_ADVICE, for_fault, for_reason
from flask_genesys_auth.saml.errors import Fault

PAGE = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)


def test_every_reason_and_every_fault_has_advice() -> None:
    assert {str(reason) for reason in Reason} == set(STEP_ADVICE)
    # The last one may be of a release that has it.
    assert {str(fault) for fault in Fault} | {"logged_out"} == set(SAML_ADVICE)


def test_the_documented_advice_is_the_printed_one() -> None:
    steps, _, saml = PAGE.partition("## Of a SAML message")
    assert dict(ROW.findall(steps)) == {str(reason): for_reason(reason, None) for reason in Reason}
    assert dict(ROW.findall(saml)) == {fault: for_fault(fault, "CONTACT_CENTER", "") for fault in SAML_ADVICE}


@pytest.mark.parametrize(
    ("identity", "typed"),
    [
        (Identity("salesforce", "acme", "ann@acme.example"), "accounts add acme ann@acme.example"),
        (
            Identity("salesforce", "acme", "00D1/0051", matched_by="identity", provider="salesforce"),
            "accounts link acme USER_NAME salesforce=00D1/0051;",
        ),
        (Identity("web_services", "acme", "x; rm -rf ~"), "accounts add acme 'x; rm -rf ~'"),
        (Identity("web_services", "acme", "{contact_center}"), "accounts add acme '{contact_center}'"),
        (Identity("saml", "acme", "7", matched_by="account_id"), "Log in again"),
    ],
)
def test_advice_without_an_account_is_a_command(identity: Identity, typed: str) -> None:
    assert typed in for_reason(Reason.NO_ACCOUNT, "acme", identity)


@pytest.mark.parametrize(
    ("step", "own_store", "said"),
    [
        ("web_services", False, "accounts set-password acme USER_NAME"),
        ("web_services", True, "in the application's own account store"),
        ("configuration_server", False, "in Configuration Server, or in the directory"),
        ("configuration_server", True, "in Configuration Server, or in the directory"),
        ("badge", False, "where the step looks it up"),
        ("badge", True, "where the step looks it up"),
    ],
)
def test_passwords_are_reset_where_they_are_stored(step: str, own_store: bool, said: str) -> None:
    told = for_reason(Reason.BAD_CREDENTIALS, "acme", step=step, own_store=own_store)
    assert said in told
    assert ("set-password" in told) is (step == "web_services" and not own_store)


def test_a_missing_attribute_is_added_in_the_directory() -> None:
    for own_store in (False, True):
        told = for_reason(Reason.NO_ACCOUNT, "acme", step="configuration_server", own_store=own_store)
        assert "contact_centers.acme.configuration_server.match" in told
        assert "accounts add" not in told


@pytest.mark.parametrize("matched_by", ["user_name", "email", "identity"])
def test_no_command_is_advised_for_own_stores(matched_by: MatchedBy) -> None:
    who = Identity("salesforce", "acme", "ann", matched_by=matched_by, provider="salesforce")
    ours, theirs = (
        for_reason(Reason.NO_ACCOUNT, "acme", who, step="salesforce", own_store=own) for own in (False, True)
    )
    assert "flask genesys-auth accounts" in ours
    assert "flask genesys-auth accounts" not in theirs
    assert "the application's own account store" in theirs
    assert "ann" in theirs


def test_own_stores_never_get_accounts_commands() -> None:
    for step in ("", "salesforce", "configuration_server", "web_services", "login_session", "badge"):
        for reason in Reason:
            told = for_reason(reason, "acme", step=step, own_store=True)
            assert "genesys-auth accounts" not in told, reason
            assert "accounts_url" not in told, reason
            if told != for_reason(reason, "acme", step=step):
                assert "the application's own account store" in told
    for fault in SAML_ADVICE:
        assert "genesys-auth accounts" not in for_fault(fault, "acme", "okta", own_store=True)


def test_advice_never_adopts_another_services_entity_id() -> None:
    told = for_fault("audience", "acme", "okta")
    assert told.startswith("Set the audience at the provider to ours")
    assert "to what it sends" not in told


def test_saml_users_without_account_are_linked_or_added() -> None:
    told = for_fault("account", "acme", "okta")
    assert "accounts link acme USER_NAME okta=VALUE" in told
    assert "accounts add acme USER_NAME --identity okta=VALUE" in told
    assert "link_by" in told
    # A store of the application's own may have neither.
    assert "link_by" not in for_fault("account", "acme", "okta", own_store=True)


def test_advice_by_step_has_known_reasons() -> None:
    assert {reason for reason, _ in BY_STEP} | set(FOREIGN_ADVICE) <= set(STEP_ADVICE)


def test_advice_names_the_contact_center_and_the_provider() -> None:
    assert "contact_centers.acme.salesforce.organizations" in for_reason(Reason.ORGANIZATION_NOT_LISTED, "acme")
    assert "accounts link acme USER_NAME okta=VALUE" in for_fault("account", "acme", "okta")
    assert for_fault("of another release", "acme", "okta") == ""
