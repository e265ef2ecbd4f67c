"""python3-saml's settings for one identity provider; none of its defaults that matter is left to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from ..config.settings import IdentityProvider
from ..errors import ConfigurationError
from .keys import OwnKeys
from .metadata import BINDINGS, Endpoint, ProviderMetadata
from .signatures import load_key
from .trust import Trust

UNSPECIFIED: str = Constants.NAMEID_UNSPECIFIED


class TrustBuilder:
    """Makes the trust of a provider's metadata, with what all trusts of one contact center share.

    :param contact_center: its name.
    :param base: the address under which our own addresses are.
    """

    def __init__(self, keys: OwnKeys, contact_center: str, *, entity_id: str, base: str) -> None:
        self.entity_id = entity_id
        self.acs_url = f"{base}/acs"
        self.slo_url = f"{base}/slo"
        self._keys = keys
        self.contact_center = contact_center

    def path_of(self, settings: IdentityProvider) -> str:
        """Return the dotted path of a provider's table."""
        return f"contact_centers.{self.contact_center}.saml.identity_providers.{settings.name}"

    def check(self, settings: IdentityProvider) -> None:
        """Check what python3-saml pastes into XML as it is, and compares as it is too.

        :raises ConfigurationError: if that would not be XML.
        """
        for value in (self.entity_id, self.acs_url, settings.name_id_format, *settings.authn_context):
            if any(character in value for character in "&<>\"'") or not value.isprintable():
                raise ConfigurationError(
                    f"{self.path_of(settings)}: {value!r} has characters that cannot stand in an address or entity id"
                )

    def trust(self, settings: IdentityProvider, found: ProviderMetadata) -> Trust:
        """Return the trust of one provider as its metadata describe it.

        :raises ConfigurationError: if it does not offer the binding that is configured, or python3-saml refuses them.
        """
        if settings.binding not in found.single_sign_on:
            raise ConfigurationError(
                f"{self.path_of(settings)}.binding: the identity provider offers no SingleSignOnService by "
                f"{settings.binding}, only by {', '.join(found.single_sign_on)}"
            )
        try:
            values = self._values(settings, found)
            toolkit = OneLogin_Saml2_Settings(values)
            referees = tuple(OneLogin_Saml2_Settings(_reading(values, key)) for key in self._keys.decryption_pem)
        except OneLogin_Saml2_Error as error:
            raise ConfigurationError(
                f"{self.path_of(settings)}: python3-saml refuses these settings: {error}"
            ) from error
        keys = tuple(load_key(certificate) for certificate in found.certificates)
        return Trust(settings, found, keys, toolkit, referees or (toolkit,))

    def _values(self, settings: IdentityProvider, found: ProviderMetadata) -> dict[str, Any]:
        return {
            "strict": True,
            "debug": False,
            "sp": self._our_side(settings),
            "idp": {
                "entityId": found.entity_id,
                "singleSignOnService": _service(found.single_sign_on, settings.binding),
                "singleLogoutService": _service(found.single_logout, *BINDINGS),
                "x509certMulti": {
                    "signing": [base64.b64encode(certificate).decode() for certificate in found.certificates]
                },
            },
            "security": self._security(settings),
        }

    def _our_side(self, settings: IdentityProvider) -> dict[str, Any]:
        sp: dict[str, Any] = {
            "entityId": self.entity_id,
            "assertionConsumerService": {"url": self.acs_url, "binding": Constants.BINDING_HTTP_POST},
            "singleLogoutService": {"url": self.slo_url, "binding": Constants.BINDING_HTTP_REDIRECT},
            "NameIDFormat": settings.name_id_format or UNSPECIFIED,
            "x509cert": "",
            "privateKey": "",
        }
        if self._keys.signing is not None:
            sp["x509cert"] = self._keys.signing.certificate
            sp["privateKey"] = self._keys.signing.key.reveal()
        if self._keys.next_signing_certificate:
            sp["x509certNew"] = self._keys.next_signing_certificate
        return sp

    def _security(self, settings: IdentityProvider) -> dict[str, Any]:
        signs = self._keys.signing is not None
        return {
            "authnRequestsSigned": signs,
            "logoutRequestSigned": signs,
            "logoutResponseSigned": signs,
            "wantAssertionsSigned": True,
            "wantMessagesSigned": settings.want_response_signed,
            "wantAttributeStatement": False,
            "wantNameId": settings.match == "name_id",
            "rejectDeprecatedAlgorithm": not settings.allow_sha1,
            "allowRepeatAttributeName": True,
            "allowSingleLabelDomains": True,
            "requestedAuthnContext": list(settings.authn_context) or False,
            "failOnAuthnContextMismatch": bool(settings.authn_context),
            "signatureAlgorithm": Constants.RSA_SHA256,
            "digestAlgorithm": Constants.SHA256,
        }


def _reading(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the same settings for reading alone, with this key: python3-saml decrypts with one key only."""
    signs = dict.fromkeys(("authnRequestsSigned", "logoutRequestSigned", "logoutResponseSigned"), False)
    return {
        **values,
        "sp": {**values["sp"], "x509cert": "", "privateKey": key},
        "security": {**values["security"], **signs},
    }


def _service(endpoints: Mapping[str, Endpoint], *bindings: str) -> dict[str, str]:
    """Return python3-saml's notion of a service: its first endpoint by these bindings, or nothing.

    It is pasted into messages as it is, hence escaped; browsers are sent to the metadata's own address.
    """
    for name in bindings:
        if name in endpoints:
            return {
                "url": escape(endpoints[name].location),
                "responseUrl": escape(endpoints[name].response_location),
                "binding": BINDINGS[name],
            }
    return {}
