"""Refusals before any signature check: sizes, encodings, document types, structure."""

from __future__ import annotations

import base64
import contextlib
import resource
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from flask_genesys_auth.saml.documents import SAML, SAMLP
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.transport import LARGEST_ENCODED
from flask_genesys_auth.testing.saml_messages import Hook, encode

from ..conftest import REQUEST_ID, Consumer


def rewritten(consumer: Consumer, change: Callable[[bytes], bytes]) -> str:
    """The genuine message, its bytes changed."""
    return base64.b64encode(change(base64.b64decode(consumer.genuine.encoded(consumer.key)))).decode()


def test_line_breaks_in_base64_are_accepted(consumer: Consumer) -> None:
    encoded = consumer.genuine.encoded(consumer.key)
    wrapped = "\r\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
    assert consumer.accept(wrapped).subject == "ann@acme.example"


def test_utf8_declaration_is_accepted(consumer: Consumer) -> None:
    declared = rewritten(consumer, lambda data: b'<?xml version="1.0" encoding="UTF-8"?>\n' + data)
    assert consumer.accept(declared).subject == "ann@acme.example"


@pytest.mark.parametrize("encoded", ["", "a", "%%%", "\u00e9\u00e9\u00e9\u00e9", "PHg+", "PHgvPg==x", "/////w=="])
def test_garbage_is_refused(consumer: Consumer, encoded: str) -> None:
    consumer.refuses(encoded, Fault.MALFORMED)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: b"<!DOCTYPE x>" + data, Fault.FORBIDDEN_XML),
        (lambda data: b'<!DOCTYPE x [<!ENTITY a "b">]>' + data, Fault.FORBIDDEN_XML),
        (lambda data: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + data, Fault.FORBIDDEN_XML),
        (lambda data: b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + data, Fault.FORBIDDEN_XML),
        (lambda data: data.replace(b"ann@", b"&a;@"), Fault.MALFORMED),
        (lambda data: b"<!-- x -->" + data, Fault.FORBIDDEN_XML),
        (lambda data: data + b"<?x y?>", Fault.FORBIDDEN_XML),
        (lambda data: b'<?xml version="1.0" encoding="UTF-7"?>' + data, Fault.FORBIDDEN_XML),
        (lambda data: b'<?xml version="1.0" encoding="iso-8859-1"?>' + data, Fault.FORBIDDEN_XML),
        (lambda data: data.decode().encode("utf-16"), Fault.MALFORMED),
        (lambda data: data[:-5], Fault.MALFORMED),
        (lambda data: data + data, Fault.MALFORMED),
    ],
)
def test_other_documents_are_refused(consumer: Consumer, change: Callable[[bytes], bytes], fault: Fault) -> None:
    consumer.refuses(rewritten(consumer, change), fault)


def test_billion_laughs_are_refused_unexpanded(consumer: Consumer) -> None:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(10))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a10;</x>'
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    consumer.refuses(base64.b64encode(bomb.encode()).decode(), Fault.FORBIDDEN_XML)
    # Expanded they are 20 GB; the process has grown by less than 100 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_huge_message_is_refused_before_decoding(consumer: Consumer) -> None:
    consumer.refuses("A" * (LARGEST_ENCODED + 4), Fault.TOO_LARGE)


def test_deep_wide_and_crowded_documents_are_refused(consumer: Consumer) -> None:
    deep = "<x>" * 40 + "</x>" * 40
    crowded = "<x>" + "<y/>" * 6000 + "</x>"
    wide = "<x " + " ".join(f'a{n}="1"' for n in range(40)) + "/>"
    for text in (deep, crowded, wide):
        consumer.refuses(base64.b64encode(text.encode()).decode(), Fault.FORBIDDEN_XML)


def changed(hook: Callable[[etree._Element], object]) -> Hook:
    def change(response: etree._Element) -> None:
        hook(response)

    return change


def the_assertion(response: etree._Element) -> etree._Element:
    found = response.find(f"{{{SAML}}}Assertion")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hook", "fault"),
    [
        (lambda response: response.remove(the_assertion(response)), Fault.STRUCTURE),
        (lambda response: setattr(response, "tag", f"{{{SAMLP}}}ArtifactResponse"), Fault.STRUCTURE),
        (lambda response: setattr(response, "tag", "{urn:other}Response"), Fault.STRUCTURE),
        (lambda response: response.set("Version", "1.1"), Fault.STRUCTURE),
        (lambda response: the_assertion(response).set("Version", "2.1"), Fault.STRUCTURE),
        (lambda response: response.attrib.pop("ID"), Fault.STRUCTURE),
        (lambda response: response.append(etree.Element("{urn:x}More")), Fault.STRUCTURE),
        (lambda response: response.remove(response[1]), Fault.STRUCTURE),
        (lambda response: response[1].append(etree.Element(f"{{{SAMLP}}}StatusCode")), Fault.STRUCTURE),
        (lambda response: response.set("ID", the_assertion(response).get("ID", "")), Fault.DUPLICATE_ID),
        (lambda response: response[1].set("id", the_assertion(response).get("ID", "")), Fault.DUPLICATE_ID),
        (
            lambda response: response[1].set("{http://www.w3.org/XML/1998/namespace}id", "_x"),
            Fault.DUPLICATE_ID,
        ),
    ],
)
def test_message_of_another_structure_is_refused(
    consumer: Consumer, hook: Callable[[etree._Element], object], fault: Fault
) -> None:
    consumer.refuses(consumer.genuine.but(after_signing=changed(hook)), fault)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("EncryptedAssertion", Fault.STRUCTURE),
        ("EncryptedID", Fault.ENCRYPTED),
        ("EncryptedAttribute", Fault.ENCRYPTED),
    ],
)
def test_encrypted_parts_are_refused_beside_plain_ones(consumer: Consumer, name: str, fault: Fault) -> None:
    def encrypt(response: etree._Element) -> None:
        etree.SubElement(response, f"{{{SAML}}}{name}")

    consumer.refuses(consumer.genuine.but(after_signing=encrypt), fault)


def test_status_of_the_provider_is_logged(consumer: Consumer) -> None:
    bad = "urn:oasis:names:tc:SAML:2.0:status:Responder"

    def without_assertion(response: etree._Element) -> None:
        response.remove(the_assertion(response))
        text = etree.SubElement(response[1], f"{{{SAMLP}}}StatusMessage")
        text.text = "MFA\x85failed"

    message = consumer.genuine.but(status=bad, sign_assertion=False, before_signing=without_assertion)
    error = consumer.refuses(message, Fault.STATUS)
    assert bad in error.detail
    assert "MFA failed" in error.detail
    consumer.refuses(consumer.genuine.but(status=bad), Fault.STATUS)


def test_claimed_request_is_read_from_either_element(consumer: Consumer) -> None:
    def claimed(**changes: str | None) -> str:
        return admit(consumer.genuine.but(**changes).encoded(consumer.key)).in_response_to

    assert claimed() == REQUEST_ID
    assert claimed(in_response_to=None) == REQUEST_ID
    assert claimed(in_response_to=None, confirmed_request=None) == ""


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_without_errors(data: bytes) -> None:
    with contextlib.suppress(SamlError):
        admit(base64.b64encode(data).decode())
    with contextlib.suppress(SamlError):
        admit(data.decode("latin-1"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_is_refused_without_errors(data: st.DataObject) -> None:
    whole = base64.b64decode(_UNSIGNED)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 30, len(whole))))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    with contextlib.suppress(SamlError):
        admit(base64.b64encode(damaged).decode())


_UNSIGNED = encode(
    etree.fromstring(
        f'<p:Response xmlns:p="{SAMLP}" xmlns="{SAML}" ID="_r" Version="2.0"><Issuer>i</Issuer><p:Status>'
        '<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></p:Status><Assertion ID="_a" '
        'Version="2.0"><Issuer>i</Issuer><Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/>'
        "<SignatureValue>AA==</SignatureValue></Signature><Subject><NameID>ann</NameID></Subject></Assertion>"
        "</p:Response>"
    )
)


@pytest.mark.parametrize("declare", ["<q xmlns:n='{}'/>", '<q xmlns = "{}"/>', '<q xmlns:n=\n"{}"><n:a/></q>'])
def test_long_namespace_is_refused(consumer: Consumer, declare: str) -> None:
    def message(length: int) -> str:
        text = etree.tostring(consumer.genuine.signed(consumer.key)).decode()
        held = f"<samlp:Extensions>{declare.format('u' * length)}</samlp:Extensions><samlp:Status>"
        return base64.b64encode(text.replace("<samlp:Status>", held).encode()).decode()

    assert admit(message(256)).assertion is not None
    with pytest.raises(SamlError, match="namespace of more than 256") as refusal:
        admit(message(257))
    assert refusal.value.reason is Fault.FORBIDDEN_XML


def test_attributes_are_counted_over_all_elements(consumer: Consumer) -> None:
    def message(elements: int) -> str:
        text = etree.tostring(consumer.genuine.signed(consumer.key)).decode()
        many = "<a " + " ".join(f'a{number}=""' for number in range(30)) + "/>"
        held = f"<samlp:Extensions>{many * elements}</samlp:Extensions><samlp:Status>"
        return base64.b64encode(text.replace("<samlp:Status>", held).encode()).decode()

    assert admit(message(100)).assertion is not None
    with pytest.raises(SamlError, match="attributes") as refusal:
        admit(message(170))
    assert refusal.value.reason is Fault.FORBIDDEN_XML
