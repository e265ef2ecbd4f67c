"""What does not even reach the signature check: sizes, encodings, document types, structure."""

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

from ..conftest import REQUEST_ID, Door


def rewritten(door: Door, change: Callable[[bytes], bytes]) -> str:
    """The genuine message, its bytes changed."""
    return base64.b64encode(change(base64.b64decode(door.genuine.encoded(door.key)))).decode()


def test_line_breaks_in_base64_are_accepted(door: Door) -> None:
    encoded = door.genuine.encoded(door.key)
    wrapped = "\r\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
    assert door.enter(wrapped).subject == "ann@acme.example"


def test_utf8_declaration_is_accepted(door: Door) -> None:
    declared = rewritten(door, lambda data: b'<?xml version="1.0" encoding="UTF-8"?>\n' + data)
    assert door.enter(declared).subject == "ann@acme.example"


@pytest.mark.parametrize("encoded", ["", "a", "%%%", "\u00e9\u00e9\u00e9\u00e9", "PHg+", "PHgvPg==x", "/////w=="])
def test_what_is_no_message_is_refused(door: Door, encoded: str) -> None:
    door.refuses(encoded, Fault.MALFORMED)


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
def test_document_of_another_kind_is_refused(door: Door, change: Callable[[bytes], bytes], fault: Fault) -> None:
    door.refuses(rewritten(door, change), fault)


def test_billion_laughs_are_refused_unexpanded(door: Door) -> None:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(10))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a10;</x>'
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    door.refuses(base64.b64encode(bomb.encode()).decode(), Fault.FORBIDDEN_XML)
    # Expanded they are 20 GB; the process has grown by less than 100 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_huge_message_is_refused_before_it_is_decoded(door: Door) -> None:
    door.refuses("A" * (LARGEST_ENCODED + 4), Fault.TOO_LARGE)


def test_deep_wide_and_crowded_documents_are_refused(door: Door) -> None:
    deep = "<x>" * 40 + "</x>" * 40
    crowded = "<x>" + "<y/>" * 6000 + "</x>"
    wide = "<x " + " ".join(f'a{n}="1"' for n in range(40)) + "/>"
    for text in (deep, crowded, wide):
        door.refuses(base64.b64encode(text.encode()).decode(), Fault.FORBIDDEN_XML)


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
    door: Door, hook: Callable[[etree._Element], object], fault: Fault
) -> None:
    door.refuses(door.genuine.but(after_signing=changed(hook)), fault)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("EncryptedAssertion", Fault.STRUCTURE),
        ("EncryptedID", Fault.ENCRYPTED),
        ("EncryptedAttribute", Fault.ENCRYPTED),
    ],
)
def test_encrypted_parts_are_refused_beside_plain_ones(door: Door, name: str, fault: Fault) -> None:
    def encrypt(response: etree._Element) -> None:
        etree.SubElement(response, f"{{{SAML}}}{name}")

    door.refuses(door.genuine.but(after_signing=encrypt), fault)


def test_bad_news_from_the_provider_is_named_in_the_log(door: Door) -> None:
    bad = "urn:oasis:names:tc:SAML:2.0:status:Responder"

    def without_assertion(response: etree._Element) -> None:
        response.remove(the_assertion(response))
        text = etree.SubElement(response[1], f"{{{SAMLP}}}StatusMessage")
        text.text = "MFA\x85failed"

    message = door.genuine.but(status=bad, sign_assertion=False, before_signing=without_assertion)
    error = door.refuses(message, Fault.STATUS)
    assert bad in error.detail
    assert "MFA failed" in error.detail
    door.refuses(door.genuine.but(status=bad), Fault.STATUS)


def test_claimed_request_is_found_in_the_response_or_in_the_assertion(door: Door) -> None:
    def claimed(**changes: str | None) -> str:
        return admit(door.genuine.but(**changes).encoded(door.key)).in_response_to

    assert claimed() == REQUEST_ID
    assert claimed(in_response_to=None) == REQUEST_ID
    assert claimed(in_response_to=None, confirmed_request=None) == ""


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_a_refusal(data: bytes) -> None:
    with contextlib.suppress(SamlError):
        admit(base64.b64encode(data).decode())
    with contextlib.suppress(SamlError):
        admit(data.decode("latin-1"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_change_to_a_message_does_worse_than_a_refusal(data: st.DataObject) -> None:
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
def test_a_namespace_that_canonicalization_would_repeat_at_length_is_refused(door: Door, declare: str) -> None:
    def message(length: int) -> str:
        text = etree.tostring(door.genuine.signed(door.key)).decode()
        held = f"<samlp:Extensions>{declare.format('u' * length)}</samlp:Extensions><samlp:Status>"
        return base64.b64encode(text.replace("<samlp:Status>", held).encode()).decode()

    assert admit(message(256)).assertion is not None
    with pytest.raises(SamlError, match="namespace of more than 256") as refusal:
        admit(message(257))
    assert refusal.value.reason is Fault.FORBIDDEN_XML


def test_attributes_are_counted_over_all_elements(door: Door) -> None:
    def message(elements: int) -> str:
        text = etree.tostring(door.genuine.signed(door.key)).decode()
        many = "<a " + " ".join(f'a{number}=""' for number in range(30)) + "/>"
        held = f"<samlp:Extensions>{many * elements}</samlp:Extensions><samlp:Status>"
        return base64.b64encode(text.replace("<samlp:Status>", held).encode()).decode()

    assert admit(message(100)).assertion is not None
    with pytest.raises(SamlError, match="attributes") as refusal:
        admit(message(170))
    assert refusal.value.reason is Fault.FORBIDDEN_XML
