"""One contact center as a SAML service provider: everything that can be computed before the first message."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

import xmlsec
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from xmlsec import constants

from ..config.values import ContactCenterSettings, IdentityProvider, Saml
from ..errors import ConfigurationError
from .metadata import ProviderMetadata, read_metadata
from .verify import load_key, protocol_schema

_UNSPECIFIED: str = Constants.NAMEID_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """What one contact center is to its identity provider.

    :param provider: the identity provider's configuration; ``idp_entity_id``, ``sso_url``, ``keys`` and
        ``valid_until`` come from its metadata.
    :param acs_url: our assertion consumer service, from ``public_url``: never from a request's Host.
    :param complete_url: where the browser finishes the login, on the same site.
    :param clock_skew: seconds, the same for every check; ``request_lifetime`` likewise in seconds.
    :param toolkit: python3-saml's settings, for AuthnRequests and our metadata. Holds the signing key.
    :param clock: unix time; tests set it.
    """

    contact_center: str
    provider: IdentityProvider
    entity_id: str
    acs_url: str
    complete_url: str
    idp_entity_id: str
    sso_url: str
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    valid_until: float | None
    clock_skew: int
    request_lifetime: int
    force_authn_after_logout: bool
    signs_requests: bool
    toolkit: OneLogin_Saml2_Settings = field(repr=False)
    clock: Callable[[], float] = time.time

    def metadata_xml(self) -> bytes:
        """Return our metadata, to be given to the identity provider (saml-metadata 2.4.4)."""
        written = self.toolkit.get_sp_metadata()
        return written if isinstance(written, bytes) else str(written).encode()


def build_service_provider(
    center: ContactCenterSettings,
    *,
    public_url: str,
    prefix: str,
    clock: Callable[[], float] = time.time,
) -> ServiceProvider:
    """Read the provider's metadata, load keys, parse the schema: once, at ``init_app``.

    :param public_url: what the outside calls us; the contact center's own wins.
    :param prefix: ``saml_url_prefix``.
    :raises ConfigurationError: if something cannot be used, with its dotted path.
    """
    saml = center.saml
    path = f"contact_centers.{center.name}.saml"
    if saml is None:
        raise ConfigurationError(f"{path}: there is no such table")
    public_url = (center.public_url or public_url).rstrip("/")
    if not public_url:
        raise ConfigurationError(f"{path}: SAML needs public_url, what the outside calls this application")
    try:
        found = read_metadata(saml.identity_provider.metadata, saml.identity_provider.entity_id, clock())
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path}.identity_providers.{saml.identity_provider.name}.metadata: {error}"
        ) from error
    base = f"{public_url}{prefix}/{quote(center.name, safe='')}"
    entity_id = saml.entity_id or f"{base}/metadata"
    protocol_schema()
    return ServiceProvider(
        contact_center=center.name,
        provider=saml.identity_provider,
        entity_id=entity_id,
        acs_url=f"{base}/acs",
        complete_url=f"{base}/complete",
        idp_entity_id=found.entity_id,
        sso_url=found.sso_url,
        keys=tuple(load_key(certificate) for certificate in found.certificates),
        valid_until=found.valid_until,
        clock_skew=saml.clock_skew,
        request_lifetime=saml.request_lifetime,
        force_authn_after_logout=saml.force_authn_after_logout,
        signs_requests=saml.signing_key is not None,
        toolkit=_toolkit(saml, found, entity_id=entity_id, acs_url=f"{base}/acs", path=path),
        clock=clock,
    )


def _toolkit(
    saml: Saml, found: ProviderMetadata, *, entity_id: str, acs_url: str, path: str
) -> OneLogin_Saml2_Settings:
    key = saml.signing_key.reveal() if saml.signing_key is not None else ""
    _check_signing(key, saml.signing_certificate, path)
    for value in (entity_id, acs_url, saml.identity_provider.name_id_format):
        # python3-saml pastes these into XML as they are.
        if any(character in value for character in "&<>\"'") or not value.isprintable():
            raise ConfigurationError(f"{path}: {value!r} has characters that cannot stand in an address or entity id")
    try:
        return OneLogin_Saml2_Settings(_toolkit_values(saml, found, key, entity_id=entity_id, acs_url=acs_url))
    except OneLogin_Saml2_Error as error:
        raise ConfigurationError(f"{path}: python3-saml refuses these settings: {error}") from error


def _toolkit_values(saml: Saml, found: ProviderMetadata, key: str, *, entity_id: str, acs_url: str) -> dict[str, Any]:
    """Return python3-saml's settings; none of its defaults that matter is left to it."""
    signs = bool(key)
    return {
        "strict": True,
        "debug": False,
        "sp": {
            "entityId": entity_id,
            "assertionConsumerService": {"url": acs_url, "binding": Constants.BINDING_HTTP_POST},
            "NameIDFormat": saml.identity_provider.name_id_format or _UNSPECIFIED,
            "x509cert": saml.signing_certificate,
            "privateKey": key,
        },
        "idp": {
            "entityId": found.entity_id,
            # It is pasted into the AuthnRequest as it is; redirects take ServiceProvider.sso_url.
            "singleSignOnService": {"url": escape(found.sso_url), "binding": Constants.BINDING_HTTP_REDIRECT},
            "x509certMulti": {
                "signing": [base64.b64encode(certificate).decode() for certificate in found.certificates]
            },
        },
        "security": {
            "authnRequestsSigned": signs,
            "logoutRequestSigned": signs,
            "logoutResponseSigned": signs,
            "wantAssertionsSigned": True,
            "wantMessagesSigned": saml.identity_provider.want_response_signed,
            "wantAttributeStatement": False,
            "wantNameId": saml.identity_provider.match == "name_id",
            "rejectDeprecatedAlgorithm": True,
            "allowRepeatAttributeName": True,
            "allowSingleLabelDomains": True,
            "requestedAuthnContext": False,
            "failOnAuthnContextMismatch": False,
            "signatureAlgorithm": Constants.RSA_SHA256,
            "digestAlgorithm": Constants.SHA256,
        },
    }


def _check_signing(key: str, certificate: str, path: str) -> None:
    """Sign a probe, so that a key that cannot sign AuthnRequests shows at the start, not at the first login."""
    if not key and not certificate:
        return
    if not key or not certificate:
        raise ConfigurationError(f"{path}: signing_key and signing_certificate belong together, one is missing")
    try:
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(key.encode(), constants.KeyDataFormatPem, None)
        signature = context.sign_binary(b"probe", constants.TransformRsaSha256)
    except (xmlsec.Error, TypeError) as error:
        raise ConfigurationError(f"{path}.signing_key: must be an RSA key in PEM without a password") from error
    try:
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(certificate.encode(), constants.KeyDataFormatCertPem, None)
        context.verify_binary(b"probe", constants.TransformRsaSha256, signature)
    except (xmlsec.Error, TypeError) as error:
        raise ConfigurationError(
            f"{path}.signing_certificate: must be the certificate of signing_key, in PEM"
        ) from error
