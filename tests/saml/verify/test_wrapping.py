"""Signature wrapping (XSW 1 to 8) and similar copies."""

from __future__ import annotations

import base64
import copy

import pytest
from lxml import etree

from flask_genesys_auth.saml.documents import SAMLP
from flask_genesys_auth.saml.errors import Fault
from flask_genesys_auth.testing.saml_messages import Hook, encode, generate_signing_key

from ..conftest import Consumer
from ..trees import EVIL, REFERENCE, find
from ..twists import (
    evil_assertion_around,
    evil_assertion_first,
    evil_assertion_in_advice,
    evil_assertion_in_extensions,
    evil_assertion_of_another_namespace,
    evil_assertion_with_signature,
    genuine_assertion_in_object,
    genuine_assertion_in_signature,
    wrap_response_beside_signature,
    wrap_response_in_signature,
)


@pytest.mark.parametrize("sign_response", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        evil_assertion_first,
        evil_assertion_around,
        evil_assertion_with_signature,
        genuine_assertion_in_signature,
        evil_assertion_in_extensions,
        genuine_assertion_in_object,
        evil_assertion_in_advice,
        evil_assertion_of_another_namespace,
    ],
)
def test_wrapped_assertion_is_refused(consumer: Consumer, wrap: Hook, sign_response: bool) -> None:
    wrapped = consumer.genuine.but(after_signing=wrap, sign_response=sign_response)
    consumer.refuses(wrapped, Fault.STRUCTURE, Fault.SIGNATURE_FORM)


@pytest.mark.parametrize("wrap", [wrap_response_in_signature, wrap_response_beside_signature])
def test_wrapped_response_is_refused(consumer: Consumer, wrap: Hook) -> None:
    wrapped = consumer.genuine.but(after_signing=wrap, sign_response=True)
    consumer.refuses(wrapped, Fault.STRUCTURE, Fault.DUPLICATE_ID)


def test_signed_duplicates_are_refused(consumer: Consumer) -> None:
    for path in ("saml:Subject/saml:NameID", "saml:Subject", "saml:Conditions"):

        def again(response: etree._Element, path: str = path) -> None:
            element = find(response, f"saml:Assertion/{path}")
            element.addnext(copy.deepcopy(element))

        consumer.refuses(consumer.genuine.but(before_signing=again), Fault.STRUCTURE)


def test_digest_outside_signedinfo_is_refused(consumer: Consumer) -> None:
    """CVE-2024-45409."""

    def smuggle(response: etree._Element) -> None:
        genuine = find(response, f"saml:Assertion/ds:Signature/{REFERENCE}/ds:DigestValue")
        find(response, "saml:Assertion/saml:Subject/saml:NameID").text = EVIL
        detail = etree.SubElement(find(response, "samlp:Status"), f"{{{SAMLP}}}StatusDetail")
        detail.append(copy.deepcopy(genuine))

    consumer.refuses(consumer.genuine.but(after_signing=smuggle), Fault.BAD_SIGNATURE)


@pytest.mark.parametrize("path", ["saml:Subject/saml:NameID", f"ds:Signature/{REFERENCE}/ds:DigestValue"])
@pytest.mark.parametrize("node", [etree.Comment("x"), etree.ProcessingInstruction("x")])
def test_comments_and_instructions_in_text_are_refused(consumer: Consumer, path: str, node: etree._Element) -> None:
    """CVE-2017-11427, CVE-2025-29775: the signature still verifies, and readers see different text."""

    def split(response: etree._Element) -> None:
        element = find(response, f"saml:Assertion/{path}")
        added = copy.deepcopy(node)
        added.tail, element.text = (element.text or "")[4:], (element.text or "")[:4]
        element.append(added)

    consumer.refuses(consumer.genuine.but(after_signing=split), Fault.FORBIDDEN_XML)


def test_signed_message_must_match_the_schema(consumer: Consumer) -> None:
    def untidy(response: etree._Element) -> None:
        find(response, "saml:Assertion/saml:AuthnStatement").set("Mood", "good")

    consumer.refuses(consumer.genuine.but(before_signing=untidy), Fault.SCHEMA)


def test_generated_key_signs_and_has_its_name() -> None:
    made = generate_signing_key("for the occasion")
    assert b"for the occasion" in base64.b64decode(made.certificate)
    assert "PRIVATE" not in repr(made)
    assert encode(etree.Element("x")) == "PHgvPg=="
