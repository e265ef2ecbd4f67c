"""One contact center as a SAML service provider: everything that can be computed before the first message."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xmlsec
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from xmlsec import constants

from ..config.values import ContactCenterSettings, IdentityProvider, Saml
from ..errors import ConfigurationError
from .metadata import BINDINGS, ProviderMetadata, read_metadata
from .trust import Trust, TrustedProvider
from .verify import load_key, protocol_schema

_UNSPECIFIED: str = Constants.NAMEID_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """What one contact center is to its identity providers.

    :param providers: by the name of their tables, in the configuration's order.
    :param public_url: what the outside calls us; our addresses come from it, never from a request's Host.
    :param acs_url: our assertion consumer service, and ``slo_url`` our single logout service.
    :param complete_url: where the browser finishes the login, on the same site.
    :param clock_skew: seconds, the same for every check; ``request_lifetime`` likewise in seconds.
    :param signs: there is a signing key, so that all we send is signed.
    :param decryption_keys: those that may decrypt what providers send.
    :param clock: unix time; tests set it.
    """

    contact_center: str
    providers: Mapping[str, TrustedProvider]
    entity_id: str
    public_url: str
    acs_url: str
    slo_url: str
    complete_url: str
    clock_skew: int
    request_lifetime: int
    cross_check: bool
    force_authn_after_logout: bool
    signs: bool
    decryption_keys: tuple[xmlsec.Key, ...] = field(default=(), repr=False)
    clock: Callable[[], float] = time.time

    def metadata_xml(self) -> bytes:
        """Return our metadata, to be given to the identity providers (saml-metadata 2.4.4)."""
        written = next(iter(self.providers.values())).current().toolkit.get_sp_metadata()
        return written if isinstance(written, bytes) else str(written).encode()


def build_service_provider(
    center: ContactCenterSettings,
    *,
    public_url: str,
    prefix: str,
    clock: Callable[[], float] = time.time,
) -> ServiceProvider:
    """Read the providers' metadata, load keys, parse the schema: once, at ``init_app``.

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
    base = f"{public_url}{prefix}/{quote(center.name, safe='')}"
    protocol_schema()
    desk = _Desk(saml, path, entity_id=saml.entity_id or f"{base}/metadata", base=base)
    return ServiceProvider(
        contact_center=center.name,
        providers={name: _provider(one, desk, path, clock) for name, one in saml.identity_providers.items()},
        entity_id=desk.entity_id,
        public_url=public_url,
        acs_url=desk.acs_url,
        slo_url=desk.slo_url,
        complete_url=f"{base}/complete",
        clock_skew=saml.clock_skew,
        request_lifetime=saml.request_lifetime,
        cross_check=saml.cross_check,
        force_authn_after_logout=saml.force_authn_after_logout,
        signs=saml.signing_key is not None,
        clock=clock,
    )


def _provider(settings: IdentityProvider, desk: _Desk, path: str, clock: Callable[[], float]) -> TrustedProvider:
    try:
        found = read_metadata(Path(settings.metadata), settings.entity_id, clock())
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}.identity_providers.{settings.name}.metadata: {error}") from error
    return TrustedProvider(settings, found, desk.trust)


class _Desk:
    """What all trusts of one contact center share: our names and our keys, checked once.

    :param path: the dotted path of the contact center's ``saml`` table.
    :param base: the address under which our own addresses are.
    """

    def __init__(self, saml: Saml, path: str, *, entity_id: str, base: str) -> None:
        self.entity_id = entity_id
        self.acs_url = f"{base}/acs"
        self.slo_url = f"{base}/slo"
        self._saml = saml
        self._path = path
        self._key = saml.signing_key.reveal() if saml.signing_key is not None else ""
        _check_signing(self._key, saml.signing_certificate, path)

    def trust(self, settings: IdentityProvider, found: ProviderMetadata) -> Trust:
        """Return the trust of one provider as its metadata describe it.

        :raises ConfigurationError: if it does not offer the binding that is configured, or python3-saml refuses them.
        """
        if settings.binding not in found.single_sign_on:
            raise ConfigurationError(
                f"{self._path}.identity_providers.{settings.name}.binding: the identity provider offers no "
                f"SingleSignOnService by {settings.binding}, only by {', '.join(found.single_sign_on)}"
            )
        for value in (self.entity_id, self.acs_url, settings.name_id_format):
            # python3-saml pastes these into XML as they are.
            if any(character in value for character in "&<>\"'") or not value.isprintable():
                raise ConfigurationError(
                    f"{self._path}: {value!r} has characters that cannot stand in an address or entity id"
                )
        try:
            toolkit = OneLogin_Saml2_Settings(self._values(settings, found))
        except OneLogin_Saml2_Error as error:
            raise ConfigurationError(f"{self._path}: python3-saml refuses these settings: {error}") from error
        return Trust(settings, found, tuple(load_key(certificate) for certificate in found.certificates), toolkit)

    def _values(self, settings: IdentityProvider, found: ProviderMetadata) -> dict[str, Any]:
        """Return python3-saml's settings; none of its defaults that matter is left to it."""
        signs = bool(self._key)
        return {
            "strict": True,
            "debug": False,
            "sp": {
                "entityId": self.entity_id,
                "assertionConsumerService": {"url": self.acs_url, "binding": Constants.BINDING_HTTP_POST},
                "NameIDFormat": settings.name_id_format or _UNSPECIFIED,
                "x509cert": self._saml.signing_certificate,
                "privateKey": self._key,
            },
            "idp": {
                "entityId": found.entity_id,
                # It is pasted into the AuthnRequest as it is; browsers are sent to the metadata's own.
                "singleSignOnService": {
                    "url": escape(found.single_sign_on[settings.binding].location),
                    "binding": BINDINGS[settings.binding],
                },
                "x509certMulti": {
                    "signing": [base64.b64encode(certificate).decode() for certificate in found.certificates]
                },
            },
            "security": {
                "authnRequestsSigned": signs,
                "logoutRequestSigned": signs,
                "logoutResponseSigned": signs,
                "wantAssertionsSigned": True,
                "wantMessagesSigned": settings.want_response_signed,
                "wantAttributeStatement": False,
                "wantNameId": settings.match == "name_id",
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
