"""Metadata of a provider: accepted documents, and refusals with their reasons."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from flask_genesys_auth.saml.documents import MD, as_instant
from flask_genesys_auth.saml.metadata import LIMITS, MetadataRefused, ProviderMetadata, bytes_of, parse_metadata
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata

from ..addresses import IDP, SSO
from ..conftest import NOW
from .conftest import written


def read(path: Path, entity_id: str, now: float) -> ProviderMetadata:
    return parse_metadata(bytes_of(path), entity_id=entity_id, now=now)


def test_metadata_of_one_provider_is_read(tmp_path: Path, genuine: str, key: SigningKey) -> None:
    found = read(written(tmp_path, genuine), "", NOW)
    assert (found.entity_id, found.single_sign_on["redirect"].location, found.valid_until) == (IDP, SSO, None)
    assert found.certificates == (base64.b64decode(key.certificate),)
    assert read(written(tmp_path, genuine), IDP, NOW) == found


def test_entity_id_selects_provider_of_aggregate(tmp_path: Path, genuine: str, key: SigningKey) -> None:
    other = provider_metadata("https://other.example", "https://other.example/sso", (key.certificate,))
    service = f'<EntityDescriptor xmlns="{MD}" entityID="https://sp.example"/>'
    inner = f"<EntitiesDescriptor>{genuine}</EntitiesDescriptor>"
    nested = f'<EntitiesDescriptor xmlns="{MD}">{inner}{service}{other}</EntitiesDescriptor>'
    path = written(tmp_path, nested)
    assert read(path, IDP, NOW).single_sign_on["redirect"].location == SSO
    assert read(path, "https://other.example", NOW).single_sign_on["redirect"].location == "https://other.example/sso"
    with pytest.raises(MetadataRefused, match=r"has 2 identity providers .*set entity_id"):
        read(path, "", NOW)
    with pytest.raises(MetadataRefused, match=r"does not have 'x\"\]'; it has"):
        read(path, 'x"]', NOW)


@pytest.mark.parametrize("where", ["EntityDescriptor", "EntitiesDescriptor"])
def test_entity_in_extensions_is_ignored(tmp_path: Path, genuine: str, where: str) -> None:
    hidden = genuine.replace(IDP, "https://hidden.example").replace(SSO, "https://hidden.example/sso")
    aggregate = f'<EntitiesDescriptor xmlns="{MD}">{genuine}</EntitiesDescriptor>'
    assert read(written(tmp_path, aggregate.replace(genuine, hidden)), "https://hidden.example", NOW).certificates
    root = etree.fromstring(aggregate)
    extensions = etree.fromstring(f'<Extensions xmlns="{MD}">{hidden}</Extensions>')
    next(root.iter(f"{{{MD}}}{where}")).insert(0, extensions)
    path = written(tmp_path, etree.tostring(root))
    assert read(path, "", NOW).entity_id == IDP
    with pytest.raises(MetadataRefused, match=r"does not have 'https://hidden\.example'"):
        read(path, "https://hidden.example", NOW)


def test_text_from_the_document_is_printable(tmp_path: Path, genuine: str) -> None:
    forged = genuine.replace(f'entityID="{IDP}"', f'entityID="x&#10;WARNING forged{"y" * 5000}"')
    with pytest.raises(MetadataRefused) as refusal:
        read(written(tmp_path, forged), IDP, NOW)
    assert str(refusal.value).isprintable()
    assert "forged" in str(refusal.value)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("element", ["EntityDescriptor", "EntitiesDescriptor", "IDPSSODescriptor"])
def test_expired_valid_until_is_refused_anywhere(tmp_path: Path, genuine: str, element: str) -> None:
    def ending(at: float) -> Path:
        root = etree.fromstring(f'<EntitiesDescriptor xmlns="{MD}">{genuine}</EntitiesDescriptor>')
        next(root.iter(f"{{{MD}}}{element}")).set("validUntil", as_instant(at))
        return written(tmp_path, etree.tostring(root))

    assert read(ending(NOW + 1), "", NOW).valid_until == NOW + 1
    with pytest.raises(MetadataRefused, match="have expired: they were valid until"):
        read(ending(NOW), "", NOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: f"<!DOCTYPE x>{text}", "must not have a document type"),
        (lambda text: text[:-9], "not well-formed"),
        (lambda text: "<x/>", "not SAML metadata"),
        (lambda text: text.replace("IDPSSODescriptor", "SPSSODescriptor"), "has no SAML 2.0 identity provider"),
        (lambda text: text.replace("SAML:2.0:protocol", "SAML:1.1:protocol"), "has no SAML 2.0 identity provider"),
        (lambda text: text.replace(f'entityID="{IDP}"', ""), "has no entityID"),
        (
            lambda text: text.replace("bindings:HTTP-", "bindings:SOAP-"),
            "no SingleSignOnService by HTTP-Redirect or HTTP-POST",
        ),
        (lambda text: text.replace("https://idp.example/sso", "javascript:alert(1)//"), "is not an http"),
        (lambda text: text.replace("https://idp.example/sso", "file:///etc/passwd"), "is not an http"),
        (lambda text: text.replace("https://idp.example/sso", "//idp.example/sso"), "is not an http"),
        (lambda text: text.replace("https://idp.example/sso", "https://a:b@idp.example/"), "is not an http"),
        (lambda text: text.replace("https://idp.example/sso", "https://idp.example/sso#part"), "is not an http"),
        (lambda text: text.replace("/sso", "/s so"), "characters that are not allowed in a URL"),
        (lambda text: text.replace('use="signing"', 'use="encryption"'), "no signing certificate"),
        (lambda text: text.replace("<ds:X509Certificate>", "<ds:X509Certificate>!"), "not in base64"),
        (lambda text: text.replace("<ds:X509Certificate>MIIC", "<ds:X509Certificate>AAAA"), "not an X.509 certificate"),
        (lambda text: text.replace("entityID=", 'validUntil="soon" entityID='), "is not an instant"),
    ],
)
def test_unusable_metadata_are_refused_with_reason(
    tmp_path: Path, genuine: str, change: Callable[[str], str], said: str
) -> None:
    assert read(written(tmp_path, genuine), "", NOW).entity_id == IDP
    with pytest.raises(MetadataRefused, match=said):
        read(written(tmp_path, change(genuine)), "", NOW)


def test_huge_and_missing_metadata_are_refused(tmp_path: Path, genuine: str) -> None:
    with pytest.raises(MetadataRefused, match="bytes, more than"):
        read(written(tmp_path, genuine + " " * LIMITS.size), "", NOW)
    with pytest.raises(MetadataRefused, match="cannot be read"):
        read(tmp_path / "none.xml", "", NOW)
