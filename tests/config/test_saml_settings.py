"""The SAML tables: several providers, metadata URLs, keys, and keys that require others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.config import rules
from flask_genesys_auth.config.settings import IdentityProvider, KeyPair, Saml

from .conftest import Load, Mapping, Refused

SAML = "contact_centers.acme.saml"
OKTA = f"{SAML}.identity_providers.okta"
PLAIN_HTTP = "is plain http and could leave the machine: use https, or set allow_http = true in the same table"
ADDRESS = "https://idp.example/federation/metadata.xml?appid=1%2F2"


def table(saml: Mapping | None = None, **provider: Any) -> Mapping:
    """A contact center with one identity provider."""
    providers = {"okta": {"metadata": "idp.xml", **provider}}
    center = {"saml": {"identity_providers": providers, **(saml or {})}}
    return {"public_url": "https://portal.acme.example", "contact_centers": {"acme": center}}


def saml_of(load: Load, mapping: Mapping) -> Saml:
    found = load(mapping).contact_centers["acme"].saml
    assert found is not None
    return found


def okta(load: Load, mapping: Mapping) -> IdentityProvider:
    return saml_of(load, mapping).identity_providers["okta"]


def test_every_key_of_a_provider_is_kept(load: Load, key_pair: tuple[str, str]) -> None:
    given: Mapping = {
        "metadata": ADDRESS,
        "metadata_refresh": 600,
        "metadata_certificate": key_pair[1],
        "entity_id": "https://idp.example",
        "binding": "post",
        "allow_unsolicited": True,
        "match": "attribute:mail",
        "link_by": "user_name",
        "email_domains": ["ACME.example"],
        "name_id_format": "urn:x",
        "authn_context": ["urn:b", "urn:a"],
        "force_authn": True,
        "single_logout": False,
        "want_response_signed": True,
        "allow_sha1": True,
        "allow_cbc": True,
        "allow_rsa15": True,
        "provision": True,
        "attributes": {"groups": "memberOf", "email": "mail", "first_name": ""},
        "role_map": {"CC-Agents": "ROLE_AGENT"},
        "sync_roles": True,
    }
    assert okta(load, table(**given)) == IdentityProvider(
        "okta",
        **{
            **given,
            "email_domains": frozenset({"acme.example"}),
            "authn_context": ("urn:b", "urn:a"),
            "attributes": {"groups": "memberOf", "email": "mail"},
        },
    )


def test_several_providers_keep_their_order(load: Load) -> None:
    mapping = table()
    mapping["contact_centers"]["acme"]["saml"]["identity_providers"]["entra"] = {"metadata": ADDRESS}
    assert list(saml_of(load, mapping).identity_providers) == ["okta", "entra"]


def test_shared_metadata_need_an_entity_id_each(load: Load, refused: Refused) -> None:
    def both(**entra: str) -> Mapping:
        mapping = table(entity_id="https://one.example")
        mapping["contact_centers"]["acme"]["saml"]["identity_providers"]["entra"] = {"metadata": "idp.xml", **entra}
        return mapping

    assert len(saml_of(load, both(entity_id="https://two.example")).identity_providers) == 2
    assert refused(both(entity_id="https://one.example")) == [
        f"{SAML}.identity_providers.entra.metadata: is the same as in {OKTA}: set a different entity_id in each"
    ]


def test_encryption_keys_need_their_certificates(
    load: Load, refused: Refused, folder: Path, key_pair: tuple[str, str]
) -> None:
    pair = {"key": {"file": "sp.key"}, "certificate": {"file": "sp.crt"}}
    (found,) = saml_of(load, table({"encryption_keys": [pair]})).encryption_keys
    assert isinstance(found, KeyPair)
    assert (found.key.reveal(), found.certificate) == tuple(text.removesuffix("\n") for text in key_pair)
    assert "PRIVATE" not in repr(found)
    path = f"{SAML}.encryption_keys"
    assert refused(table({"encryption_keys": [pair, {"key": {"file": "sp.key"}}]})) == [
        f"{path}.1.certificate: is required"
    ]
    swapped = {"key": pair["certificate"], "certificate": pair["key"]}
    assert refused(table({"encryption_keys": [swapped]})) == [
        f"{path}.0.key: must be a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)",
        f"{path}.0.certificate: must be exactly one certificate in PEM, without a private key or any other text",
    ]
    (folder / "both.pem").write_text(key_pair[1] + key_pair[0])
    mixed = {**pair, "certificate": {"file": "both.pem"}}
    assert refused(table({"encryption_keys": [mixed]})) == [
        f"{path}.0.certificate: must be exactly one certificate in PEM, without a private key or any other text"
    ]
    assert refused(table({"encryption_keys": pair})) == [f"{path}: must be a list of tables, not a table"]
    assert refused(table({"encryption_keys": ["x"]})) == [f"{path}.0: must be a table"]


@pytest.mark.parametrize("key", ["sign_metadata", "next_signing_certificate"])
def test_signing_options_require_a_signing_key(
    load: Load, refused: Refused, key: str, key_pair: tuple[str, str]
) -> None:
    value: Any = True if key == "sign_metadata" else key_pair[1]
    signing = {"signing_key": {"file": "sp.key"}, "signing_certificate": {"file": "sp.crt"}}
    assert getattr(saml_of(load, table({key: value, **signing})), key)
    assert refused(table({key: value})) == [f"{SAML}.{key}: requires signing_key: set it, or remove this key"]


@pytest.mark.parametrize(
    ("provider", "findings"),
    [
        ({"link_by": "user_name"}, ["email_domains: is required with link_by"]),
        ({"role_map": {"a": "R"}}, ["attributes.groups: is required with role_map"]),
        (
            {"sync_roles": True},
            ["role_map: is required with sync_roles", "attributes.groups: is required with sync_roles"],
        ),
        (
            {"metadata_refresh": 600},
            ["metadata_refresh: is not used with a metadata file, which is read again when it changes"],
        ),
        (
            {"metadata": "http://idp.example/m"},
            [f"metadata: http://idp.example/m {PLAIN_HTTP}"],
        ),
        (
            {"metadata": "http://idp.example/m", "allow_http": True},
            ["metadata_certificate: is required with metadata on plain http"],
        ),
        ({"metadata": "https://idp.example/m#x"}, ["metadata: must not have a fragment (#)"]),
        (
            {"metadata": "https://idp.example/m m"},
            ["metadata: must have its special characters percent-encoded"],
        ),
        (
            {"name_id_format": "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"},
            ['name_id_format: requests transient names, which never match an account: set match = "attribute:NAME"'],
        ),
        ({"role_map": ["a"], "attributes": {"groups": "g"}}, ["role_map: must be a table, not a list"]),
        (
            {"role_map": {"a": "R,S"}, "attributes": {"groups": "g"}},
            ["role_map.a: must be a role of at most 100 visible characters without comma or space"],
        ),
        ({"attributes": {"phone": "x"}}, ["attributes.phone: is not a known key: remove it"]),
        (
            {"metadata_certificate": "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"},
            ["metadata_certificate: must be exactly one certificate in PEM, without a private key or any other text"],
        ),
    ],
)
def test_contradictions_of_a_provider_are_reported(
    load: Load, refused: Refused, provider: Mapping, findings: list[str]
) -> None:
    assert okta(load, table()).name == "okta"
    assert refused(table(**provider)) == [f"{OKTA}.{finding}" for finding in findings]


def test_metadata_on_loopback_may_use_plain_http(load: Load) -> None:
    assert okta(load, table(metadata="http://127.0.0.1:5002/metadata")).metadata == "http://127.0.0.1:5002/metadata"


def test_group_names_are_kept_as_written(load: Load) -> None:
    given = {"Contact Center Agents": "ROLE_AGENT", "ALLOW_SHA1": "ROLE_SUPERVISOR"}
    assert dict(okta(load, table(role_map=given, attributes={"groups": "g"})).role_map) == given


def test_email_domains_are_not_folded() -> None:
    assert rules.domain("STRA\u00dfE.example") == rules.domain("strasse.example")
    assert rules.email_domain("STRA\u00dfE.example") == "stra\u00dfe.example" != rules.email_domain("strasse.example")
