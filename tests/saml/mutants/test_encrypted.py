"""Mutants of encrypted messages never change the signed user."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import KeyPair
from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.documents import SAML
from flask_genesys_auth.saml.errors import SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Encryption, Hook, Message, SigningKey, generate_signing_key

from ..addresses import PUBLIC_URL
from ..conftest import NOW, center, genuine, pending, trust_of
from ..mutation import Mutator
from ..trees import EVIL
from .test_responses import Reading, canonical

MUTANTS = 2000


@pytest.fixture(scope="module")
def ours() -> SigningKey:
    return generate_signing_key("ours")


@pytest.fixture
def service(metadata_file: Path, ours: SigningKey) -> ServiceProvider:
    table = center(metadata_file)
    pair = KeyPair(key=Secret(ours.private_pem), certificate=ours.certificate_pem)
    assert table.saml is not None
    table = replace(table, saml=replace(table.saml, encryption_keys=(pair,)))
    return build_service_provider(table, public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)


def read(service: ServiceProvider, encoded: str) -> Reading:
    verified = verify(admit(encoded), trust_of(service), service.keys.decryption)
    login = bind(verified, service, trust_of(service), pending(service), MemoryState("fuzz"))
    return Reading(login, verified.assertion)


def judged(service: ServiceProvider, true: Reading, mutants: Iterator[str]) -> tuple[list[str], int]:
    """Return what is let in as another, or read from something else, and how many are let in as they should be.

    Any exception but SamlError ends the test.
    """
    wrong, harmless = [], 0
    for encoded in mutants:
        found = entered(service, encoded)
        if found is None:
            continue
        if found.identity == true.identity and canonical(found.read) == canonical(true.read):
            harmless += 1
        else:
            wrong.append(encoded)
    return wrong, harmless


def entered(service: ServiceProvider, encoded: str) -> Reading | None:
    try:
        return read(service, encoded)
    except SamlError:
        return None


def mallory(message: Message) -> Message:
    return message.but(name_id=EVIL, request_id="_request-2", response_id="_response-2", assertion_id="_assertion-2")


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("what", ["assertion", "name_id"])
def test_mutant_of_encrypted_message_never_changes_the_user(
    service: ServiceProvider, key: SigningKey, other_key: SigningKey, ours: SigningKey, what: str, both: bool
) -> None:
    encryption = Encryption(ours)
    hook: dict[str, Hook] = (
        {"between_signing": encryption.assertion} if what == "assertion" else {"before_signing": encryption.name_id}
    )
    message = genuine(service).but(response_id="_response", assertion_id="_assertion", sign_response=both, **hook)
    data = etree.tostring(message.signed(key))
    others = (etree.tostring(mallory(message).signed(key)), etree.tostring(message.but(name_id=EVIL).signed(other_key)))
    mutator = Mutator(f"sealed {what} {both}", data, others)
    true = read(service, base64.b64encode(data).decode())
    wrong, harmless = judged(service, true, (mutator.mutant() for _ in range(MUTANTS)))
    assert wrong == []
    assert 1 <= harmless < MUTANTS / 2


def test_attackers_ciphertext_never_changes_the_user(
    service: ServiceProvider, key: SigningKey, other_key: SigningKey, ours: SigningKey
) -> None:
    message = genuine(service).but(response_id="_response", assertion_id="_assertion")
    plain = etree.tostring(message.signed(key))
    others = (etree.tostring(mallory(message).signed(key)), etree.tostring(message.but(name_id=EVIL).signed(other_key)))
    mutator = Mutator("encrypted anew", plain, others)
    sealed = 0

    def mutants() -> Iterator[str]:
        nonlocal sealed
        while sealed < MUTANTS:
            try:
                root = etree.fromstring(base64.b64decode(mutator.mutant()))
            except (etree.XMLSyntaxError, ValueError):
                continue
            if root.find(f"{{{SAML}}}Assertion") is not None:
                Encryption(ours).assertion(root)
                sealed += 1
                yield base64.b64encode(etree.tostring(root)).decode()

    true = read(service, base64.b64encode(plain).decode())
    wrong, harmless = judged(service, true, mutants())
    assert wrong == []
    assert 1 <= harmless < MUTANTS / 2
