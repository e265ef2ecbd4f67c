"""For tests of applications: a client, fixtures, an identity provider, emulators.

Names that need SAML's libraries are imported at first use. Only ``fixtures`` needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .client import AuthClient
from .genesys import GenesysEmulator
from .isolation import reset
from .salesforce import SalesforceEmulator
from .server import Emulator, LoopbackServer, RawServer, RecordedRequest, unused_url

if TYPE_CHECKING:
    from .identity_provider import DevelopmentIdentityProvider
    from .saml_login import SamlLogin
    from .saml_messages import Encryption, LogoutMessage, Message, SigningKey, generate_signing_key, provider_metadata

__all__ = [
    "AuthClient",
    "DevelopmentIdentityProvider",
    "Emulator",
    "Encryption",
    "GenesysEmulator",
    "LogoutMessage",
    "LoopbackServer",
    "Message",
    "RawServer",
    "RecordedRequest",
    "SalesforceEmulator",
    "SamlLogin",
    "SigningKey",
    "generate_signing_key",
    "provider_metadata",
    "reset",
    "unused_url",
]

_OF_SAML = {
    "DevelopmentIdentityProvider": "identity_provider",
    "Encryption": "saml_messages",
    "LogoutMessage": "saml_messages",
    "Message": "saml_messages",
    "SamlLogin": "saml_login",
    "SigningKey": "saml_messages",
    "generate_signing_key": "saml_messages",
    "provider_metadata": "saml_messages",
}


def __getattr__(name: str) -> object:
    """Import names that need SAML's libraries at first use (PEP 562)."""
    if name not in _OF_SAML:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_OF_SAML[name]}"), name)
    return found
