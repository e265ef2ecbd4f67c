"""An unsolicited response is accepted once, and must be as fresh as a requested one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from flask_genesys_auth.saml.documents import SAML, as_instant
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.response import consume
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Hook, Message, SigningKey

from ..addresses import PUBLIC_URL
from ..conftest import NOW, center, genuine
from ..trees import find


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def service_by(clock: Callable[[], float], metadata: Path, **provider: Any) -> ServiceProvider:
    table = center(metadata, allow_unsolicited=True, **provider)
    return build_service_provider(table, public_url=PUBLIC_URL, prefix="/saml", clock=clock)


def refusal(service: ServiceProvider, state: MemoryState, encoded: str) -> Fault:
    with pytest.raises(SamlError) as caught:
        consume(service, state, encoded, "")
    return caught.value.reason


def unasked(service: ServiceProvider, before_signing: Hook) -> Message:
    return genuine(service).but(request_id=None, before_signing=before_signing)


def confirmed_twice(response: etree._Element) -> None:
    """Let the assertion have a second bearer confirmation that holds longer than the first."""
    subject = find(response, "saml:Assertion/saml:Subject")
    second = copy.deepcopy(find(subject, "saml:SubjectConfirmation"))
    find(second, "saml:SubjectConfirmationData").set("NotOnOrAfter", as_instant(NOW + 3000))
    subject.append(second)
    find(response, "saml:Assertion/saml:Conditions").set("NotOnOrAfter", as_instant(NOW + 3600))


def test_assertion_with_two_confirmations_counts_once(metadata_file: Path, key: SigningKey) -> None:
    clock = Clock()
    service = service_by(clock, metadata_file)
    state = MemoryState("one", clock=clock)
    encoded = unasked(service, confirmed_twice).encoded(key)
    late = unasked(service, confirmed_twice).encoded(key)
    assert consume(service, state, encoded, "").login.subject == "ann@acme.example"
    for after in (0, 300 + 61, 3000 + 59):
        clock.now = NOW + after
        assert refusal(service, state, encoded) is Fault.REPLAYED
    assert consume(service, state, late, "").login.subject == "ann@acme.example"
    clock.now = NOW + 3000 + 60
    assert refusal(service, state, encoded) is Fault.EXPIRED


def test_assertion_counts_once_despite_clock_skew(metadata_file: Path, key: SigningKey) -> None:
    clock = Clock()
    ahead = service_by(lambda: clock() + 30, metadata_file)
    behind = service_by(lambda: clock() - 30, metadata_file)
    state = MemoryState("one", clock=clock)
    encoded = genuine(ahead).but(request_id=None).encoded(key)
    assert consume(ahead, state, encoded, "").login.subject == "ann@acme.example"
    for after in (1, 300, 300 + 60 + 29):
        clock.now = NOW + after
        assert refusal(behind, state, encoded) is Fault.REPLAYED
    late = genuine(ahead).but(request_id=None).encoded(key)
    assert consume(behind, state, late, "").login.subject == "ann@acme.example"


def authenticated(before: float) -> Hook:
    def change(response: etree._Element) -> None:
        statement = response.find(f".//{{{SAML}}}AuthnStatement")
        assert statement is not None
        statement.set("AuthnInstant", as_instant(NOW - before))

    return change


@pytest.mark.parametrize(("force_authn", "accepted"), [(True, False), (False, True)])
def test_unsolicited_login_respects_force_authn(
    metadata_file: Path, key: SigningKey, force_authn: bool, accepted: bool
) -> None:
    service = service_by(lambda: NOW, metadata_file, force_authn=force_authn)
    state = MemoryState("one", clock=lambda: NOW)
    old = service.request_lifetime + service.clock_skew + 1
    assert consume(service, state, unasked(service, authenticated(old - 2)).encoded(key), "").pending is None
    encoded = unasked(service, authenticated(old)).encoded(key)
    if accepted:
        assert consume(service, state, encoded, "").pending is None
    else:
        assert refusal(service, state, encoded) is Fault.AUTHN_STATEMENT
