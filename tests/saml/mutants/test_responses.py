"""Mutants of genuine messages never change the signed user, and raise nothing but SamlError.

The seeds are fixed; what a mutant is also follows from the keys and instants of the run, so that a failure shows the
message itself.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import xmlsec
from flask import Flask
from lxml import etree
from onelogin.saml2.errors import OneLogin_Saml2_ValidationError
from xmlsec import constants

from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.documents import DS, SAML
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata

from ..addresses import IDP, PUBLIC_URL, SSO
from ..application import ANN, REFUSED, Browser
from ..conftest import NOW, REQUEST_ID, center, genuine, pending, referee_accepts, trust_of
from ..mutation import Mutator
from ..shapes import SHAPES, Facts, Shape, signed
from ..trees import EVIL

BATCHES = range(5)
MUTANTS = 405
"""Of one batch; there are as many batches of each message as :data:`BATCHES` says."""

SOURCES = ("assertion signed", "both signed", *(shape.name for shape in SHAPES))


@dataclass(frozen=True)
class Source:
    """A genuine message, the service provider that it is for, and messages to take parts from."""

    service: ServiceProvider
    message: bytes
    others: tuple[bytes, ...]
    key: SigningKey

    @property
    def encoded(self) -> str:
        return base64.b64encode(self.message).decode()


@dataclass(frozen=True)
class Reading:
    """What was let in: who, and the very element that this was read from."""

    identity: object
    read: etree._Element


Verifier = Callable[[Source, str], Reading]


def ours(source: Source, encoded: str) -> Reading:
    """Gate, verification and binding; the one place here that knows their signatures."""
    trust = trust_of(source.service)
    verified = verify(admit(encoded), trust)
    login = bind(verified, source.service, trust, pending(source.service), MemoryState("fuzz"))
    return Reading(login, verified.assertion)


@pytest.fixture(scope="module")
def sources(key: SigningKey, other_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    metadata = tmp_path_factory.mktemp("fuzz") / "idp.xml"
    metadata.write_text(provider_metadata(IDP, SSO, (key.certificate,)))
    return dict(every_source(key, other_key, metadata))


def every_source(key: SigningKey, other_key: SigningKey, metadata: Path) -> Iterator[tuple[str, Source]]:
    """Each with mallory's own genuine message for another request, and ann's by another key."""

    def serve(shape: Shape | None = None) -> ServiceProvider:
        settings = center(metadata, match=shape.match) if shape else center(metadata)
        return build_service_provider(settings, public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)

    service = serve()
    plain = genuine(service).but(response_id="_response", assertion_id="_assertion", attributes={"mail": ("ann",)})
    for name, both in (("assertion signed", False), ("both signed", True)):
        own = plain.but(sign_response=both)
        mallory = own.but(name_id=EVIL, request_id="_request-2", response_id="_response-2", assertion_id="_assertion-2")
        parts = (etree.tostring(mallory.signed(key)), etree.tostring(own.but(name_id=EVIL).signed(other_key)))
        yield name, Source(service, etree.tostring(own.signed(key)), parts, key)
    for shape in SHAPES:
        service = serve(shape)
        facts = Facts(IDP, service.acs_url, service.entity_id, REQUEST_ID, NOW, key)
        theirs = re.sub(r"ann@acme.example|ACME\\ann", EVIL, shape.write(facts)).replace(REQUEST_ID, "_request-2")
        parts = (signed(theirs, key), signed(shape.write(facts), other_key))
        yield shape.name, Source(service, signed(shape.write(facts), key), parts, key)


def canonical(element: etree._Element) -> bytes:
    """What exclusive canonicalization makes of an element without its signature, wherever it stands."""
    alone = copy.deepcopy(element)
    for signature in alone.findall(f"{{{DS}}}Signature"):
        tail = signature.tail
        before = signature.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + (tail or "")
        alone.remove(signature)
    return etree.tostring(alone, method="c14n", exclusive=True, with_comments=False)


def is_good(signature: etree._Element, signed: etree._Element, key: xmlsec.Key) -> bool:
    """Whether libxmlsec alone finds the signature good."""
    context = xmlsec.SignatureContext()
    context.key = key
    try:
        context.register_id(signed, "ID")
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


def holds_a_signature_by(key: SigningKey, encoded: str) -> bool:
    """Whether an assertion has a good signature of its own."""
    public = xmlsec.Key.from_memory(key.certificate_pem.encode(), constants.KeyDataFormatCertPem, None)
    for assertion in etree.fromstring(base64.b64decode(encoded)).iter(f"{{{SAML}}}Assertion"):
        signature = assertion.find(f"{{{DS}}}Signature")
        if signature is not None and is_good(signature, assertion, public):
            return True
    return False


def violations(source: Source, verifier: Verifier, mutants: Iterator[str], *, referee: bool = False) -> Iterator[str]:
    """Yield each mutant that is accepted as another user or read from unsigned content.

    Any exception but SamlError ends the test.

    :param referee: whether python3-saml, too, must accept each mutant that is let in.
    """
    true = ours(source, source.encoded)
    for encoded in mutants:
        try:
            found = verifier(source, encoded)
        except SamlError:
            continue
        proven = canonical(found.read) == canonical(true.read) and holds_a_signature_by(source.key, encoded)
        if found.identity != true.identity or not proven or (referee and not referee_agrees(source, encoded)):
            yield encoded


def made(source: Source, seed: str, count: int = MUTANTS) -> Iterator[str]:
    mutator = Mutator(seed, source.message, source.others)
    return (mutator.mutant() for _ in range(count))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", SOURCES)
def test_mutant_never_changes_the_signed_user(name: str, batch: int, sources: dict[str, Source]) -> None:
    source = sources[name]
    assert next(violations(source, ours, made(source, f"{name} {batch}"), referee=True), None) is None


def test_mutants_are_many_and_some_harmless(sources: dict[str, Source]) -> None:
    assert len(SOURCES) * len(BATCHES) * MUTANTS >= 20_000
    source = sources["assertion signed"]
    mutants = list(made(source, "harmless"))
    assert len(set(mutants)) > MUTANTS * 0.9
    harmless = [encoded for encoded in mutants if accepted(source, encoded)]
    assert 5 <= len(harmless) <= MUTANTS / 2


def accepted(source: Source, encoded: str) -> bool:
    try:
        ours(source, encoded)
    except SamlError:
        return False
    return True


# What we accept and python3-saml does not: how it says so, and why we do.
EXCEPTIONS = {
    r"Invalid issuer in the Assertion/Response \(expected (\S+), got \s*\1\s*\)": (
        "white space around an Issuer, which is an entity id with white space collapsed (xs:anyURI)"
    ),
}


def referee_agrees(source: Source, encoded: str) -> bool:
    """Whether python3-saml accepts a message, too, or refuses it for one of the reasons that we do not share."""
    try:
        return referee_accepts(source.service, encoded)
    except OneLogin_Saml2_ValidationError as error:
        return any(re.search(pattern, str(error)) for pattern in EXCEPTIONS)


def test_every_refused_mutant_gets_the_one_public_answer(app: Flask, key: SigningKey, other_key: SigningKey) -> None:
    browser = Browser(app, key)
    request, relay_state = browser.begin()
    message = browser.message(request)
    other = message.but(name_id=EVIL, request_id="_request-2")
    mutator = Mutator("posted", etree.tostring(message.signed(key)), (etree.tostring(other.signed(key)),))
    pages, refused = set(), 0
    for number in range(600):
        answer = browser.client.post(
            f"{browser.base}/acs",
            base_url=browser.url,
            data={"SAMLResponse": mutator.mutant(), "RelayState": relay_state},
        )
        if answer.status_code == 303:  # harmless: it has answered the request, the next one needs a new one
            request, relay_state = browser.begin()
            mutator = Mutator(f"posted {number}", etree.tostring(browser.message(request).signed(key)), ())
            continue
        refused += 1
        assert answer.status_code == 400
        pages.add(re.sub(r"\b[0-9a-f]{8}\b", "REFERENCE", answer.text))
    assert refused > 300
    assert len(pages) == 1
    assert REFUSED in pages.pop()


def by_first_assertion(root: etree._Element, covered: etree._Element) -> etree._Element:
    return next(iter(root.iter(f"{{{SAML}}}Assertion")), covered)


def by_last_assertion(root: etree._Element, covered: etree._Element) -> etree._Element:
    return list(root.iter(f"{{{SAML}}}Assertion"))[-1]


def by_what_is_covered(root: etree._Element, covered: etree._Element) -> etree._Element:
    return covered


Choose = Callable[[etree._Element, etree._Element], etree._Element]


def weakened(source: Source, choose: Choose, *, checked: bool = True) -> Verifier:
    """A verifier as many have been written: some signature is good, and the identity is read elsewhere.

    :param choose: the assertion that is read, of the message as it came and the element that the signature covers.
    :param checked: whether there must be a good signature at all.
    """
    true = ours(source, source.encoded).identity

    def weak(source: Source, encoded: str) -> Reading:
        try:
            root = etree.fromstring(base64.b64decode(encoded))
            read = choose(root, good_assertion(root, trust_of(source.service).keys[0]) if checked else root)
            name_id = read.find(f"{{{SAML}}}Subject/{{{SAML}}}NameID")
            subject = (name_id.text or "").strip() if name_id is not None else ""
        except (ValueError, IndexError, etree.XMLSyntaxError) as error:
            raise SamlError(Fault.BAD_SIGNATURE, "refused by the weak verifier") from error
        return Reading(true if subject == ANN else subject, read)

    return weak


def good_assertion(root: etree._Element, key: xmlsec.Key) -> etree._Element:
    """The first assertion that any signature in the message points to, and is good for."""
    for signature in root.iter(f"{{{DS}}}Signature"):
        targets = [reference.get("URI") for reference in signature.iter(f"{{{DS}}}Reference")]
        for assertion in root.iter(f"{{{SAML}}}Assertion"):
            if targets == [f"#{assertion.get('ID')}"] and is_good(signature, assertion, key):
                return assertion
    raise ValueError("no signature is good")


@pytest.mark.parametrize("name", ["assertion signed", "both signed"])
@pytest.mark.parametrize(
    ("choose", "checked"),
    [(by_first_assertion, True), (by_last_assertion, True), (by_what_is_covered, True), (by_first_assertion, False)],
)
def test_mutants_catch_a_weaker_verifier(name: str, choose: Choose, checked: bool, sources: dict[str, Source]) -> None:
    """Identity read from what is not covered, text cut at a comment, no signature asked for: each is found out."""
    source = sources[name]
    verifier = weakened(source, choose, checked=checked)
    mutants = (encoded for batch in BATCHES for encoded in made(source, f"{name} {batch}"))
    assert next(violations(source, verifier, mutants), None) is not None
