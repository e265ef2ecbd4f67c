"""The checks of SAML."""

from __future__ import annotations

import datetime
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from flask_genesys_auth.checks import Check
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import KeyPair
from flask_genesys_auth.saml import library_check
from flask_genesys_auth.saml.keys import der_of, pem_of, rsa_bits
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.testing.server import RawServer, unused_url

from ..provider_site import HOUR, Clock, Site, keys_after_looking, metadata_of, okta, service_at

DAY = 24 * HOUR


@pytest.fixture
def clock() -> Clock:
    # The keys of the tests have been made a moment ago.
    return Clock(time.time())


@pytest.fixture
def path(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(metadata_of(key))
    return path


def named(service: ServiceProvider, name: str) -> Check:
    (found,) = [check for check in service.checks() if check.name == f"saml.acme.{name}"]
    return found


def names(service: ServiceProvider, status: str, *, ask: bool = True) -> set[str]:
    return {check.name.removeprefix("saml.acme.") for check in service.checks(ask=ask) if check.status == status}


def ending(when: float, bits: int = 2048) -> SigningKey:
    """A key whose certificate ends then."""
    made = rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ending")])
    ends = datetime.datetime.fromtimestamp(int(when), datetime.timezone.utc)
    certificate = x509.CertificateBuilder(name, name, made.public_key(), 1, ends - datetime.timedelta(400), ends).sign(
        made, hashes.SHA256()
    )
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return SigningKey(pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


def own(key: SigningKey) -> dict[str, Any]:
    return {"signing_key": Secret(key.private_pem), "signing_certificate": key.certificate_pem}


def test_healthy_configuration_has_no_warnings(path: Path, clock: Clock, key: SigningKey) -> None:
    pair = KeyPair(Secret(key.private_pem), key.certificate_pem)
    with service_at(path, clock, **own(key), encryption_keys=(pair,)) as service:
        assert {check.status for check in service.checks()} == {"ok"}
        assert names(service, "ok") == {"signing_certificate", "encryption_keys", "okta.metadata", "okta.certificate"}
        clock.pass_(1.5 * HOUR)
        assert named(service, "okta.metadata").finding == f"read 1.5 hours ago from {path}"
        assert "PRIVATE" not in str(service.checks())


def test_missing_signing_key_is_a_warning(path: Path, clock: Clock) -> None:
    with service_at(path, clock) as service:
        check = named(service, "signing_key")
        assert check.status == "warning"
        command = "flask genesys-auth saml keygen --out-key signing.key --out-cert signing.crt"
        assert check.advice == f"generate a key: {command}, then set signing_key and signing_certificate"


@pytest.mark.parametrize("relaxation", ["allow_sha1", "allow_cbc", "allow_rsa15", "allow_unsolicited"])
def test_each_relaxed_setting_is_a_warning(path: Path, clock: Clock, relaxation: str) -> None:
    with service_at(path, clock) as service:
        assert names(service, "warning") == {"signing_key"}
    relaxed: dict[str, Any] = {relaxation: True}
    with service_at(path, clock, **relaxed) as service:
        check = named(service, f"okta.{relaxation}")
        assert (check.status, relaxation in check.advice) == ("warning", True)


@pytest.mark.parametrize(("wants", "warned"), [("true", True), ("1", True), ("false", False)])
def test_required_request_signature_without_key_is_a_warning(
    path: Path, clock: Clock, key: SigningKey, wants: str, warned: bool
) -> None:
    path.write_text(metadata_of(key).replace("Descriptor proto", f'Descriptor WantAuthnRequestsSigned="{wants}" proto'))
    with service_at(path, clock) as service:
        assert ("okta.signed_requests" in names(service, "warning")) is warned
    with service_at(path, clock, **own(key)) as service:
        assert "okta.signed_requests" not in names(service, "warning")


def test_plain_http_to_another_machine_is_a_warning(clock: Clock, other_key: SigningKey) -> None:
    pinned: dict[str, Any] = {"metadata_certificate": other_key.certificate_pem}
    with service_at("http://127.0.0.1:1/metadata", clock, **pinned) as service:
        assert "okta.allow_http" not in names(service, "warning")
    # A name of this machine that does not count as loopback; the fetch fails, and the warning does not depend on it.
    with service_at("http://0.0.0.0:1/metadata", clock, **pinned) as service:
        assert "okta.allow_http" in names(service, "warning")


def test_metadata_that_were_never_fetched_are_a_failure(clock: Clock) -> None:
    with service_at(unused_url(), clock) as service:
        check = named(service, "okta.metadata")
        assert check.status == "failure"
        assert "no connection" in check.finding
        assert "saml refresh acme --provider okta" in check.advice


def test_metadata_are_fetched_to_be_checked(clock: Clock, key: SigningKey) -> None:
    site = Site(metadata_of(key))
    with site.serve(), service_at(site.address, clock) as service:
        assert named(service, "okta.metadata").status == "ok"
        site.fail(503)
        clock.pass_(2 * HOUR)
        keys_after_looking(okta(service))
        check = named(service, "okta.metadata")
        assert check.status == "warning"
        assert "read 2.0 hours ago" in check.finding
        assert "newer ones cannot be used: the server answered HTTP 503" in check.finding
        assert "last good ones remain in use" in check.advice
        site.repair()
        clock.pass_(HOUR)
        keys_after_looking(okta(service))
        assert named(service, "okta.metadata").status == "ok"


@pytest.mark.parametrize(("lives", "status"), [(2 * DAY, "ok"), (0.5 * DAY, "warning"), (0, "failure")])
def test_expiring_metadata_are_reported(
    tmp_path: Path, clock: Clock, key: SigningKey, lives: float, status: str
) -> None:
    path = tmp_path / "idp.xml"
    path.write_text(metadata_of(key, valid_until=clock.now + 3 * DAY))
    with service_at(path, clock) as service:
        clock.pass_(3 * DAY - lives)
        keys_after_looking(okta(service))
        assert named(service, "okta.metadata").status == status


def test_expiring_certificates_are_reported_with_days(tmp_path: Path, clock: Clock, key: SigningKey) -> None:
    soon, gone = ending(clock.now + 10 * DAY + HOUR), ending(clock.now - DAY)
    path = tmp_path / "idp.xml"
    path.write_text(metadata_of(key, soon, gone))
    with service_at(path, clock, **own(soon)) as service:
        assert named(service, "okta.certificate.1").status == "ok"
        second, third = named(service, "okta.certificate.2"), named(service, "okta.certificate.3")
        assert (second.status, "in 10 days" in second.finding) == ("warning", True)
        assert (third.status, "expired at" in third.finding) == ("warning", True)
        mine = named(service, "signing_certificate")
        assert (mine.status, "next_signing_certificate" in mine.advice) == ("warning", True)


def test_unreadable_certificate_expiry_is_not_a_warning(path: Path, clock: Clock, key: SigningKey) -> None:
    ends = x509.load_pem_x509_certificate(key.certificate_pem.encode()).not_valid_after_utc
    der = der_of(key.certificate_pem)
    assert der.count(f"{ends:%y%m%d%H%M%SZ}".encode()) == 1
    month_13 = der.replace(f"{ends:%y%m%d%H%M%SZ}".encode(), f"{ends:%y13%d%H%M%SZ}".encode())
    path.write_text(metadata_of(SigningKey(key.private_pem, pem_of(month_13))))
    with service_at(path, clock) as service:
        check = named(service, "okta.certificate")
        assert (check.status, "cannot be read" in check.finding) == ("ok", True)


def test_plain_http_public_url_is_a_warning(path: Path, clock: Clock) -> None:
    with service_at(path, clock) as service:
        assert "public_url" not in names(service, "warning")
    with service_at(path, clock, public_url="http://portal.acme.example") as service:
        assert "public_url" in names(service, "warning")


def test_short_key_is_a_warning(path: Path, clock: Clock, key: SigningKey) -> None:
    with service_at(path, clock, **own(key)) as service:
        assert named(service, "signing_certificate").finding.count("(RSA, 2048 bits)") == 1
        assert names(service, "warning") == set()
    path.write_text(metadata_of(ending(clock.now + 400 * DAY, bits=1024)))
    with service_at(path, clock, **own(key)) as service:
        check = named(service, "okta.certificate.bits")
        assert (check.status, "1024 bits" in check.finding) == ("warning", True)


def test_only_rsa_keys_have_a_size() -> None:
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "curve")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = x509.CertificateBuilder(name, name, made.public_key(), 1, now, now + datetime.timedelta(1)).sign(
        made, hashes.SHA256()
    )
    assert rsa_bits(certificate.public_bytes(serialization.Encoding.DER)) is None
    assert rsa_bits(b"no certificate") is None


def test_checks_can_avoid_fetching(clock: Clock, key: SigningKey) -> None:
    site = Site(metadata_of(key))
    with site.serve(), service_at(site.address, clock) as service:
        (check,) = [check for check in service.checks(ask=False) if check.name == "saml.acme.okta.metadata"]
        assert (check.status, site.asked) == ("ok", 0)
        assert named(service, "okta.metadata").status == "ok"
        assert site.asked == 1
        known = service.checks(ask=False)
        assert any("hours ago" in check.finding for check in known)


@pytest.mark.parametrize(
    ("ahead", "status", "words"), [(0.0, "ok", "agree"), (-30.0, "warning", "ahead of"), (300.0, "failure", "behind")]
)
def test_the_providers_clock_is_compared(key: SigningKey, ahead: float, status: str, words: str) -> None:
    site = Site(metadata_of(key))
    with site.serve(), service_at(site.address, Clock(time.time() + ahead)) as service:
        (check,) = service.clock_checks()
        assert (check.name, check.status, words in check.finding) == ("saml.acme.okta.clock", status, True)


def test_missing_date_gives_no_clock_check(path: Path, key: SigningKey) -> None:
    with service_at(path, Clock()) as service:
        assert list(service.clock_checks()) == []
    with service_at(f"{unused_url()}/metadata", Clock()) as service:
        assert list(service.clock_checks()) == []
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: some day\r\n\r\n"
    with RawServer([answer]) as server, service_at(f"{server.url}/metadata", Clock()) as service:
        assert list(service.clock_checks()) == []


def test_library_versions_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    check = library_check()
    assert check.status == "ok"
    assert re.search(r"lxml [\d.]+ on libxml2 ([\d.]+), xmlsec [\d.]+ on libxml2 \1$", check.finding)
    monkeypatch.setitem(sys.modules, "xmlsec", SimpleNamespace(get_libxml_compiled_version=lambda: (2, 0, 0)))
    other = library_check()
    assert (other.status, "pip install" in other.advice) == ("warning", True)
