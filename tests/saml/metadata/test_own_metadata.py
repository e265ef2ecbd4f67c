"""Our own metadata."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import IdentityProvider, KeyPair
from flask_genesys_auth.saml.documents import DS, MD, as_instant
from flask_genesys_auth.saml.keys import der_of
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.saml.signatures import check_signature, covered, load_key, read_form
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key
from tests.servers import missing, require

from ..provider_site import Clock, metadata_of, service_at
from ..simplesaml import WWW

_READ_BY_PHP = """<?php
require "/usr/share/simplesamlphp/lib/_autoload.php";
$parser = \\SimpleSAML\\Metadata\\SAMLParser::parseString(file_get_contents($argv[1]));
echo json_encode($parser->getMetadata20SP());
"""
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"


@pytest.fixture
def path(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(metadata_of(key))
    return path


@pytest.fixture(scope="session")
def third_key() -> SigningKey:
    return generate_signing_key("a third one")


def pair(key: SigningKey) -> KeyPair:
    return KeyPair(Secret(key.private_pem), key.certificate_pem)


def own(key: SigningKey) -> dict[str, Any]:
    return {"signing_key": Secret(key.private_pem), "signing_certificate": key.certificate_pem}


def valid(document: bytes) -> etree._Element:
    """Return the document's root, once python3-saml has found it valid against the schema of metadata."""
    settings = OneLogin_Saml2_Settings.__new__(OneLogin_Saml2_Settings)
    settings._debug = False
    assert settings.validate_metadata(document) == []
    return etree.fromstring(document)


def written(service: ServiceProvider) -> etree._Element:
    return valid(service.metadata_xml())


def certificates(root: etree._Element, use: str) -> list[bytes]:
    found = root.iterfind(f".//{{{MD}}}KeyDescriptor[@use='{use}']//{{{DS}}}X509Certificate")
    return [base64.b64decode(element.text or "") for element in found]


@pytest.fixture
def clock() -> Clock:
    return Clock(2e9)  # python3-saml compares validUntil with the machine's own clock


def test_metadata_without_keys_offer_no_logout(path: Path, clock: Clock) -> None:
    with service_at(path, clock) as service:
        root = written(service)
        (role,) = root
        (acs,) = role.findall(f"{{{MD}}}AssertionConsumerService")
        assert (root.get("entityID"), acs.get("Location")) == (service.entity_id, service.acs_url)
        assert acs.get("Binding") == "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
        assert (role.get("AuthnRequestsSigned"), role.get("WantAssertionsSigned")) == ("false", "true")
        assert role.findall(f"{{{MD}}}SingleLogoutService") == []
        assert role.findall(f"{{{MD}}}KeyDescriptor") == []


def test_metadata_with_signing_key_offer_logout(path: Path, clock: Clock, key: SigningKey) -> None:
    with service_at(path, clock, **own(key)) as service:
        role = written(service)[0]
        offered = {
            one.get("Binding", "").rpartition(":")[2]: one.get("Location")
            for one in role.findall(f"{{{MD}}}SingleLogoutService")
        }
        assert offered == {"HTTP-Redirect": service.slo_url, "HTTP-POST": service.slo_url}
        assert (role.get("AuthnRequestsSigned"), role.get("WantAssertionsSigned")) == ("true", "true")


def test_all_certificates_are_published_while_keys_roll_over(
    path: Path, clock: Clock, key: SigningKey, other_key: SigningKey, third_key: SigningKey
) -> None:
    keys: dict[str, Any] = {
        "next_signing_certificate": other_key.certificate_pem,
        "encryption_keys": (pair(third_key), pair(key)),
    }
    with service_at(path, clock, **own(key), **keys) as service:
        root = written(service)
        assert certificates(root, "signing") == [der_of(one.certificate_pem) for one in (key, other_key)]
        assert certificates(root, "encryption") == [der_of(one.certificate_pem) for one in (third_key, key)]
        methods = {one.get("Algorithm", "") for one in root.iter(f"{{{MD}}}EncryptionMethod")}
        assert methods == {
            "http://www.w3.org/2009/xmlenc11#aes128-gcm",
            "http://www.w3.org/2009/xmlenc11#aes256-gcm",
            "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
        }


def test_validity_counts_from_the_moment_of_asking(path: Path, clock: Clock) -> None:
    with service_at(path, clock, metadata_lifetime=3600) as service:
        for _ in range(2):
            clock.pass_(1000)
            root = written(service)
            assert (root.get("validUntil"), root.get("cacheDuration")) == (as_instant(clock.now + 3600), "PT1800S")


def test_metadata_are_signed_only_when_configured(path: Path, clock: Clock, key: SigningKey) -> None:
    with service_at(path, clock, **own(key)) as service:
        assert written(service).find(f"{{{DS}}}Signature") is None
    with service_at(path, clock, **own(key), sign_metadata=True) as service:
        root = written(service)
        signature = root[0]
        assert signature.tag == f"{{{DS}}}Signature"
        form = read_form(signature, root)
        check_signature(form, (load_key(der_of(key.certificate_pem)),))
        assert covered(form).get("entityID") == service.entity_id


def test_every_requested_name_id_format_is_listed(path: Path, clock: Clock, tmp_path: Path, key: SigningKey) -> None:
    formats = (EMAIL, "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", EMAIL)
    providers = {
        f"idp{place}": IdentityProvider(f"idp{place}", path, name_id_format=name) for place, name in enumerate(formats)
    }
    providers["okta"] = IdentityProvider("okta", path)
    with service_at(path, clock, identity_providers=providers) as service:
        listed = [one.text for one in written(service).iter(f"{{{MD}}}NameIDFormat")]
        assert listed == [*formats[:2], "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"]


def test_private_keys_are_never_handed_out(
    path: Path, clock: Clock, key: SigningKey, other_key: SigningKey, third_key: SigningKey
) -> None:
    # The operator keeps key and certificate in one file.
    both = KeyPair(Secret(third_key.private_pem), third_key.private_pem + third_key.certificate_pem)
    keys: dict[str, Any] = {
        "signing_key": Secret(key.private_pem),
        "signing_certificate": key.certificate_pem + key.private_pem,
        "next_signing_certificate": other_key.private_pem + other_key.certificate_pem,
        "encryption_keys": (both,),
    }
    for sign in (False, True):
        with service_at(path, clock, **keys, sign_metadata=sign) as service:
            document = service.metadata_xml().decode()
            assert len(certificates(valid(document.encode()), "signing")) == 2
            squeezed = "".join(document.split())
            for one in (key, other_key, third_key):
                assert one.private_pem.splitlines()[-3] not in squeezed
            assert "PRIVATE" not in document
            assert "PRIVATE" not in repr(service)
            assert "PRIVATE" not in repr(service.keys)


@pytest.mark.parametrize("name", ["https://sp.example/?a=1&b=2", 'urn:"<x>&amp;', "urn:it's"])
def test_metadata_are_well_formed_with_odd_names(path: Path, clock: Clock, key: SigningKey, name: str) -> None:
    with service_at(path, clock, **own(key)) as service:
        odd: ServiceProvider = dataclasses.replace(
            service,
            entity_id=name,
            slo_url=f"https://x.example/{name}",
            name_id_formats=(name, name + "2"),
        )
        root = etree.fromstring(odd.metadata_xml())
        assert root.get("entityID") == name
        locations = {one.get("Location") for one in root.iter(f"{{{MD}}}SingleLogoutService")}
        assert locations == {f"https://x.example/{name}"}
        assert [one.text for one in root.iter(f"{{{MD}}}NameIDFormat")] == [name, name + "2"]


@pytest.mark.server
def test_simplesamlphp_reads_all_of_it(
    path: Path, clock: Clock, tmp_path: Path, key: SigningKey, other_key: SigningKey, third_key: SigningKey
) -> None:
    php = require("php", "php-cli")
    if not WWW.is_dir():
        missing("SimpleSAMLphp is not installed: apt-get install simplesamlphp php-xml php-mbstring")
    rolling: dict[str, Any] = {
        "next_signing_certificate": other_key.certificate_pem,
        "encryption_keys": (pair(third_key), pair(key)),
        "sign_metadata": True,
    }
    document, program = tmp_path / "sp.xml", tmp_path / "read.php"
    program.write_text(_READ_BY_PHP)
    with service_at(path, clock, **own(key), **rolling) as service:
        document.write_bytes(service.metadata_xml())
        ran = subprocess.run([php, str(program), str(document)], capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout)
        assert found["entityid"] == service.entity_id
        assert found["expire"] == clock.now + 172800
        assert [one["Location"] for one in found["AssertionConsumerService"]] == [service.acs_url]
        assert [one["Location"] for one in found["SingleLogoutService"]] == [service.slo_url] * 2
        keys = [(one["signing"], one["encryption"], base64.b64decode(one["X509Certificate"])) for one in found["keys"]]
        assert keys == [
            (True, False, der_of(key.certificate_pem)),
            (True, False, der_of(other_key.certificate_pem)),
            (False, True, der_of(third_key.certificate_pem)),
            (False, True, der_of(key.certificate_pem)),
        ]
        assert found["validate.authnrequest"] is found["saml20.sign.assertion"] is True
