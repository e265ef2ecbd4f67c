"""What applications import in their own tests: a client, fixtures, an identity provider, emulators.

Names that need the libraries of SAML are imported when they are asked for; fixtures alone need pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .client import AuthClient
from .faults import Emulator, RawServer, RecordedRequest, unused_url
from .genesys import GenesysEmulator
from .isolation import reset
from .salesforce import SalesforceEmulator
from .server import LoopbackServer

if TYPE_CHECKING:
    from .identity_provider import DevelopmentIdentityProvider
    from .saml_encryption import Encryption
    from .saml_login import SamlLogin
    from .saml_logout_messages import LogoutMessage
    from .saml_messages import Message, provider_metadata
    from .signing_keys import SigningKey, generate_signing_key

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
    "Encryption": "saml_encryption",
    "LogoutMessage": "saml_logout_messages",
    "Message": "saml_messages",
    "SamlLogin": "saml_login",
    "SigningKey": "signing_keys",
    "generate_signing_key": "signing_keys",
    "provider_metadata": "saml_messages",
}


def __getattr__(name: str) -> object:
    """Import what needs the SAML libraries only when it is asked for (PEP 562)."""
    if name not in _OF_SAML:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_OF_SAML[name]}"), name)
    return found
