"""What we send to a provider by the POST binding (saml-bindings 3.5): signed here, put into a form by the web."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils

if TYPE_CHECKING:
    from .settings import ServiceProvider


def sign_message(xml: str, service: ServiceProvider) -> bytes:
    """Return a message of ours with an enveloped signature behind its Issuer (saml-core 5.4).

    Without a signing key it is returned as it is.

    :param xml: what python3-saml has built; its root has an ID and an Issuer.
    """
    signing = service.signing
    if signing is None:
        return xml.encode()
    signed: bytes = OneLogin_Saml2_Utils.add_sign(
        xml,
        signing.key.reveal(),
        signing.certificate,
        sign_algorithm=Constants.RSA_SHA256,
        digest_algorithm=Constants.SHA256,
    )
    return signed


def form_field(message: bytes) -> str:
    """Return a message as a form field carries it (saml-bindings 3.5.4)."""
    return base64.b64encode(message).decode("ascii")
