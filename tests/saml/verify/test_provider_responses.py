"""Responses of known identity providers are read; changed ones are refused."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flask_genesys_auth.saml.documents import DS, SAML
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey

from ..addresses import IDP, PUBLIC_URL
from ..conftest import NOW, REQUEST_ID, Consumer, center
from ..shapes import SHAPES, Facts, Shape, entra, google, google_signed_response, okta, signed, simplesaml

Write = Callable[[str], str]


def consumer_for(shape: Shape, metadata_file: Path, key: SigningKey) -> Consumer:
    settings = center(metadata_file, match=shape.match, attributes=dict(shape.attributes))
    service = build_service_provider(settings, public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)
    return Consumer(service, key, MemoryState("tests"))


def facts(service: ServiceProvider, key: SigningKey) -> Facts:
    return Facts(IDP, service.acs_url, service.entity_id, REQUEST_ID, NOW, key)


def written(consumer: Consumer, shape: Shape, change: Write = str) -> bytes:
    """The genuine message; ``change`` is done to the text before it is signed."""
    plain = shape.write(facts(consumer.service, consumer.key))
    changed = change(plain)
    assert change is str or changed != plain
    return signed(changed, consumer.key)


def posted(message: bytes) -> str:
    return base64.b64encode(message).decode()


def by_name(shape: Shape) -> str:
    return shape.name


@pytest.mark.parametrize("shape", SHAPES, ids=by_name)
def test_known_providers_response_is_read(shape: Shape, metadata_file: Path, key: SigningKey) -> None:
    consumer = consumer_for(shape, metadata_file, key)
    login = consumer.accept(posted(written(consumer, shape)))
    assert login.subject == shape.subject
    assert login.attributes == shape.expected


@pytest.mark.parametrize("shape", SHAPES, ids=by_name)
def test_changed_signed_byte_is_refused(shape: Shape, metadata_file: Path, key: SigningKey) -> None:
    consumer = consumer_for(shape, metadata_file, key)
    message = written(consumer, shape)
    assert consumer.accept(posted(message)).subject == shape.subject
    for position in letters_signed(message, random.Random(shape.name), 40):
        changed = bytearray(message)
        changed[position] = ord("y") if changed[position] == ord("x") else ord("x")
        with pytest.raises(SamlError):
            consumer_for(shape, metadata_file, key).accept(posted(bytes(changed)))


def letters_signed(message: bytes, chance: random.Random, count: int) -> list[int]:
    """Places of letters and digits in the assertion.

    Its signature but for SignedInfo is left out, and so are declarations of prefixes, which may repeat others.
    """
    whole = re.search(rb"<(\w+:)?Assertion .*</(\w+:)?Assertion>", message, re.DOTALL)
    assert whole is not None
    left_out: set[int] = set()
    unsigned = rb"</(\w+:)?SignedInfo>.*?</(\w+:)?Signature>|xmlns(:\w+)?=\"[^\"]*\""
    for found in re.finditer(unsigned, message, re.DOTALL):
        left_out.update(range(found.start(), found.end()))
    places = [
        place
        for place in range(whole.start() + 1, whole.end())
        if chr(message[place]).isascii() and chr(message[place]).isalnum() and place not in left_out
    ]
    return chance.sample(places, count)


@pytest.mark.parametrize("shape", SHAPES, ids=by_name)
@pytest.mark.parametrize("break_", [b"\r\n", b"\r"])
def test_line_ends_of_other_systems_change_nothing(
    shape: Shape, break_: bytes, metadata_file: Path, key: SigningKey
) -> None:
    """A parser hands on one line feed for each of them (XML 1.0, 2.11)."""
    consumer = consumer_for(shape, metadata_file, key)
    message = written(consumer, shape, lambda text: text.replace("><", ">\n<"))
    assert b"\n" in message
    login = consumer.accept(posted(message.replace(b"\n", break_)))
    assert (login.subject, login.attributes) == (shape.subject, shape.expected)


@pytest.mark.parametrize("shape", SHAPES, ids=by_name)
def test_signature_with_character_references_is_accepted(shape: Shape, metadata_file: Path, key: SigningKey) -> None:
    """What XML signing in Java writes on Windows."""

    def with_references(value: re.Match[bytes]) -> bytes:
        text = value.group(2)
        return value.group(1) + b"&#13;\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + value.group(3)

    consumer = consumer_for(shape, metadata_file, key)
    message = written(consumer, shape)
    pattern = re.compile(rb"(<(?:\w+:)?SignatureValue>)([^<]*)(</)")
    last = list(pattern.finditer(message))[-1 if message.count(b"SignatureValue>") == 2 else 0]
    lined = message[: last.start()] + with_references(last) + message[last.end() :]
    assert b"&#13;" in lined
    assert consumer.accept(posted(lined)).subject == shape.subject


@pytest.mark.parametrize("algorithm", ["rsa-sha384", "rsa-sha512"])
def test_other_strong_algorithms_are_accepted(algorithm: str, metadata_file: Path, key: SigningKey) -> None:
    shape = Shape(okta)
    consumer = consumer_for(shape, metadata_file, key)
    message = written(consumer, shape, lambda text: text.replace("rsa-sha256", algorithm))
    assert consumer.accept(posted(message)).subject == shape.subject


def test_session_without_an_end_has_none(metadata_file: Path, key: SigningKey) -> None:
    consumer = consumer_for(Shape(google), metadata_file, key)
    assert consumer.accept(posted(written(consumer, Shape(google)))).not_on_or_after is None
    consumer = consumer_for(Shape(simplesaml), metadata_file, key)
    assert consumer.accept(posted(written(consumer, Shape(simplesaml)))).not_on_or_after == NOW + 28800 + 60, "the skew"


def test_advice_may_hold_anything_but_assertions(metadata_file: Path, key: SigningKey) -> None:
    shape = Shape(okta)

    def advise(inside: str) -> Write:
        advice = f'<saml2:Advice xmlns:saml2="{SAML}">{inside}</saml2:Advice>'
        return lambda text: text.replace("</saml2:Conditions>", f"</saml2:Conditions>{advice}")

    for harmless in ("", "<saml2:AssertionURIRef>https://idp.example/1</saml2:AssertionURIRef>", '<k xmlns="urn:k"/>'):
        consumer = consumer_for(shape, metadata_file, key)
        assert consumer.accept(posted(written(consumer, shape, advise(harmless)))).subject == shape.subject
    inner = f'<saml2:Assertion ID="in" Version="2.0" IssueInstant="{facts(consumer.service, key).at(0)}"/>'
    with pytest.raises(SamlError) as refusal:
        consumer.accept(posted(written(consumer, shape, advise(inner))))
    assert refusal.value.reason is Fault.STRUCTURE


def test_value_with_elements_is_refused(metadata_file: Path, key: SigningKey) -> None:
    shape = next(shape for shape in SHAPES if shape.write is simplesaml)
    consumer = consumer_for(shape, metadata_file, key)
    assert "2c5fb7c8" not in str(consumer.accept(posted(written(consumer, shape))).attributes)
    shape = next(shape for shape in SHAPES if shape.write is entra)
    message = written(consumer, shape, lambda text: text.replace(">Ann Onymous<", '>Ann<b xmlns="urn:b"/> Onymous<'))
    with pytest.raises(SamlError) as refusal:
        consumer_for(shape, metadata_file, key).accept(posted(message))
    assert refusal.value.reason is Fault.STRUCTURE


def test_signed_response_with_unsigned_assertion_is_refused(metadata_file: Path, key: SigningKey) -> None:
    shape = Shape(google_signed_response)
    consumer = consumer_for(shape, metadata_file, key)
    with pytest.raises(SamlError) as refusal:
        consumer.accept(posted(written(consumer, shape)))
    assert refusal.value.reason is Fault.NOT_SIGNED
    assert "configure the provider to sign assertions" in refusal.value.detail
    assert consumer.accept(posted(written(consumer, replace(shape, write=google)))).subject == shape.subject


def test_provider_responses_differ(metadata_file: Path, key: SigningKey) -> None:
    """The table covers what it says: both signed and one signed, every prefix of signatures, values of all kinds."""
    consumer = consumer_for(SHAPES[0], metadata_file, key)
    texts = [written(consumer, shape).decode() for shape in SHAPES]
    assert {text.count("SignatureValue>") for text in texts} == {2, 4}
    for sign in (
        f'<Signature xmlns="{DS}"',
        "<ds:Signature ",
        "<dsig:Signature ",
        'PrefixList="xs"',
        "X509SubjectName",
    ):
        assert any(sign in text for text in texts), sign


def test_list_of_prefixes_is_bounded(metadata_file: Path, key: SigningKey) -> None:
    """Each is looked up at every element before any key is asked: ten thousand were two minutes of work."""
    shape = Shape(okta)
    consumer = consumer_for(shape, metadata_file, key)

    def listing(count: int) -> Write:
        prefixes = " ".join(["xs", *(f"p{number}" for number in range(count - 1))])
        return lambda text: text.replace('PrefixList="xs"', f'PrefixList="{prefixes}"')

    assert consumer.accept(posted(written(consumer, shape, listing(16)))).subject == shape.subject
    with pytest.raises(SamlError) as refusal:
        consumer.accept(posted(written(consumer, shape, listing(17))))
    assert refusal.value.reason is Fault.SIGNATURE_FORM


def test_namespaces_in_scope_are_bounded(metadata_file: Path, key: SigningKey) -> None:
    """What was declared beside does not count: many elements may each declare their own."""
    shape = Shape(okta)
    consumer = consumer_for(shape, metadata_file, key)

    def declaring(outer: int, inner: int, count: int) -> Write:
        inside = f"<q xmlns='urn:q' {declared(outer)}><r {declared(inner)}/></q>" * count
        advice = f'<saml2:Advice xmlns:saml2="{SAML}">{inside}</saml2:Advice>'
        return lambda text: text.replace("</saml2:Conditions>", f"</saml2:Conditions>{advice}")

    def declared(count: int) -> str:
        return " ".join(f'xmlns:n{number}="urn:{number}"' for number in range(count))

    assert consumer.accept(posted(written(consumer, shape, declaring(9, 9, 100)))).subject == shape.subject
    for outer, inner in ((30, 0), (0, 30), (15, 15)):
        with pytest.raises(SamlError) as refusal:
            consumer.accept(posted(written(consumer, shape, declaring(outer, inner, 1))))
        assert refusal.value.reason is Fault.FORBIDDEN_XML
