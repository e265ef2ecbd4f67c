"""A folder with the files that a full configuration names, and that configuration."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.settings import Settings
from flask_genesys_auth.errors import ConfigurationError

Mapping = dict[str, Any]
Load = Callable[[object], Settings]
Refused = Callable[[object], list[str]]


@pytest.fixture(scope="session")
def key_pair() -> tuple[str, str]:
    """A private key and its certificate, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sp")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def folder(tmp_path: Path, key_pair: tuple[str, str]) -> Path:
    (tmp_path / "sp.key").write_text(key_pair[0])
    (tmp_path / "sp.crt").write_text(key_pair[1])
    (tmp_path / "client-secret").write_text("cl13nt-s3cret\n")
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>")
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Load a mapping whose paths start from the folder."""
    return lambda mapping: load_settings(mapping, base_path=folder, app_name="portal")


@pytest.fixture
def refused(load: Load) -> Refused:
    """Load a wrong mapping and return its problems."""

    def problems(mapping: object) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load(mapping)
        return list(caught.value.problems)

    return problems


@pytest.fixture
def full() -> Mapping:
    """A configuration that sets every key."""
    return {
        "public_url": "https://portal.acme.example",
        "allow_http": False,
        "default_contact_center": "acme",
        "state_url": "sqlite:///state.sqlite3",
        "state_namespace": "portal-1",
        "state_timeout": 1.5,
        "accounts_url": "sqlite:///people.sqlite3",
        "extra_steps": ["acme.steps:Badge"],
        "protect_by_default": False,
        "unprotected_endpoints": ["health", "api.version"],
        "take_over_loaders": True,
        "unauthenticated_status": 403,
        "saml_url_prefix": "/sso/saml/",
        "login_view": "auth.login",
        "languages": ["de_ch", "en"],
        "texts": {"de-CH": {"sign_in": "Anmelden"}},
        "salesforce_headers": {"session": "X-Session", "identity": "X-Identity"},
        "session": {"idle_timeout": 60, "absolute_timeout": 3600, "revocation_delay": 2},
        "passwords": {
            "memory_kib": 64,
            "iterations": 1,
            "lanes": 2,
            "concurrent_hashes": 1,
            "reuse_verified_for": 0,
        },
        "throttle": {
            "per_account": "1 per minute",
            "per_account_anywhere": "2/hour",
            "per_address": "3 per 2 days",
            "storage_url": "redis://:hunter2@redis.acme.example/1",
            "fallback": False,
        },
        "contact_centers": {
            "acme": {
                "id": "acme 7",
                "hosts": ["Portal.ACME.example", "portal.acme.example:8443", "::1", "[::1]:5000"],
                "domains": ["ACME.example"],
                "realms": ["ACME"],
                "public_url": "HTTPS://Portal.Acme.Example:443/cc/",
                "allow_http": False,
                "allowed_origins": ["https://Acme.Lightning.force.com", "http://127.0.0.1:3000"],
                "salesforce": {
                    "enabled": True,
                    "organizations": ["00D000000000001", "00D000000000002EAA"],
                    "identity_hosts": ["Login.Salesforce.com", "https://test.salesforce.com"],
                    "redirect_hosts": [".my.salesforce.com", "http://127.0.0.1:5002", "http://[::1]:5002"],
                    "allow_http": False,
                    "match": "email",
                    "timeout": 2,
                    "reuse_verified_for": 30,
                },
                "configuration_server": {
                    "enabled": True,
                    "directory": "genesys",
                    "url": "https://gws.internal/base/",
                    "allow_http": False,
                    "client_id": "portal",
                    "client_secret": {"file": "client-secret"},
                    "tenant": "Production",
                    "contact_center_id": "cc-1",
                    "match": "login_name",
                    "max_failures": "1 per hour",
                    "timeout": 1.5,
                    "reuse_verified_for": 0,
                },
                "web_services": {"enabled": True},
                "saml": {
                    "enabled": True,
                    "entity_id": "https://portal.acme.example/sp",
                    "signing_key": {"file": "sp.key"},
                    "signing_certificate": {"file": "sp.crt"},
                    "clock_skew": 30,
                    "request_lifetime": 300,
                    "force_authn_after_logout": True,
                    "identity_providers": {
                        "okta": {
                            "metadata": "idp.xml",
                            "entity_id": "https://idp.example",
                            "match": "attribute:mail",
                            "email_domains": ["ACME.example"],
                            "name_id_format": "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
                            "want_response_signed": True,
                        }
                    },
                },
            },
            "beta": {"web_services": {}},
        },
    }
