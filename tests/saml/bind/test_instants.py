"""Instants that providers write for "never"."""

from __future__ import annotations

import pytest
from lxml import etree

from flask_genesys_auth.saml.documents import SAML, as_instant, instant
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.requests import BegunLogin, Login
from flask_genesys_auth.saml.response import Received

from ..conftest import Consumer

NEVER = "9999-12-31T23:59:59.999999999999Z"


@pytest.mark.parametrize("text", [NEVER, "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59Z"])
def test_last_instant_is_read_and_written(text: str) -> None:
    assert as_instant(instant(text)) == "9999-12-31T23:59:59Z"
    assert instant("1970-01-01T00:00:01.5Z") == 1.5


def test_unwritable_instants_are_clamped() -> None:
    assert as_instant(1e15) == "9999-12-31T23:59:59Z"
    assert as_instant(-1e15).endswith("01-01T00:00:00Z")
    assert as_instant(1.9) == "1970-01-01T00:00:01Z"


@pytest.mark.parametrize(
    ("path", "attribute", "fault"),
    [
        ("Conditions", "NotBefore", Fault.NOT_YET_VALID),
        ("Conditions", "NotOnOrAfter", None),
        ("Subject/SubjectConfirmation/SubjectConfirmationData", "NotOnOrAfter", None),
        ("AuthnStatement", "SessionNotOnOrAfter", None),
    ],
)
def test_last_instant_is_accepted_as_never(consumer: Consumer, path: str, attribute: str, fault: Fault | None) -> None:
    def change(response: etree._Element) -> None:
        found = response.find("/".join(f"{{{SAML}}}{name}" for name in ("Assertion", *path.split("/"))))
        assert found is not None
        found.set(attribute, NEVER)

    message = consumer.genuine.but(before_signing=change)
    if fault is None:
        assert consumer.accept(message, referee=False).subject == "ann@acme.example"
    else:
        consumer.refuses(message, fault)


def test_long_detail_is_cut_before_cleaning() -> None:
    error = SamlError(Fault.MALFORMED, "\n" + "x" * 600)
    assert error.detail == " " + "x" * 499


def test_secrets_and_names_are_not_in_repr() -> None:
    login = Login("okta", "ann", "the-name-id", "the-index", None)
    begun = BegunLogin("https://idp.example/?RelayState=the-state", "ref", "the-nonce", {"RelayState": "the-state"})
    received = Received(None, login, "the-state")
    shown = repr((login, begun, received))
    assert "ref" in shown
    assert "the-" not in shown
