"""The one table of what to do about each reason, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flask_genesys_auth.chain.decision import Identity, Reason
from flask_genesys_auth.cli.advice import SAML_ADVICE, STEP_ADVICE, for_fault, for_reason
from flask_genesys_auth.saml.errors import Fault

PAGE = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)


def test_every_reason_and_every_fault_has_advice() -> None:
    assert {str(reason) for reason in Reason} == set(STEP_ADVICE)
    # The last one may be of a release that has it.
    assert {str(fault) for fault in Fault} | {"logged_out"} == set(SAML_ADVICE)


def test_the_page_says_what_the_commands_say() -> None:
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
def test_what_to_type_where_there_is_no_account(identity: Identity, typed: str) -> None:
    assert typed in for_reason(Reason.NO_ACCOUNT, "acme", identity)


def test_advice_names_the_contact_center_and_the_provider() -> None:
    assert "contact_centers.acme.salesforce.organizations" in for_reason(Reason.ORGANIZATION_NOT_LISTED, "acme")
    assert "accounts link acme USER_NAME okta=VALUE" in for_fault("account", "acme", "okta")
    assert for_fault("of another release", "acme", "okta") == ""
