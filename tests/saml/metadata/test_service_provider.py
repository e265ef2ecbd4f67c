"""Settings, addresses and stored requests of a service provider."""

from __future__ import annotations

import base64
import dataclasses
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import xmlsec
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ContactCenterSettings
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.saml.documents import MD, SAML
from flask_genesys_auth.saml.requests import (
    Login,
    Proven,
    begin_login,
    find_login,
    finish_login,
    keep_proven,
    reference_of,
    take_proven,
)
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey

from ..addresses import PUBLIC_URL, SSO
from ..conftest import center, trust_of
from .conftest import written


def test_missing_binding_is_an_error(tmp_path: Path, genuine: str) -> None:
    both = build_service_provider(center(written(tmp_path, genuine)), public_url=PUBLIC_URL, prefix="/saml")
    assert set(trust_of(both).metadata.single_sign_on) == {"redirect", "post"}
    only_post = center(written(tmp_path, genuine.replace("bindings:HTTP-Redirect", "bindings:SOAP")))
    with pytest.raises(ConfigurationError, match=r"okta\.binding: .* by redirect, only by post"):
        build_service_provider(only_post, public_url=PUBLIC_URL, prefix="/saml")


def test_addresses_come_from_the_configuration(metadata_file: Path, service: ServiceProvider) -> None:
    assert service.acs_url == f"{PUBLIC_URL}/saml/acme/acs"
    assert service.complete_url == f"{PUBLIC_URL}/saml/acme/complete"
    assert service.entity_id == f"{PUBLIC_URL}/saml/acme/metadata"
    own = dataclasses.replace(center(metadata_file), public_url="https://own.example/app/")
    assert own.saml is not None
    named = dataclasses.replace(own, saml=dataclasses.replace(own.saml, entity_id="urn:acme"))
    built = build_service_provider(named, public_url=PUBLIC_URL, prefix="/sso")
    assert (built.acs_url, built.entity_id) == ("https://own.example/app/sso/acme/acs", "urn:acme")


def test_our_metadata_state_our_requirements(service: ServiceProvider) -> None:
    root = etree.fromstring(service.metadata_xml())
    role = root[0]
    assert root.get("entityID") == service.entity_id
    assert (role.get("WantAssertionsSigned"), role.get("AuthnRequestsSigned")) == ("true", "false")
    assert root.find(f".//{{{MD}}}AssertionConsumerService[@Location='{service.acs_url}']") is not None


def signing(metadata_file: Path, key: SigningKey, **changes: object) -> ContactCenterSettings:
    """A contact center that signs its requests."""
    made = center(metadata_file)
    assert made.saml is not None
    values: dict[str, object] = {
        "signing_key": Secret(key.private_pem),
        "signing_certificate": key.certificate_pem,
        **changes,
    }
    return dataclasses.replace(made, saml=dataclasses.replace(made.saml, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signing_certificate": ""}, "must be set together"),
        ({"signing_key": None}, "must be set together"),
        ({"signing_key": Secret("no key")}, "must be an RSA key"),
        ({"signing_certificate": "none"}, "must be the certificate of signing_key"),
        ({"entity_id": "a&b"}, "characters that are not allowed"),
    ],
)
def test_unusable_settings_are_refused_at_start(
    metadata_file: Path, other_key: SigningKey, changes: dict[str, object], said: str
) -> None:
    good = build_service_provider(signing(metadata_file, other_key), public_url=PUBLIC_URL, prefix="/saml")
    assert good.keys.signing is not None
    assert "PRIVATE" not in repr(good)
    with pytest.raises(ConfigurationError, match=said):
        build_service_provider(signing(metadata_file, other_key, **changes), public_url=PUBLIC_URL, prefix="/saml")


def test_certificate_of_another_key_is_refused(metadata_file: Path, key: SigningKey, other_key: SigningKey) -> None:
    mixed = signing(metadata_file, key, signing_certificate=other_key.certificate_pem)
    with pytest.raises(ConfigurationError, match="must be the certificate of signing_key"):
        build_service_provider(mixed, public_url=PUBLIC_URL, prefix="/saml")


def test_incomplete_saml_settings_are_refused(metadata_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="requires public_url"):
        build_service_provider(center(metadata_file), public_url="", prefix="/saml")
    with pytest.raises(ConfigurationError, match="this table does not exist"):
        build_service_provider(ContactCenterSettings("acme", "acme"), public_url=PUBLIC_URL, prefix="/saml")
    with pytest.raises(ConfigurationError, match=r"contact_centers\.acme\.saml\.identity_providers\.okta\.metadata"):
        build_service_provider(center(tmp_path / "none.xml"), public_url=PUBLIC_URL, prefix="/saml")
    with pytest.raises(ConfigurationError, match="python3-saml refuses"):
        build_service_provider(center(metadata_file), public_url="ldap://x", prefix="/saml")


def sent(location: str) -> tuple[etree._Element, dict[str, list[str]]]:
    fields = parse_qs(urlsplit(location).query)
    inflated = zlib.decompress(base64.b64decode(fields["SAMLRequest"][0]), -zlib.MAX_WBITS)
    return etree.fromstring(inflated), fields


def test_request_is_stored_until_answered(service: ServiceProvider) -> None:
    state = MemoryState("tests")
    begun = begin_login(service, trust_of(service), state, return_to="/desk?x=1")
    request, fields = sent(begun.location)
    assert begun.location.startswith(f"{SSO}&SAMLRequest=")
    assert request.get("Destination") == SSO
    assert request.get("AssertionConsumerServiceURL") == service.acs_url
    assert request.get("ForceAuthn") is None
    assert request.findtext(f"{{{SAML}}}Issuer") == service.entity_id
    assert "Signature" not in fields
    kept = find_login(state, request.get("ID", ""))
    assert kept is not None
    assert (kept.return_to, kept.contact_center, kept.provider) == ("/desk?x=1", "acme", "okta")
    assert kept.begun_by(begun.nonce)
    assert not kept.begun_by(begun.nonce + "x")
    assert kept.made_with(fields["RelayState"][0])
    assert not kept.made_with("/desk")
    assert begun.reference == reference_of(kept.request_id)
    assert finish_login(state, kept)
    assert not finish_login(state, kept)
    assert find_login(state, kept.request_id) is None
    assert find_login(state, "") is None


def test_secrets_are_stored_as_hashes(service: ServiceProvider) -> None:
    state = MemoryState("tests")
    begun = begin_login(service, trust_of(service), state, return_to="/")
    request, fields = sent(begun.location)
    kept = find_login(state, request.get("ID", ""))
    assert kept is not None
    assert begun.nonce not in repr(kept)
    assert fields["RelayState"][0] not in repr(kept)
    proven = Proven(Login("okta", "ann", "ann", "s", None), "acme", "/", kept)
    code = keep_proven(state, proven, 60)
    assert len(base64.urlsafe_b64decode(code + "=")) == 32
    assert take_proven(state, code) == proven
    assert take_proven(state, code) is None


def test_request_is_signed_and_forces_authentication(metadata_file: Path, other_key: SigningKey) -> None:
    service = build_service_provider(signing(metadata_file, other_key), public_url=PUBLIC_URL, prefix="/saml")
    begun = begin_login(service, trust_of(service), MemoryState("tests"), return_to="/", force_authn=True)
    request, fields = sent(begun.location)
    assert request.get("ForceAuthn") == "true"
    query = urlsplit(begun.location).query
    octets = query[query.index("SAMLRequest=") :].split("&Signature=")[0]
    names = dict(part.split("=", 1) for part in octets.split("&"))
    data = "&".join(f"{name}={names[name]}" for name in ("SAMLRequest", "RelayState", "SigAlg") if name in names)
    if "SigAlg" not in names:
        data += "&SigAlg=" + query.split("SigAlg=")[1].split("&")[0]
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(other_key.certificate_pem.encode(), constants.KeyDataFormatCertPem, None)
    signature = base64.b64decode(fields["Signature"][0])
    context.verify_binary(data.encode(), constants.TransformRsaSha256, signature)
    with pytest.raises(xmlsec.Error):
        context.verify_binary(data.encode() + b"x", constants.TransformRsaSha256, signature)
    assert etree.fromstring(service.metadata_xml())[0].get("AuthnRequestsSigned") == "true"


def test_incompatible_libraries_name_the_cure(tmp_path: Path) -> None:
    (tmp_path / "xmlsec.py").write_text('raise RuntimeError("lxml & xmlsec libxml2 library version mismatch")')
    program = (
        "import flask_genesys_auth.errors as e\n"
        "try:\n    import flask_genesys_auth.saml\n"
        "except e.ConfigurationError as error:\n    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "libxml2 library version mismatch" in ran.stdout
    assert 'pip install "lxml>=' in ran.stdout


def test_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_genesys_auth import saml

    monkeypatch.setitem(sys.modules, "xmlsec", None)
    with pytest.raises(ConfigurationError, match=r"SAML cannot start with lxml \d\S+ with xmlsec \d"):
        saml.check_libraries()
    # Nothing is installed where no place is looked at.
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigurationError, match=r"SAML cannot start with lxml \(missing\) with xmlsec \(missing\)"):
        saml.check_libraries()
