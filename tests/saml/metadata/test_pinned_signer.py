"""With a pinned signer, only metadata that its key signed are read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.saml.documents import DS, MD
from flask_genesys_auth.saml.keys import der_of
from flask_genesys_auth.saml.metadata import MetadataRefused, ProviderMetadata, parse_metadata
from flask_genesys_auth.testing.saml_messages import SigningKey, sign

from ..addresses import IDP
from ..provider_site import BEGIN, Clock, metadata_of, service_at, signed, signed_root

EVIL = "https://evil.example"


def read(data: bytes, signer: SigningKey, entity_id: str = "") -> ProviderMetadata:
    return parse_metadata(data, entity_id=entity_id, now=BEGIN, signer=der_of(signer.certificate_pem))


@pytest.fixture
def genuine(key: SigningKey, other_key: SigningKey) -> etree._Element:
    """The metadata of a provider that signs messages with ``key``, published under ``other_key``."""
    return signed_root(metadata_of(key), other_key)


def test_metadata_signed_by_pinned_key_are_read(
    genuine: etree._Element, key: SigningKey, other_key: SigningKey
) -> None:
    found = read(etree.tostring(genuine), other_key)
    assert (found.entity_id, found.certificates) == (IDP, (der_of(key.certificate_pem),))


def evil_copy(root: etree._Element) -> etree._Element:
    """Return an unsigned copy that sends browsers elsewhere."""
    evil = etree.fromstring(etree.tostring(root).replace(b"https://idp.example/sso", EVIL.encode()))
    for signature in evil.findall(f"{{{DS}}}Signature"):
        evil.remove(signature)
    return evil


def strip(root: etree._Element) -> etree._Element:
    return evil_copy(root)


def tamper(root: etree._Element) -> etree._Element:
    root[1][-1].set("Location", EVIL)
    return root


def wrap_under_the_genuine_id(root: etree._Element) -> etree._Element:
    """The genuine document becomes a child of an aggregate that bears its ID and holds its signature."""
    outer = etree.Element(f"{{{MD}}}EntitiesDescriptor", ID="_metadata")
    genuine = copy.deepcopy(root)
    outer.append(genuine[0])
    outer.append(evil_copy(root))
    outer.append(genuine)
    return outer


def wrap_under_another_id(root: etree._Element) -> etree._Element:
    outer = etree.Element(f"{{{MD}}}EntitiesDescriptor", ID="_outer")
    genuine = copy.deepcopy(root)
    outer.append(genuine[0])
    outer.append(evil_copy(root))
    outer.append(genuine)
    return outer


def wrap_with_the_signature_inside(root: etree._Element) -> etree._Element:
    outer = etree.Element(f"{{{MD}}}EntitiesDescriptor", ID="_outer")
    outer.append(evil_copy(root))
    outer.append(copy.deepcopy(root))
    return outer


def hide_the_genuine_in_the_signature(root: etree._Element) -> etree._Element:
    evil = evil_copy(root)
    signature = copy.deepcopy(root[0])
    holder = etree.SubElement(signature, f"{{{DS}}}Object")
    holder.append(copy.deepcopy(root))
    evil.insert(0, signature)
    return evil


def hide_the_genuine_in_extensions(root: etree._Element) -> etree._Element:
    evil = evil_copy(root)
    evil.set("ID", "_evil")
    evil.insert(0, copy.deepcopy(root[0]))
    holder = etree.Element(f"{{{MD}}}Extensions")
    holder.append(copy.deepcopy(root))
    evil.insert(1, holder)
    return evil


def claim_the_id_by_xml_id(root: etree._Element) -> etree._Element:
    evil = hide_the_genuine_in_extensions(root)
    evil.set("ID", "_metadata")
    evil[1].set("{http://www.w3.org/XML/1998/namespace}id", "_metadata")
    return evil


def sign_twice(root: etree._Element) -> etree._Element:
    root.insert(0, copy.deepcopy(root[0]))
    return root


def without_an_id(root: etree._Element) -> etree._Element:
    del root.attrib["ID"]
    return root


def reference_to(uri: str) -> Callable[[etree._Element], etree._Element]:
    def change(root: etree._Element) -> etree._Element:
        next(root.iter(f"{{{DS}}}Reference")).set("URI", uri)
        return root

    return change


ATTACKS = [
    strip,
    tamper,
    wrap_under_the_genuine_id,
    wrap_under_another_id,
    wrap_with_the_signature_inside,
    hide_the_genuine_in_the_signature,
    hide_the_genuine_in_extensions,
    claim_the_id_by_xml_id,
    sign_twice,
    without_an_id,
    reference_to(""),
    reference_to("file:///etc/hostname"),
    reference_to("#elsewhere"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_metadata_not_signed_by_pinned_key_are_refused(
    genuine: etree._Element, other_key: SigningKey, attack: Callable[[etree._Element], etree._Element]
) -> None:
    assert EVIL not in str(read(etree.tostring(genuine), other_key))
    with pytest.raises(MetadataRefused, match=r"root is not signed|signature does not match metadata_certificate"):
        read(etree.tostring(attack(genuine)), other_key)


def test_other_signer_with_its_certificate_is_refused(key: SigningKey, other_key: SigningKey) -> None:
    assert read(signed(metadata_of(key), other_key), other_key).entity_id == IDP
    # The signature carries the certificate of ``key``, which the metadata themselves publish.
    with pytest.raises(MetadataRefused, match="signature does not match metadata_certificate"):
        read(signed(metadata_of(key), key), other_key)


@pytest.mark.parametrize(
    ("algorithm", "accepted"), [("RsaSha512", True), ("RsaSha1", False), ("RsaMd5", False), ("HmacSha256", False)]
)
def test_metadata_signed_with_a_weak_algorithm_are_refused(
    genuine: etree._Element, key: SigningKey, other_key: SigningKey, algorithm: str, accepted: bool
) -> None:
    if accepted:
        assert read(etree.tostring(signed_root(metadata_of(key), other_key, algorithm)), other_key).entity_id == IDP
        return
    method = next(genuine.iter(f"{{{DS}}}SignatureMethod"))
    names = {"RsaSha1": "http://www.w3.org/2000/09/xmldsig#rsa-sha1", "RsaMd5": "rsa-md5", "HmacSha256": "hmac-sha256"}
    more = "http://www.w3.org/2001/04/xmldsig-more#"
    method.set("Algorithm", names[algorithm] if "#" in names[algorithm] else more + names[algorithm])
    with pytest.raises(MetadataRefused, match="signature does not match metadata_certificate"):
        read(etree.tostring(genuine), other_key)


def test_really_signed_with_sha1_is_refused(key: SigningKey, other_key: SigningKey) -> None:
    root = etree.fromstring(metadata_of(key))
    root.set("ID", "_metadata")
    strong = copy.deepcopy(root)
    sign(strong, other_key)
    assert read(etree.tostring(strong), other_key).entity_id == IDP
    sign(root, other_key, "RsaSha1", "Sha1")
    with pytest.raises(MetadataRefused, match="signature does not match metadata_certificate"):
        read(etree.tostring(root), other_key)


def test_comments_change_nothing_signed_or_not(genuine: etree._Element, key: SigningKey, other_key: SigningKey) -> None:
    plain = parse_metadata(metadata_of(key).encode(), entity_id="", now=BEGIN)
    text = etree.tostring(genuine).replace(
        b"<md:IDPSSODescriptor", b"<!-- a comment --><?an instruction?><md:IDPSSODescriptor"
    )
    certificate = text.replace(b"<ds:X509Certificate>MII", b"<ds:X509Certificate>M<!-- -->II")
    for commented in (text, certificate, b"<!-- before -->" + certificate + b"<!-- after -->"):
        assert read(commented, other_key) == plain
        assert parse_metadata(commented, entity_id="", now=BEGIN) == plain


def test_signed_entity_in_signed_aggregate_is_read(key: SigningKey, other_key: SigningKey) -> None:
    inner = metadata_of(other_key, entity_id="https://other.example")
    aggregate = f'<EntitiesDescriptor xmlns="{MD}">{metadata_of(key)}{signed(inner, key).decode()}</EntitiesDescriptor>'
    document = signed(aggregate.replace('ID="_metadata"', 'ID="_inner"').replace("#_metadata", "#_inner"), other_key)
    assert read(document, other_key, IDP).entity_id == IDP
    assert read(document, other_key, "https://other.example").certificates == (der_of(other_key.certificate_pem),)


def test_pinned_signer_applies_to_files(tmp_path: Path, key: SigningKey, other_key: SigningKey) -> None:
    path = tmp_path / "idp.xml"
    path.write_bytes(signed(metadata_of(key), other_key))
    pinned = other_key.certificate_pem
    with service_at(path, Clock(), metadata_certificate=pinned) as service:
        assert service.providers["okta"].current().entity_id == IDP
    path.write_text(metadata_of(key))
    with service_at(path, Clock()) as service:
        assert service.providers["okta"].current().entity_id == IDP
    with pytest.raises(ConfigurationError, match=r"okta\.metadata: .*idp\.xml: the root is not signed"):
        service_at(path, Clock(), metadata_certificate=pinned).__enter__()
    for wrong in ("none", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"):
        with pytest.raises(ConfigurationError, match=r"okta\.metadata_certificate: must be a certificate"):
            service_at(path, Clock(), metadata_certificate=wrong).__enter__()
